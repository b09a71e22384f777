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

// View is a read-only look at layers as one tree, before a container uses them. It is mounted
// nowhere: only this process reaches it, by Path.
type View struct {
	Path string // /proc/self/fd/N
	file *os.File
}

// OpenView opens a view of layers, the names of directories in dir, bottom first.
func OpenView(dir string, layers []int) (*View, error) {
	v := &View{}
	if err := onOwnThread(func() error { return v.open(dir, layers) }); err != nil {
		return nil, err
	}
	v.Path = "/proc/self/fd/" + strconv.Itoa(int(v.file.Fd()))
	return v, nil
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
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("make mounts private", err)
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
