package runtime

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"stead/runtime/fault"
	"stead/runtime/hostpath"
	"stead/runtime/image"
	"stead/runtime/launch"
	"stead/runtime/rootfs"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// A directory that an image declares as a volume is a directory of the container beside upper:
// volumes/<path>. It begins with what the image has there, and stays when the image changes.

// addImageVolumes mounts the volumes that an image declares, except where the manifest m mounts
// something or puts files at the same place or above.
func (r *Runtime) addImageVolumes(ctx context.Context, config *launch.Config, m *spec.Container, img *image.Image) error {
	if img == nil {
		return nil
	}
	var more []launch.Mount
	for _, volume := range img.Config.Volumes {
		target := path.Clean("/" + volume)
		covers := func(m launch.Mount) bool { return hostpath.Within(target, path.Clean(m.Target)) }
		if slices.ContainsFunc(config.Mounts, covers) || hasFilesAbove(m, target) || !canBeVolume(target) {
			continue
		}
		dir := filepath.Join(r.dir(m.Metadata.Name), "volumes", url.PathEscape(target[1:]))
		if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
			if err := r.seedVolume(ctx, img, target, dir); err != nil {
				return fmt.Errorf("make volume %s of the image: %w", target, err)
			}
		}
		more = append(more, launch.Mount{Target: target, Source: dir})
	}
	addMounts(config, more)
	return nil
}

// hasFilesAbove reports whether a path lies in one of a manifest's files, or where stead keeps them:
// a directory there is read-only, and its content is replaced as a whole.
func hasFilesAbove(m *spec.Container, target string) bool {
	for at := range m.Spec.Files {
		if hostpath.Within(target, path.Clean(at)) {
			return true
		}
	}
	return hostpath.Within(target, spec.FilesDir) || hostpath.Within(spec.FilesDir, target)
}

// canBeVolume reports whether a volume of an image can be mounted at a path: not over the root and
// not where the kernel's file systems are.
func canBeVolume(target string) bool {
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if hostpath.Within(target, dir) {
			return false
		}
	}
	return target != "/" && !strings.Contains(target, "\x00") && len(url.PathEscape(target[1:])) < 240
}

// seedVolume makes the directory of a volume, which appears when it is complete.
func (r *Runtime) seedVolume(ctx context.Context, img *image.Image, target, dir string) error {
	tmp := filepath.Join(filepath.Dir(dir), ".new-"+filepath.Base(dir))
	if err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o700), rootfs.Delete(ctx, tmp)); err != nil { // left by a process that died
		return err
	}
	if err := errors.Join(os.Mkdir(tmp, 0o755), os.Chmod(tmp, 0o755)); err != nil {
		return err
	}
	if _, err := r.copyFromImage(ctx, img, target, tmp); err != nil { // the image need not have the directory
		return err
	}
	fault.Point("volume-seeded")
	made, err := os.Open(tmp)
	if err != nil {
		return err
	}
	defer made.Close()
	if err := unix.Syncfs(int(made.Fd())); err != nil {
		return os.NewSyscallError("syncfs", err)
	}
	return os.Rename(tmp, dir)
}

// copyFromImage copies what an image has at a path into a directory, and reports whether there is
// something.
func (r *Runtime) copyFromImage(ctx context.Context, img *image.Image, target, dir string) (bool, error) {
	view, err := rootfs.OpenView(r.images.LayersDir(), layersOf(img))
	if err != nil {
		return false, err
	}
	defer view.Close()
	from, err := view.Open(target)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer from.Close()
	return true, image.CopyDirectory(ctx, fmt.Sprintf("/proc/self/fd/%d", from.Fd()), dir)
}
