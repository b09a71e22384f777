package rootfs

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// View is a look at a root before a container uses it, such as a read-only one at layers. It is mounted
// nowhere: only this process reaches it, by Path.
type View struct {
	Path string // /proc/self/fd/N
	file *os.File
}

const viewPath = "/proc/self/fd/"

// IsView reports whether a path is that of a view. It is a link whose text means nothing: only the
// kernel can follow it.
func IsView(path string) bool { return strings.HasPrefix(path, viewPath) }

// OpenView opens a view of layers, the names of directories in dir, bottom first.
func OpenView(dir string, layers []int) (*View, error) {
	v := &View{}
	if err := onOwnThread(func() error { return v.open(dir, layers) }); err != nil {
		return nil, err
	}
	v.Path = viewPath + strconv.Itoa(int(v.file.Fd()))
	return v, nil
}

// OpenHostView opens a view of a new host root. It is made in memory; at is any directory of the
// host, and nothing is changed there.
func OpenHostView(at string, etc *HostEtc) (*View, error) {
	v := &View{}
	err := onOwnThread(func() error {
		if err := ownMounts(); err != nil {
			return err
		}
		const flags = unix.MS_NOSUID | unix.MS_NODEV
		if err := unix.Mount("view", at, "tmpfs", flags, "mode=0700"); err != nil {
			return os.NewSyscallError("mount tmpfs", err)
		}
		if err := etc.Prepare(at+"/upper", Names{}); err != nil {
			return err
		}
		return v.openDir(at + "/upper")
	})
	if err != nil {
		return nil, err
	}
	v.Path = viewPath + strconv.Itoa(int(v.file.Fd()))
	return v, nil
}

// ownMounts gives this thread a mount namespace of its own.
func ownMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("make mounts private", err)
	}
	return nil
}

// onOwnThread calls f on a thread that ends with it, so that f may give it a mount namespace of
// its own.
func onOwnThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // the main thread never ends, and /proc/self is its view
			err := onOwnThread(f)
			runtime.UnlockOSThread()
			done <- err
			return
		}
		done <- f() // not unlocked: the thread ends with the goroutine
	}()
	return <-done
}

func (v *View) open(dir string, layers []int) error {
	if len(layers) == 0 {
		return errors.New("the image has no layers")
	}
	names := make([]string, len(layers))
	for i, n := range layers {
		names[len(names)-1-i] = strconv.Itoa(n) // the topmost first
	}
	if len(names) == 1 { // an overlay needs two
		return v.openDir(filepath.Join(dir, names[0]))
	}
	if err := ownMounts(); err != nil {
		return err
	}
	if err := unix.Chdir(dir); err != nil {
		return &os.PathError{Op: "chdir", Path: dir, Err: err}
	}
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV
	if err := unix.Mount("view", dir, "overlay", flags, "lowerdir="+strings.Join(names, ":")+",redirect_dir=nofollow,metacopy=off"); err != nil {
		return os.NewSyscallError("mount overlay", err)
	}
	return v.openDir(dir)
}

func (v *View) openDir(dir string) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	v.file = os.NewFile(uintptr(fd), dir) // keeps the mount when the namespace is gone
	return nil
}

// Open opens a directory of the view for reading, following links inside of it.
func (v *View) Open(name string) (*os.File, error) {
	fd, err := unix.Openat2(int(v.file.Fd()), strings.TrimLeft(name, "/"), &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Close lets go of the view.
func (v *View) Close() error { return v.file.Close() }
