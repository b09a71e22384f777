package launch

import (
	"errors"
	"fmt"
	"strconv"
	"syscall"

	"stead/runtime/hostpath"

	"golang.org/x/sys/unix"
)

// mount builds the container's mount tree while the child makes its proc. It copies mounts
// in the host's namespace, since open_tree(2) works only in the namespace of the mount, and
// maps their ids while they are detached, since an attached mount can't be mapped.
func (b *startJob) mount() error {
	root, err := -1, error(nil)
	if b.c.Root.Merged != nil {
		root, err = b.copyMerged()
	} else {
		root, err = b.copyRoot(b.c.Root.Path, unix.MOUNT_ATTR_NODEV, AtRoot)
	}
	if err != nil {
		return err
	}
	b.rootFD = root
	usr := -1
	if b.c.Root.Usr != "" {
		if usr, err = b.copyRoot(b.c.Root.Usr, unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_RDONLY, AtRoot); err != nil {
			return err
		}
	}
	sources := make([]int, len(b.c.Mounts))
	for i, m := range b.c.Mounts {
		if sources[i], err = openSource(b, m); err != nil {
			return err
		}
	}
	if err := b.enter(b.nursery); err != nil {
		return fmt.Errorf("enter nursery: %w", err)
	}
	if err := unix.MoveMount(root, "", unix.AT_FDCWD, b.root, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach root: %w", err)
	}
	if err := b.makeDevices(); err != nil {
		return err
	}
	if b.c.Root.ReadOnly {
		b.toSeal = append(b.toSeal, root)
	}
	if usr >= 0 {
		if err := b.attachAt(usr, "/usr", false); err != nil {
			return err
		}
		b.visibleMount = append(b.visibleMount, visibleMount{target: "/usr", mount: usr})
	}
	return attachMounts(b, sources)
}

// Test builds replace these with the flawed ways of other runtimes.
var (
	attachMounts = (*startJob).attachMounts
	attachMount  = (*startJob).attachMount
	openSource   = (*startJob).source
	copyHostPath = (*startJob).copyHostPath
	openTarget   = func(b *startJob, target string, file bool) (int, error) {
		return makeTarget(b.rootFD, target, file, b.c.IDBase)
	}
)

func (b *startJob) attachMounts(sources []int) error {
	for i, m := range b.c.Mounts {
		if err := attachMount(b, m, sources[i]); err != nil {
			return err
		}
	}
	return nil
}

// seal verifies the mounts and makes those in toSeal read-only. It comes last, because
// missing mount targets are created before.
func (b *startJob) seal() error {
	if err := verify(b); err != nil {
		return err
	}
	for _, fd := range b.toSeal {
		if err := setReadOnly(fd); err != nil {
			return fmt.Errorf("make read-only: %w", err)
		}
	}
	return nil
}

func (b *startJob) copyRoot(path string, attr uint64, where Where) (int, error) {
	fd, err := copyHostPath(b, path, attr)
	if err != nil {
		if errors.Is(err, errNoIdmap) {
			return -1, &Error{AtIDMap, "map ids of " + path, unix.EINVAL, errNoIdmap.Error() + "; write security.userns: host to run without id mapping"}
		}
		return -1, openError(where, path, err)
	}
	b.opened = append(b.opened, fd)
	return fd, nil
}

// copyMerged returns a copy of the merged root. On the host it is mounted with nosuid, as what
// runs as root there has its id from the container.
func (b *startJob) copyMerged() (int, error) {
	path := b.c.Root.Path
	at, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, openError(AtRoot, path, err)
	}
	defer unix.Close(at)
	if now, err := mountedOf(at); err != nil || now != *b.c.Root.Merged {
		return -1, &Error{AtRoot, "open root " + path, unix.ESTALE, "its mount was replaced during the start"}
	}
	fd, err := copyMountWith(at, "", copyOptions{attr: unix.MOUNT_ATTR_NODEV, clear: unix.MOUNT_ATTR_NOSUID, idmap: -1})
	if err != nil {
		return -1, openError(AtRoot, path, err)
	}
	b.opened = append(b.opened, fd)
	return fd, nil
}

// openError returns the error for a host path that can't be opened.
func openError(where Where, path string, err error) *Error {
	e := &Error{where, "open " + string(where) + " " + path, errnoOf(err), ""}
	var link *hostpath.LinkError
	if errors.As(err, &link) {
		e.Hint = link.Link + " has become a symbolic link; write the path that it leads to"
	}
	return e
}

// copyHostPath returns a mapped copy of the mount at a host path, which it walks part by part.
func (b *startJob) copyHostPath(path string, attr uint64) (int, error) {
	at, _, err := hostpath.Open(path, func(string) bool { return true })
	if err != nil {
		return -1, err
	}
	defer unix.Close(at)
	return copyMount(at, "", attr, b.user)
}

func (b *startJob) source(m Mount) (int, error) {
	if m.Source != "" {
		return b.copyBindSource(m)
	}
	id := func(inside uint32) string { return strconv.FormatUint(uint64(b.c.IDBase)+uint64(inside), 10) }
	fd, err := newFilesystem("tmpfs", unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID,
		"size", strconv.FormatInt(m.Size, 10), "mode", strconv.FormatUint(uint64(m.Mode), 8), "uid", id(m.UID), "gid", id(m.GID))
	if err != nil {
		return -1, &Error{AtSource, "make tmpfs for " + m.Target, errnoOf(err), ""}
	}
	b.opened = append(b.opened, fd)
	return fd, nil
}

func (b *startJob) attachMount(m Mount, source int) error {
	var st unix.Stat_t
	if err := unix.Fstat(source, &st); err != nil {
		return &Error{AtSource, "stat " + m.Source, errnoOf(err), ""}
	}
	if err := b.attachAt(source, m.Target, st.Mode&unix.S_IFMT != unix.S_IFDIR); err != nil {
		return err
	}
	b.visibleMount = append(b.visibleMount, visibleMount{m.Target, source, m.Symlink})
	if m.ReadOnly {
		b.toSeal = append(b.toSeal, source)
	}
	return nil
}

func (b *startJob) attachAt(mount int, target string, file bool) error {
	at, err := openTarget(b, target, file)
	if err == nil {
		var st unix.Stat_t
		if err = unix.Fstat(at, &st); err == nil && (st.Mode&unix.S_IFMT == unix.S_IFDIR) == file {
			err = unix.ENOTDIR
		}
		if err == nil {
			err = moveMount(mount, at)
		}
		unix.Close(at)
	}
	if err == nil {
		return nil
	}
	return TargetError(target, errnoOf(err))
}

// TargetError returns the error for a mount whose target can't be opened or created.
func TargetError(target string, errno syscall.Errno) error {
	e := &Error{AtTarget, "mount at " + target, errno, ""}
	switch e.Errno {
	case unix.EXDEV:
		e.Hint = "a symbolic link there leads out of the root; write the path that it leads to"
	case unix.ELOOP:
		e.Hint = "symbolic links are not followed there"
	case unix.ENOTDIR:
		e.Hint = "one of source and target is a directory, the other is not"
	}
	return e
}
