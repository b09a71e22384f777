package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"stead/runtime/image"
	"stead/runtime/launch"
	"stead/runtime/record"
	"stead/runtime/specconv"
	"stead/runtime/store"
	"stead/runtime/volume"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// Volumes returns the volumes of a state directory.
func Volumes(stateDir string) *volume.Store {
	return &volume.Store{Dir: filepath.Join(stateDir, "volumes")}
}

// addVolumes makes the volumes of a manifest that are not there yet, and mounts all of them.
func (r *Runtime) addVolumes(ctx context.Context, c *container, rec *record.Record, m *spec.Container, config *launch.Config, img *image.Image) error {
	var more []launch.Mount
	for target, w := range m.Spec.Mounts {
		if w.Volume == "" {
			continue
		}
		if err := r.volumeIsFree(c, rec, w); err != nil {
			return &specconv.Error{Where: specconv.AtVolume, Message: err.Error()}
		}
		owner, err := specconv.VolumeOwner(target, w, m, config.Root.Path)
		if err != nil {
			return err
		}
		seed := func(dir string) (bool, error) { return r.seedFromRoot(ctx, m, config, img, target, dir) }
		dir, err := Volumes(r.StateDir).Ensure(ctx, w.Volume, owner, seed)
		if err != nil {
			return &specconv.Error{Where: launch.AtSource, Message: err.Error()}
		}
		more = append(more, launch.Mount{Target: target, Source: store.Resolved(dir), ReadOnly: w.ReadOnly})
	}
	addMounts(config, more)
	return nil
}

// volumeIsFree returns an error if a container that runs, or began to start before this one,
// writes a volume too and not both say that they share it. The plan has such a container wait;
// this holds whoever starts it.
func (r *Runtime) volumeIsFree(c *container, rec *record.Record, w spec.Mount) error {
	if w.ReadOnly {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, other := range r.ordered {
		o := other.rec
		if other == c || o == nil || o.State == record.Exited {
			continue
		}
		if o.State == record.Creating && (o.CreatedAt.After(rec.CreatedAt) || o.CreatedAt.Equal(rec.CreatedAt) && o.Name > rec.Name) {
			continue // it will find this one
		}
		for _, its := range other.facts.Manifest.Spec.Mounts {
			if its.Volume == w.Volume && !its.ReadOnly && !(its.Shared && w.Shared) {
				return fmt.Errorf("%s", spec.VolumeTaken(w.Volume, other.name))
			}
		}
	}
	return nil
}

// seedFromRoot copies what a root has at a path into the directory of a new volume, and reports
// whether there is something. Of an image it is what the image has there.
func (r *Runtime) seedFromRoot(ctx context.Context, m *spec.Container, config *launch.Config, img *image.Image, target, dir string) (bool, error) {
	if img != nil {
		return r.copyFromImage(ctx, img, target, dir)
	}
	root, at, resolve := config.Root.Path, strings.TrimPrefix(target, "/"), uint64(unix.RESOLVE_IN_ROOT)
	if usr, ok := strings.CutPrefix(target, "/usr/"); ok && m.Spec.Rootfs.Host != nil {
		// The root shows the host's /usr. A link that leads out of it means another file in the
		// root than on the host, such as a private key in /etc.
		root, at, resolve = "/usr", usr, unix.RESOLVE_BENEATH
	}
	top, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("open root: %w", err)
	}
	defer unix.Close(top)
	fd, err := unix.Openat2(top, at, &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: resolve | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EXDEV) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open %s in the root: %w", target, err)
	}
	from := os.NewFile(uintptr(fd), target)
	defer from.Close()
	return true, r.copyInto(ctx, from, dir)
}

// VolumeUsers returns the containers that mount volumes, by volume, sorted. It reads their facts.
func VolumeUsers(stateDir string) (map[string][]string, error) {
	dir := filepath.Join(stateDir, "containers")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	users := map[string][]string{}
	for _, e := range entries {
		f, err := store.ReadFacts(filepath.Join(dir, e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err // it may use any
		}
		for _, m := range f.Manifest.Spec.Mounts {
			if m.Volume != "" && !slices.Contains(users[m.Volume], e.Name()) {
				users[m.Volume] = append(users[m.Volume], e.Name())
			}
		}
	}
	return users, nil
}

// RemoveVolume deletes a volume that no container uses. Error: volume.ErrMissing.
func RemoveVolume(ctx context.Context, stateDir, name string) error {
	return Volumes(stateDir).Remove(ctx, name, func() error {
		users, err := VolumeUsers(stateDir)
		if err == nil && len(users[name]) > 0 {
			err = fmt.Errorf("used by %s", strings.Join(users[name], ", "))
		}
		return err
	})
}
