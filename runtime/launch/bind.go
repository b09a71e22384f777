package launch

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"stead/runtime/hostpath"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// copyBindSource returns a copy of the mount at a host path, with the mounts below it if
// m.Recursive is set.
func (b *startJob) copyBindSource(m Mount) (int, error) {
	if m.Symlink {
		return b.copySymlink(m)
	}
	at, real, err := hostpath.Open(m.Source, func(string) bool { return true })
	if err != nil {
		return -1, openError(AtSource, m.Source, err)
	}
	defer unix.Close(at)
	if m.MountPoint {
		if err := CheckMountPoint(at, m.Source); err != nil {
			return -1, err
		}
	}
	how := copyOptions{attr: unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID, idmap: b.user, slave: m.Slave}
	if m.Recursive {
		how.below = unix.AT_RECURSIVE
	}
	if m.NoIDMap {
		how.idmap = -1
	}
	if m.Slave {
		if err := checkShared(at, m.Source); err != nil {
			return -1, err
		}
	}
	fd, err := copyMountWith(at, "", how)
	if err == nil {
		b.opened = append(b.opened, fd)
		if m.ReadOnly && m.Recursive {
			err = readOnlyBelow(fd)
		}
	}
	if errors.Is(err, errNoIdmap) {
		return -1, b.idMapError(m, at, real)
	}
	if err != nil {
		return -1, openError(AtSource, m.Source, err)
	}
	return fd, nil
}

// copySymlink returns a copy of the mount at a symbolic link. Mounted over a file, it leads to
// where the link leads inside the container: a link can be mounted, and then what it leads to
// may be replaced, which a mount of that itself would not show.
func (b *startJob) copySymlink(m Mount) (int, error) {
	dir, _, err := hostpath.Open(path.Dir(m.Source), func(string) bool { return true })
	if err != nil {
		return -1, openError(AtSource, m.Source, err)
	}
	defer unix.Close(dir)
	fd, err := copyMountWith(dir, path.Base(m.Source), copyOptions{attr: unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID, idmap: -1, below: unix.AT_SYMLINK_NOFOLLOW})
	if err != nil {
		return -1, openError(AtSource, m.Source, err)
	}
	b.opened = append(b.opened, fd)
	return fd, nil
}

// readOnlyBelow makes all mounts of a detached tree read-only except the first. seal makes
// the first one read-only after mount targets were created in it. If the host has the first
// one read-only, it stays so.
func readOnlyBelow(fd int) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return fmt.Errorf("stat mount: %w", err)
	}
	err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if err == nil && fs.Flags&unix.ST_RDONLY == 0 {
		err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
	}
	if err != nil {
		return fmt.Errorf("make mounts read-only: %w", err)
	}
	return nil
}

// CheckMountPoint returns an error unless the open file of the host is a mount point
// (statx(2), Linux 5.8).
func CheckMountPoint(fd int, path string) error {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	if err == nil && st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return nil
	}
	if err == nil {
		err = unix.ENXIO
	}
	return &Error{AtSource, "check mount source " + path, errnoOf(err), "nothing is mounted there, but the mount says mountPoint: true"}
}

// checkShared returns an error unless new mounts below the host path reach copies of its
// mount, as its propagation says.
func checkShared(fd int, path string) error {
	id, err := mountID(fd)
	if err != nil {
		return &Error{AtSource, "check mount source " + path, errnoOf(err), ""}
	}
	found, err := hostMounts(func(m *mountinfo.Info) bool { return uint64(m.ID) == id })
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	if len(found) == 1 && strings.Contains(found[0].Optional, ":") { // shared:N, master:N
		return nil
	}
	return &Error{AtSource, "receive mounts below " + path, unix.EINVAL, "its mount has private propagation; run mount --make-shared on the host for the mount at or above it"}
}

// hostMounts returns the wanted mounts of this thread's namespace, the host's.
func hostMounts(wanted func(*mountinfo.Info) bool) ([]*mountinfo.Info, error) {
	f, err := os.Open("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return mountinfo.GetMountsFromReader(f, func(m *mountinfo.Info) (skip, stop bool) { return !wanted(m), false })
}

// idMapError returns an error that names the first mount at or below a source whose ids
// can't be mapped: the kernel refuses the tree as a whole.
func (b *startJob) idMapError(m Mount, at int, real string) error {
	e := &Error{AtIDMap, "map ids of " + m.Source, unix.EINVAL, errNoIdmap.Error() + "; write idmap: false (the container then has the rights of \"others\" there) or security.userns: host"}
	fd, err := copyMount(at, "", 0, b.user)
	if err != nil || !m.Recursive {
		return e
	}
	unix.Close(fd)
	below, err := hostMounts(func(i *mountinfo.Info) bool {
		return strings.HasPrefix(i.Mountpoint, strings.TrimSuffix(real, "/")+"/")
	})
	if err != nil {
		return e
	}
	for _, i := range below {
		fd, err := copyMount(unix.AT_FDCWD, i.Mountpoint, 0, b.user)
		if errors.Is(err, errNoIdmap) {
			e.Step = fmt.Sprintf("map ids of %s (%s), which is mounted below %s", i.Mountpoint, i.FSType, m.Source)
			e.Hint = "that file system can't map ids; write recursive: false to leave out what is mounted there, idmap: false, or security.userns: host"
			return e
		}
		if err == nil {
			unix.Close(fd)
		}
	}
	return e
}
