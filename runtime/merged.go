package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"stead/runtime/atomicfile"
	"stead/runtime/fault"
	"stead/runtime/image"
	"stead/runtime/launch"
	"stead/runtime/record"
	"stead/runtime/rootfs"
	"stead/runtime/specconv"
	"stead/runtime/store"
	"stead/spec"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// A container whose root is an image has three entries in its directory besides container.json
// and log: upper and work, its private files, and root, where both and the layers of the image
// are mounted as one tree. The keeper mounts it before the first start on a boot, every start
// copies the mount, and it stays until the container is removed or its image changes. The
// upper directory belongs to the image that Facts.Image names, and is never used with another.

// maxID is the highest id that a container has, with and without a user namespace.
const maxID = 65535

// chooseImage returns the image that a manifest's root is, and nil if it is none. As long as the
// text of rootfs.image stays, so does the image that it was resolved to. old are the facts
// of the container, nil if there are none.
func (r *Runtime) chooseImage(m *spec.Container, old *store.Facts) (*image.Image, error) {
	name := m.Spec.Rootfs.Image
	if name == "" {
		return nil, nil
	}
	img, err := r.lookUpImage(m, old)
	if errors.Is(err, image.ErrNotFound) {
		return nil, missingImage(name)
	}
	return img, err
}

func missingImage(name string) error {
	return &specconv.Error{Where: specconv.AtImage, Message: fmt.Sprintf("image %s is not in the store of this host; pull or import it with stead image", name)}
}

// lookUpImage finds the image that a container has, unless an admin had the containers of that
// name move to another one; else the one that other replicas of its manifest have; else the one
// that the name stands for.
func (r *Runtime) lookUpImage(m *spec.Container, old *store.Facts) (*image.Image, error) {
	name := m.Spec.Rootfs.Image
	stored, err := r.images.Stored()
	if err != nil {
		return nil, err
	}
	if old != nil && old.Image != nil && old.Image.Reference == name && (m.Spec.Rootfs.OnImageChange == "refuse" || !stored.Superseded(name, old.Image.Digest)) {
		return r.images.ByDigest(old.Image.Digest)
	}
	if digest := r.digestOfReplicas(m); stored.Digests[digest] && !stored.Superseded(name, digest) {
		return r.images.ByDigest(digest)
	}
	return r.images.Lookup(name)
}

