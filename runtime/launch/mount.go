package launch

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// copyOptions says how to copy a mount. The copy never stays a peer of a shared mount, since
// mounts would then propagate between the container and the host (mount_namespaces(7),
// mount_setattr(2)).
type copyOptions struct {
	attr  uint64
	clear uint64 // attributes to take away
	idmap int    // descriptor of the user namespace that maps the ids; -1 for no mapping
	below uint   // unix.AT_RECURSIVE: copy the mounts below it with the same attributes
	slave bool   // mounts that the host makes there later reach the copy
}

// copyMount returns a detached, private copy of one mount, without the mounts below it.
func copyMount(dir int, name string, attr uint64, idmap int) (int, error) {
	return copyMountWith(dir, name, copyOptions{attr: attr, idmap: idmap})
}

func copyMountWith(dir int, name string, how copyOptions) (int, error) {
	fd, err := unix.OpenTree(dir, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|how.below)
	if err != nil {
		return -1, fmt.Errorf("copy mount %s: %w", name, err)
	}
	a := unix.MountAttr{Attr_set: how.attr, Attr_clr: how.clear, Propagation: unix.MS_PRIVATE}
	if how.slave {
		a.Propagation = unix.MS_SLAVE
	}
	idmap := how.idmap
	if idmap >= 0 {
		a.Attr_set |= unix.MOUNT_ATTR_IDMAP
		a.Userns_fd = uint64(idmap)
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|how.below, &a); err != nil {
		unix.Close(fd)
		if idmap >= 0 && errors.Is(err, unix.EINVAL) {
			return -1, fmt.Errorf("map ids of %s: %w", name, errNoIdmap)
		}
		return -1, fmt.Errorf("set attributes of mount %s: %w", name, err)
	}
	return fd, nil
}

// errNoIdmap is returned for a file system that can't be mounted with mapped ids.
var errNoIdmap = errors.New("this file system can't map ids (ext4, xfs, btrfs can, tmpfs from Linux 6.3; NFS and a host on overlay can't)")

// newFilesystem returns a new file system as a detached mount. kv are key, value, …
func newFilesystem(kind string, attr int, kv ...string) (int, error) {
	fd, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open file system %s: %w", kind, err)
	}
	defer unix.Close(fd)
	for i := 0; i < len(kv); i += 2 {
		if err := unix.FsconfigSetString(fd, kv[i], kv[i+1]); err != nil {
			return -1, fmt.Errorf("set %s option %s=%s: %w", kind, kv[i], kv[i+1], err)
		}
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return -1, fmt.Errorf("create file system %s: %w", kind, err)
	}
	m, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return -1, fmt.Errorf("mount file system %s: %w", kind, err)
	}
	return m, nil
}

// moveMount attaches a detached mount at the file that target is open on.
func moveMount(mount, target int) error {
	return unix.MoveMount(mount, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// setReadOnly makes an attached mount read-only.
func setReadOnly(mount int) error {
	return unix.MountSetattr(mount, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

// openBeneath opens a path inside a root. The container controls the names in its root: a
// link that leads out is an error (EXDEV), and magic links are never followed (openat2(2),
// Linux 5.6).
func openBeneath(root int, name string, resolve uint64) (int, error) {
	name = strings.TrimLeft(path.Clean(name), "/")
	if name == "" {
		name = "."
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | resolve}
	for {
		fd, err := unix.Openat2(root, name, &how)
		if err != unix.EAGAIN && err != unix.EINTR { // EAGAIN: something was renamed meanwhile
			return fd, err
		}
	}
}

// makeTarget opens a mount's target inside the root. It creates missing directories and, for
// a file, an empty file. They belong to the container's root user, whose host id is id.
func makeTarget(root int, target string, file bool, id uint32) (int, error) {
	fd, err := openBeneath(root, target, 0)
	if err == nil || !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	at, parts := root, strings.Split(strings.Trim(path.Clean(target), "/"), "/")
	for i := range parts {
		err = asContainer(id, func() error {
			if file && i == len(parts)-1 {
				return unix.Mknodat(at, parts[i], unix.S_IFREG|0o644, 0)
			}
			return unix.Mkdirat(at, parts[i], 0o755)
		})
		if at != root {
			unix.Close(at)
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return -1, err
		}
		if at, err = openBeneath(root, path.Join(parts[:i+1]...), 0); err != nil {
			return -1, err
		}
	}
	return at, nil
}

// asContainer runs work with the file system ids of the container's root user: other ids get
// EOVERFLOW on mapped mounts. Leaving fsuid 0 clears the file capabilities from this
// thread's effective set, but not from the permitted set, so they are raised again
// (capabilities(7)).
func asContainer(id uint32, work func() error) error {
	if id == 0 {
		return work()
	}
	if err := setFsids(id); err != nil {
		return err
	}
	err := work()
	return errors.Join(err, setFsids(0))
}

func setFsids(id uint32) error {
	unix.RawSyscall(unix.SYS_SETFSGID, uintptr(id), 0, 0)
	unix.RawSyscall(unix.SYS_SETFSUID, uintptr(id), 0, 0)
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if _, _, e := unix.RawSyscall(unix.SYS_CAPGET, uintptr(unsafe.Pointer(&h)), uintptr(unsafe.Pointer(&d[0])), 0); e != 0 {
		return e
	}
	d[0].Effective, d[1].Effective = d[0].Permitted, d[1].Permitted
	if _, _, e := unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&h)), uintptr(unsafe.Pointer(&d[0])), 0); e != 0 {
		return e
	}
	return nil
}

// errnoOf returns the system error in err's chain, or EIO.
func errnoOf(err error) syscall.Errno {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, errNoIdmap) {
		return unix.EINVAL
	}
	return unix.EIO
}
