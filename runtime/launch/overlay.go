package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Overlay describes the merged root of a container: read-only layers below a directory of
// its own. The kernel mounts it once for each boot, at Dir/root, with ids mapped; every start
// copies that mount.
type Overlay struct {
	Dir    string // of the container; holds upper, work and the mount point, root
	Layers string // directory of all layers
	Lower  []int  // names of the container's layers in it, bottom first
	IDBase uint32 `json:",omitempty"` // host id of the container's id 0; 0 maps no ids
	Fresh  bool   `json:",omitempty"` // upper was just made, so no mount can hold it
}

// Mounted identifies the mount of a merged root.
type Mounted struct {
	ID  uint64 `json:"id"`  // of the mount; no other mount gets it during this boot (from Linux 6.8)
	Dev uint64 `json:"dev"` // device number of its files
}

// ErrHeld is returned for an upper directory that another mount still uses. Two mounts of one
// upper directory corrupt each other's view of it.
var ErrHeld = errors.New("another mount still uses the private files of this root")

// MountRoot mounts a merged root. Nothing may be mounted at Dir/root.
func (l *Launcher) MountRoot(o *Overlay) (m Mounted, err error) {
	l.do(func(w *worker) { m, err = w.mountRoot(o) })
	return m, err
}

func (w *worker) mountRoot(o *Overlay) (Mounted, error) {
	user := -1
	if o.IDBase != 0 {
		ns, err := w.userNamespace(o.IDBase)
		if err != nil {
			return Mounted{}, fmt.Errorf("map ids: %w", err)
		}
		defer ns.close()
		user = ns.fd
	}
	// A merged mount can't be mapped, what it is made of can. One copy serves all layers.
	// Upper and work must be in one mount.
	var parts [2]int
	for i, dir := range []string{o.Dir, o.Layers} {
		fd, err := copyMount(unix.AT_FDCWD, dir, 0, user)
		if errors.Is(err, errNoIdmap) {
			return Mounted{}, &Error{AtIDMap, "map ids of " + dir, unix.EINVAL, errNoIdmap.Error() + "; put the state directory on one that can, or write security.userns: host to run without id mapping"}
		}
		if err != nil {
			return Mounted{}, err
		}
		defer unix.Close(fd)
		parts[i] = fd
	}
	merged, err := w.merge(o, parts[0], parts[1])
	if err != nil {
		return Mounted{}, err
	}
	defer unix.Close(merged)
	at := filepath.Join(o.Dir, mountPoint)
	if err := unix.MoveMount(merged, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return Mounted{}, &os.PathError{Op: "mount", Path: at, Err: err}
	}
	return mountedOf(merged)
}

// mountPoint is the directory in a container's own where its merged root is mounted.
const mountPoint = "root"

// merge returns the overlay as a detached mount. It is put together in the nursery, where the
// number of mounts is small and nothing is left if this process dies: the container's
// directory at /overlay-N, on its mount point the layers, and over these the overlay. So one
// unmount takes all away.
//
// Linux 6.1 takes neither detached layers nor long options other than from mount(2). With the
// layers attached below the working directory the names are short however many there
// are, and however long the path of the state directory is.
func (w *worker) merge(o *Overlay, own, layers int) (merged int, err error) {
	if err := w.enter(w.nursery); err != nil {
		return -1, fmt.Errorf("enter nursery: %w", err)
	}
	dir := "/overlay-" + strconv.FormatUint(w.overlays.Add(1), 10)
	defer func() {
		unix.Chdir("/")
		unix.Unmount(dir, unix.MNT_DETACH) // the overlay has copies of both
		unix.Rmdir(dir)
		if e := w.enter(w.host); e != nil {
			panic(fmt.Sprintf("leave nursery: %v", e)) // the next start would resolve host paths there
		}
	}()
	if err := unix.Mkdir(dir, 0o755); err != nil {
		return -1, os.NewSyscallError("mkdir", err)
	}
	if err := unix.MoveMount(own, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return -1, fmt.Errorf("attach %s: %w", o.Dir, err)
	}
	if err := unix.Chdir(dir); err != nil {
		return -1, os.NewSyscallError("chdir", err)
	}
	if err := unix.MoveMount(layers, "", unix.AT_FDCWD, mountPoint, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return -1, fmt.Errorf("attach layers: %w", err)
	}
	if err := w.mountOverlay(o); err != nil {
		return -1, err
	}
	return copyMount(unix.AT_FDCWD, mountPoint, 0, -1)
}