// digestOfReplicas returns the digest of the image that another replica of the same manifest has,
// "" if none has that image.
func (r *Runtime) digestOfReplicas(m *spec.Container) string {
	if m.Replica == nil {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.ordered {
		i := c.facts.Image
		if c.facts.Manifest.Group() == m.Group() && c.name != m.Metadata.Name && i != nil && i.Reference == m.Spec.Rootfs.Image {
			return i.Digest
		}
	}
	return ""
}

// filled returns the manifest with what the image of its root says.
func (r *Runtime) filled(f *store.Facts) *spec.Container {
	m := f.Manifest
	if m.Spec.Rootfs.Image == "" || f.Image == nil {
		return m
	}
	img, err := r.images.ByDigest(f.Image.Digest)
	if err != nil {
		return m // a start says so
	}
	return img.Config.Fill(m)
}

// lease keeps the image that a container is about to use from being deleted, until its facts
// say that it uses it.
func (r *Runtime) lease(ctx context.Context, f *store.Facts) (release func(), err error) {
	if f.Manifest.Spec.Rootfs.Image == "" {
		return func() {}, nil
	}
	return r.images.Lease(ctx)
}

// privateOf returns whose private files the upper directory of a container has to hold for a
// manifest: those of an image, or of a host root for nil. any is true for a path root, which has
// no private files.
func privateOf(m *spec.Container, img *image.Image) (want *store.Image, any bool) {
	switch {
	case img != nil:
		return &store.Image{Reference: m.Spec.Rootfs.Image, Digest: img.Digest}, false
	case m.Spec.Rootfs.Host != nil:
		return nil, false
	}
	return nil, true
}

// fitPrivate makes the upper directory of a container fit its root: if it belongs to another
// image or to a host root, it moves to removed/. It returns the new value of Facts.Image. No
// process uses the directory.
func (r *Runtime) fitPrivate(ctx context.Context, f *store.Facts) (*store.Image, error) {
	img, err := r.chooseImage(f.Manifest, f)
	if err != nil {
		return nil, err
	}
	name := f.Manifest.Metadata.Name
	dir := r.dir(name)
	if err := r.Removed.FinishReset(name, dir); err != nil {
		return nil, fmt.Errorf("put private files away: %w", err)
	}
	want, any := privateOf(f.Manifest, img)
	if any {
		return f.Image, nil
	}
	if want.Same(f.Image) {
		if want != nil && *want != *f.Image { // another name of the same image
			return want, nil
		}
		return f.Image, nil
	}
	if _, err := os.Lstat(dir + "/upper"); errors.Is(err, os.ErrNotExist) {
		return want, nil
	}
	if err := r.unmountRoot(ctx, name); err != nil {
		return nil, err
	}
	fault.Point("reset-unmounted")
	if err := r.Removed.PutAwayUpper(name, dir, f); err != nil {
		return nil, fmt.Errorf("put private files away: %w", err)
	}
	fault.Point("reset-put-away")
	return want, nil
}

// prepareRoot makes the root of a container ready for a start. If it is a merged root, it returns
// the mount and the image.
func (r *Runtime) prepareRoot(ctx context.Context, name string, f *store.Facts, idBase uint32) (*launch.Mounted, *image.Image, error) {
	link := filepath.Join(r.dir(name), "root")
	if f.Manifest.Spec.Rootfs.Image == "" {
		if st, err := os.Lstat(link); err == nil && st.IsDir() { // it was a merged root before
			if err := r.unmountRoot(ctx, name); err != nil {
				return nil, nil, err
			}
		}
		return nil, nil, atomicfile.Symlink(link, r.root(f.Manifest))
	}
	// Not what the name stands for by now: upper was made to fit this one.
	img, err := r.images.ByDigest(f.Image.Digest)
	if errors.Is(err, image.ErrNotFound) {
		err = missingImage(f.Image.Reference)
	}
	if err != nil {
		return nil, nil, err
	}
	if img.HighestID > maxID && f.Manifest.Spec.Security.Userns != "host" {
		return nil, nil, &specconv.Error{Where: launch.AtIDMap, Message: fmt.Sprintf("image %s: %s belongs to id %d, and a container has the ids 0 to %d; security.userns: host runs it without a map",
			f.Image.Reference, img.HighestIDPath, img.HighestID, maxID)}
	}
	m, err := r.mountRoot(ctx, name, img, idBase)
	if errors.Is(err, launch.ErrHeld) {
		return nil, nil, &specconv.Error{Where: launch.AtStep, Message: fmt.Sprintf("mount root: %v: %s", err, holders(r.dir(name)))}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("mount root: %w", err)
	}
	return m, img, nil
}

// mountRoot makes sure that the merged root of a container is mounted, of these layers and with
// these ids, and returns its mount.
func (r *Runtime) mountRoot(ctx context.Context, name string, img *image.Image, idBase uint32) (*launch.Mounted, error) {
	dir := r.dir(name)
	want := &record.Root{Name: name, BootID: record.BootID(), Digest: img.Digest, Layers: layersOf(img), IDBase: idBase}
	if m := r.mergedRoot(name); m != nil && record.ReadRoot(r.RunDir, name).SameContent(want) {
		return m, nil
	}
	if err := r.unmountRoot(ctx, name); err != nil {
		return nil, err
	}
	layers := r.images.LayersDir()
	fresh, err := rootfs.MakeUpper(ctx, dir, img.Root.Mode, img.Root.UID, img.Root.GID)
	if err == nil {
		err = makeMountPoint(dir + "/root")
	}
	if err != nil {
		return nil, err
	}
	fault.Point("root-upper-made")
	m, err := r.keeper.MountRoot(ctx, &launch.Overlay{Dir: dir, Layers: layers, Lower: want.Layers, IDBase: idBase, Fresh: fresh})
	if err != nil {
		return nil, err
	}
	fault.Point("root-mounted")
	want.MountID, want.Dev = m.ID, m.Dev
	return &m, want.Write(r.RunDir)
}

// layersOf returns the numbers of an image's layers, bottom first.
func layersOf(img *image.Image) (numbers []int) {
	for _, l := range img.Layers {
		numbers = append(numbers, l.Number)
	}
	return numbers
}

// mergedRoot returns the mount of a container's merged root if it is there as it was recorded.
func (r *Runtime) mergedRoot(name string) *launch.Mounted {
	rec := record.ReadRoot(r.RunDir, name)
	if rec == nil {
		return nil
	}
	m, ok := launch.MountedAt(r.dir(name) + "/root")
	if !ok || m != (launch.Mounted{ID: rec.MountID, Dev: rec.Dev}) {
		return nil
	}
	return &m
}

// makeMountPoint makes an empty directory, in place of a link that a root of another kind had.
func makeMountPoint(at string) error {
	err := os.Mkdir(at, 0o700)
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	if st, err := os.Lstat(at); err == nil && st.IsDir() {
		return nil
	}
	return errors.Join(os.Remove(at), os.Mkdir(at, 0o700))
}

// unmountRoot unmounts whatever is mounted as the root of a container, and removes the mount
// point, which takes it away from other mount namespaces as well.
func (r *Runtime) unmountRoot(ctx context.Context, name string) error {
	at := r.dir(name) + "/root"
	if st, err := os.Lstat(at); err != nil || !st.IsDir() {
		return record.ForgetRoot(r.RunDir, name)
	}
	if _, ok := launch.MountedAt(at); ok {
		if err := r.keeper.ensure(ctx); err != nil {
			return fmt.Errorf("unmount root: %w", err)
		}
		err := r.keeper.UnmountRoot(ctx, at)
		if _, still := launch.MountedAt(at); err == nil && still {
			err = errors.New("it is mounted in this mount namespace, which is not the keeper's; run stead in the host's")
		}
		if err != nil {
			return fmt.Errorf("unmount root %s: %w", at, err)
		}
	}
	if err := unix.Rmdir(at); err != nil && err != unix.ENOENT && err != unix.ENOTEMPTY {
		return &os.PathError{Op: "rmdir", Path: at, Err: err}
	}
	fault.Point("root-unmounted")
	return record.ForgetRoot(r.RunDir, name)
}

// sweepRoots unmounts merged roots that nobody recorded, and those of no container. It leaves
// those of running containers.
func (r *Runtime) sweepRoots(ctx context.Context) error {
	state := store.Resolved(r.StateDir)
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(state))
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	var failed error
	seen := map[string]bool{}
	for _, m := range mounts {
		dir, base := filepath.Split(m.Mountpoint)
		name, shed := filepath.Base(dir), filepath.Dir(filepath.Clean(dir))
		if m.FSType != "overlay" || base != "root" || shed != state+"/containers" && shed != state+"/removed" || seen[dir] {
			continue
		}
		seen[dir] = true
		if shed == state+"/containers" && r.isUsed(name) {
			continue
		}
		r.Log.Warn("unmounting the root of a container that nobody uses", "mount", m.Mountpoint)
		if err = r.keeper.ensure(ctx); err == nil {
			err = r.keeper.UnmountRoot(ctx, m.Mountpoint)
		}
		failed = errors.Join(failed, err)
	}
	names, err := record.RootNames(r.RunDir)
	for _, name := range names {
		if _, known := r.byName[name]; !known && !r.isUnread(name) {
			err = errors.Join(err, record.ForgetRoot(r.RunDir, name))
		}
	}
	return errors.Join(failed, err)
}

