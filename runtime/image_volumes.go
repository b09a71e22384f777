package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"stead/runtime/hostpath"
	"stead/runtime/image"
	"stead/runtime/job"
	"stead/runtime/launch"
	"stead/runtime/rootfs"
	"stead/runtime/volume"
	"stead/spec"
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
	for _, declared := range img.Config.Volumes {
		target := path.Clean("/" + declared)
		covers := func(m launch.Mount) bool { return hostpath.Within(target, path.Clean(m.Target)) }
		if slices.ContainsFunc(config.Mounts, covers) || hasFilesAbove(m, target) || !canBeVolume(target) {
			continue
		}
		volumes, name := volume.Store{Dir: filepath.Join(r.dir(m.Metadata.Name), "volumes")}, url.PathEscape(target[1:])
		if _, err := os.Lstat(volumes.Path(name)); errors.Is(err, os.ErrNotExist) {
			// The image need not have the directory.
			seed := func(dir string) (bool, error) { return r.copyFromImage(ctx, img, target, dir) }
			if err := volumes.Make(ctx, name, volume.Owner{Mode: 0o755}, seed); err != nil {
				return fmt.Errorf("make volume %s of the image: %w", target, err)
			}
		}
		more = append(more, launch.Mount{Target: target, Source: volumes.Path(name)})
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
	return true, r.copyInto(ctx, from, dir)
}

const seedKind = "volume-seed"

// VolumeJobKinds are the kinds of jobs for job.Main.
func VolumeJobKinds() map[string]job.Func {
	return map[string]job.Func{seedKind: runSeed}
}

// copyInto copies what is in an open directory into an empty one, in a child process: what
// containers left there may be huge.
func (r *Runtime) copyInto(ctx context.Context, from *os.File, dir string) error {
	to, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer to.Close()
	_, err = job.Runner{Host: r.host, Files: []*os.File{from, to}}.Run(ctx, seedKind, nil, nil, nil)
	return err
}

func runSeed(ctx context.Context, _ json.RawMessage, _ func(any)) (any, error) {
	const from, to = job.FirstFile, job.FirstFile + 1
	return struct{}{}, rootfs.CloneContent(ctx, fmt.Sprintf("/proc/self/fd/%d/.", from), fmt.Sprintf("/proc/self/fd/%d/.", to))
}