// overlayOptions are set explicitly, since the kernel's defaults differ. With index=on an
// upper directory that was restored or whose layers were unpacked anew is refused, and hard
// links of a layer lose what was written through another name. Redirects and metacopies
// would make files of the upper directory depend on names in the layers.
const overlayOptions = "index=off,redirect_dir=nofollow,metacopy=off,nfs_export=off,xino=auto"

// mountOverlay mounts the overlay on the layers, which are below the working directory. The kernel does
// all later work on the layers with the ids and capabilities of the caller of mount(2): without
// a mapped id the overlay would be read-only.
func (w *worker) mountOverlay(o *Overlay) error {
	lower := make([]string, len(o.Lower))
	for i, n := range o.Lower {
		lower[len(lower)-1-i] = mountPoint + "/" + strconv.Itoa(n) // the topmost first
	}
	dirs := "lowerdir=" + strings.Join(lower, ":") + ",upperdir=upper,workdir="
	return asContainer(o.IDBase, func() error {
		if !o.Fresh {
			// With index=on the kernel refuses an upper directory that is in use, before it
			// refuses this work directory, which is in another file system.
			if err := unix.Mount(o.Dir, mountPoint, "overlay", 0, dirs+"/,index=on"); err != unix.EINVAL {
				return probeError(err)
			}
		}
		err := unix.Mount(o.Dir, mountPoint, "overlay", unix.MS_NOSUID|unix.MS_NODEV, dirs+"work,"+overlayOptions)
		if err == unix.EBUSY {
			return ErrHeld
		}
		if err != nil {
			return os.NewSyscallError("mount overlay", err)
		}
		return checkWritable(mountPoint)
	})
}

// checkWritable returns an error for a mount that the kernel has made read-only: it does that to
// an overlay whose work directory it can't use, and tells only its log.
func checkWritable(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return os.NewSyscallError("statfs", err)
	}
	if fs.Flags&unix.ST_RDONLY == 0 {
		return nil
	}
	return errors.New("the kernel mounts the overlay read-only (is the file system full or read-only? dmesg tells)")
}

// probeError returns the error for a result of the probe that does not say that the upper
// directory is free.
func probeError(err error) error {
	if err == unix.EBUSY {
		return ErrHeld
	}
	return fmt.Errorf("look whether the private files are in use: mount overlay: %w", err)
}

// userNamespace is a new user namespace with id maps.
type userNamespace struct {
	fd    int
	pid   int // of the child that made it
	pidfd int // of that child
}

// userNamespace makes a user namespace in which id 0 is idBase. The child that it begins with
// shares this process's memory, which costs a tenth of a copy, and dies with this thread if
// nobody ends it before.
func (w *worker) userNamespace(idBase uint32) (userNamespace, error) {
	p := newProgram(w.memory(0), 0)
	p.noSignal = true // the keeper's loop does not reap it
	p.do("die with the parent", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))
	p.do("look for the parent", unix.SYS_GETPPID).want = int32(os.Getpid())
	p.do("wait", unix.SYS_PPOLL)
	args := &cloneArgs{flags: unix.CLONE_NEWUSER}
	if canExcludeFromFork {
		args.flags |= unix.CLONE_VM
	}
	pid, err := p.clone(args)
	if err != nil {
		return userNamespace{}, os.NewSyscallError("clone", err)
	}
	ns := userNamespace{-1, pid, int(p.pidfd)}
	if ns.fd, err = w.writeMaps(pid, idBase); err != nil {
		ns.close()
		return ns, err
	}
	unix.Kill(pid, unix.SIGKILL) // the namespace stays as long as something refers to it
	return ns, nil
}

