package runtime

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"stead/runtime/filecopy"
	"stead/runtime/hostpath"
	"stead/runtime/job"
	"stead/runtime/record"
	"stead/runtime/specconv"
	"stead/runtime/store"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// Files are the files of a container, as they are seen inside of it.
type Files struct {
	filecopy.Jobs
	opened []*os.File
}

// Close lets go of the container's mounts.
func (f *Files) Close() {
	for _, o := range f.opened {
		o.Close()
	}
}

// OpenFiles opens the files of a container for copies. Of one that runs it is what its processes
// see, with all that is mounted; of another its root alone.
func (r *Runtime) OpenFiles(name string) (*Files, error) {
	c, err := r.find(name)
	if err != nil {
		return nil, err
	}
	facts, rec := r.snapshot(c)
	f := &Files{Jobs: filecopy.Jobs{Runner: job.Runner{Host: r.host}}}
	switch {
	case rec == nil || rec.State == record.Exited:
		err = r.openStopped(f, name, facts)
	case rec.State == record.Creating:
		err = errStarting
	default:
		err = r.openRunning(f, rec)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open the files of %s: %w", name, err)
	}
	return f, nil
}

var errStarting = errors.New("it is just being started; try again")

// openRunning opens the root of a container's first process.
func (r *Runtime) openRunning(f *Files, rec *record.Record) error {
	// Until its command runs, it has the root of the keeper's nursery, or of the host.
	if st, err := os.Stat(record.RanPath(r.RunDir, rec.ID())); err != nil || st.Size() == 0 {
		return errStarting
	}
	proc := fmt.Sprintf("/proc/%d/", rec.Pid)
	// The namespace keeps its mounts when the container ends, or what is copied to a volume would go
	// to the directory below it.
	for _, open := range []struct {
		name  string
		flags int
	}{{"ns/mnt", unix.O_RDONLY}, {"root", unix.O_PATH | unix.O_DIRECTORY}} {
		fd, err := unix.Open(proc+open.name, open.flags|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: proc + open.name, Err: err}
		}
		f.opened = append(f.opened, os.NewFile(uintptr(fd), proc+open.name))
	}
	if !rec.Alive() { // the pid may be that of another process
		return errors.New("it has just ended; try again")
	}
	f.Root, f.IDBase = f.opened[1], rec.IDBase
	return nil
}

// openStopped opens the root of a container that does not run.
func (r *Runtime) openStopped(f *Files, name string, facts *store.Facts) error {
	m := facts.Manifest
	root := r.root(m)
	var fd int
	var err error
	switch {
	case m.Spec.Rootfs.Image != "":
		if r.mergedRoot(name) == nil {
			return fmt.Errorf("its root is mounted by its first start since the host was started; run: stead start %s", name)
		}
		f.IDBase = record.ReadRoot(r.RunDir, name).IDBase
		fd, err = unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	case m.Spec.Rootfs.Host != nil:
		fd, err = unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	default:
		fd, _, err = hostpath.Open(root, r.Writable.Contains)
	}
	if errors.Is(err, os.ErrNotExist) && m.Spec.Rootfs.Path == "" {
		return errors.New("it has no files yet, as it was never started")
	}
	if err != nil {
		return fmt.Errorf("open root %s: %w", root, err)
	}
	f.Root = os.NewFile(uintptr(fd), root)
	f.opened = append(f.opened, f.Root)
	f.Covered, err = coveredOf(m, root)
	if facts.Image != nil && m.Spec.Rootfs.Image != "" {
		img, missing := r.images.ByDigest(facts.Image.Digest)
		if missing != nil {
			return errors.Join(err, missing)
		}
		for _, target := range img.Config.Volumes {
			f.Covered = append(f.Covered, filecopy.Covered{Target: target, By: "a volume of the image"})
		}
	}
	return err
}

// coveredOf returns what a start mounts over files of the root.
func coveredOf(m *spec.Container, root string) (all []filecopy.Covered, err error) {
	add := func(target, by string) { all = append(all, filecopy.Covered{Target: target, By: by}) }
	if m.Spec.Rootfs.Host != nil {
		add("/usr", "/usr of the host")
	}
	plain := *m
	plain.Spec.Mounts = nil
	mounts, err := specconv.Mounts(&plain, root)
	for _, l := range mounts {
		if l.Source == "" {
			add(l.Target, "a tmpfs")
		} else {
			add(l.Target, l.Source+" of the host")
		}
	}
	for _, target := range slices.Sorted(maps.Keys(m.Spec.Mounts)) {
		switch w := m.Spec.Mounts[target]; {
		case w.Volume != "":
			add(target, "volume "+w.Volume)
		case w.Source != "":
			add(target, w.Source+" of the host")
		default:
			add(target, "a tmpfs")
		}
	}
	for _, target := range slices.Sorted(maps.Keys(m.Spec.Files)) {
		add(target, "what files of the manifest says")
	}
	for _, target := range []string{"/proc", "/sys", "/dev"} {
		add(target, "a file system of the kernel")
	}
	return all, err
}
