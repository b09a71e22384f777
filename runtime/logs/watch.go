package logs

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// watcher waits for changes in one directory (inotify(7)).
type watcher struct {
	file *os.File
	stop func() bool
	buf  [4096]byte
}

func newWatcher(ctx context.Context, dir string) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_DELETE_SELF|unix.IN_ONLYDIR); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "watch", Path: dir, Err: err}
	}
	w := &watcher{file: os.NewFile(uintptr(fd), "inotify")}
	w.stop = context.AfterFunc(ctx, func() { w.file.SetReadDeadline(time.Now()) })
	return w, nil
}

func (w *watcher) wait() error {
	_, err := w.file.Read(w.buf[:])
	return err
}

func (w *watcher) close() {
	w.stop()
	w.file.Close()
}