// close waits for the end of the child.
func (ns userNamespace) close() {
	unix.Kill(ns.pid, unix.SIGKILL) // not reaped yet, so the pid is still the child's
	for err := error(unix.EINTR); err == unix.EINTR; {
		_, err = unix.Wait4(ns.pid, nil, unix.WALL, nil)
	}
	unix.Close(ns.pidfd)
	if ns.fd >= 0 {
		unix.Close(ns.fd)
	}
}

// writeMaps writes the id maps of a process and returns its user namespace.
func (l *Launcher) writeMaps(pid int, idBase uint32) (fd int, err error) {
	dir := strconv.Itoa(pid)
	for _, file := range []string{"uid_map", "gid_map"} {
		if err := writeAt(l.proc, dir+"/"+file, fmt.Sprintf("0 %d 65536", idBase)); err != nil {
			return -1, fmt.Errorf("write %s: %w", file, err)
		}
	}
	fd, err = unix.Openat(l.proc, dir+"/ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open user namespace: %w", err)
	}
	return fd, nil
}

// statxMountIDUnique is STATX_MNT_ID_UNIQUE (Linux 6.8): an id that is never used again.
const statxMountIDUnique = 0x4000

// mountedOf returns the identity of the mount that fd is on.
func mountedOf(fd int) (Mounted, error) {
	for _, mask := range []uint32{statxMountIDUnique, unix.STATX_MNT_ID} {
		var st unix.Statx_t
		err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, int(mask), &st)
		if err != nil {
			return Mounted{}, os.NewSyscallError("statx", err)
		}
		if st.Mask&mask != 0 && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
			return Mounted{st.Mnt_id, unix.Mkdev(st.Dev_major, st.Dev_minor)}, nil
		}
	}
	return Mounted{}, errNotMounted
}

var errNotMounted = errors.New("nothing is mounted there")

// TryOverlay tries whether containers can have merged roots in a directory's file system. It
// leaves nothing behind.
func TryOverlay(dir string, idBase uint32) (err error) {
	tmp, err := os.MkdirTemp(dir, ".stead-try-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	o := &Overlay{Dir: tmp + "/own", Layers: tmp + "/layers", Lower: []int{1, 2}, IDBase: idBase, Fresh: true}
	for _, d := range []string{"layers/1", "layers/2", "own/upper", "own/work", "own/" + mountPoint, "nursery"} {
		if err := os.MkdirAll(filepath.Join(tmp, d), 0o755); err != nil {
			return err
		}
	}
	l, err := NewLauncher(tmp+"/nursery", 1)
	if err != nil {
		return err
	}
	defer l.Close()
	if _, err := l.MountRoot(o); err != nil {
		return err
	}
	return UnmountRoot(filepath.Join(o.Dir, mountPoint))
}

// MountedAt returns the identity of what is mounted at a directory. ok is false if nothing is.
func MountedAt(dir string) (m Mounted, ok bool) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return Mounted{}, false
	}
	defer unix.Close(fd)
	m, err = mountedOf(fd)
	return m, err == nil
}

// UnmountRoot unmounts everything that is mounted at a directory. It is gone at once for this
// namespace; who still has a file of it open keeps it.
func UnmountRoot(dir string) error {
	for range 100 {
		if _, ok := MountedAt(dir); !ok {
			return nil
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return &os.PathError{Op: "unmount", Path: dir, Err: err}
		}
	}
	return &os.PathError{Op: "unmount", Path: dir, Err: syscall.EBUSY}
}