// isUsed reports whether a mount at the root of a container is of use: it is recorded, or the
// container runs, or may run.
func (r *Runtime) isUsed(name string) bool {
	if r.isUnread(name) {
		return true
	}
	r.mu.Lock()
	c := r.byName[name]
	r.mu.Unlock()
	if c == nil {
		return false
	}
	_, rec := r.snapshot(c)
	return r.mergedRoot(name) != nil || rec != nil && rec.State == record.Running
}

// preflight checks whether a running container can start with m, without stopping it. If its
// root changes, it looks at the layers of the new image, or at a new host root. name is the
// container's name now.
func (r *Runtime) preflight(ctx context.Context, name string, m *spec.Container, f *store.Facts) error {
	img, err := r.chooseImage(m, f)
	if err != nil {
		return err
	}
	if img != nil {
		m = img.Config.Fill(m)
	}
	if err := r.mayUse(ctx, m); err != nil {
		return err
	}
	for _, w := range m.Spec.Mounts {
		if w.Volume == "" {
			continue
		}
		if err := Volumes(r.StateDir).Check(w.Volume); err != nil {
			return &specconv.Error{Where: launch.AtSource, Message: err.Error()}
		}
	}
	root := specconv.Root(m, r.dir(name))
	switch want, any := privateOf(m, img); {
	case any, img != nil && want.Same(f.Image) && r.mergedRoot(name) != nil:
		return specconv.Preflight(m, root, &r.paths)
	case img != nil:
		view, err := rootfs.OpenView(r.images.LayersDir(), layersOf(img))
		return r.preflightOf(m, view, err, "image "+m.Spec.Rootfs.Image)
	}
	if _, err := os.Lstat(root); err != nil || f.Image != nil { // it is made by the start, and what is there is of another kind
		view, err := r.paths.HostView(r.RunDir)
		return r.preflightOf(m, view, err, "a host root")
	}
	if err := r.paths.FollowHost(root, rootfs.Names{}); err != nil { // the container that runs keeps its names
		return err
	}
	return specconv.Preflight(m, root, &r.paths)
}

// preflightOf checks whether m can start on what a view shows.
func (r *Runtime) preflightOf(m *spec.Container, view *rootfs.View, err error, what string) error {
	if err != nil {
		return fmt.Errorf("look into %s: %w", what, err)
	}
	defer view.Close()
	return specconv.Preflight(m, view.Path, &r.paths)
}
