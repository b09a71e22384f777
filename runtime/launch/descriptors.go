package launch

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// A child shares the parent's descriptor table until its second step, which gives it its own
// table with the low numbers only. A copy of the whole table, whose descriptors are then
// closed one by one, takes longer the more containers run (1 ms at a thousand). The
// descriptors for the child are in a window: consecutive low numbers that are reserved for this. Once
// the child sends 'd', the parent closes them and can use the window again.

// window is the first number of a window.
type window int

// windowSize has room for 0, 1, 2, gateFD, ranFD and targetFD.
const windowSize = targetFD + 1

// FilesEach is how many descriptors a Launcher reserves for each of its threads: two windows.
const FilesEach = 2 * windowSize

// reserveWindows reserves n windows while low numbers are free.
func (l *Launcher) reserveWindows(n int) error {
	l.windows = make(chan window, n)
	for range n {
		w, err := l.makeWindow()
		if err != nil {
			return fmt.Errorf("reserve descriptors: %w", err)
		}
		l.reserved = append(l.reserved, w)
		l.windows <- w
	}
	return nil
}

// makeWindow reserves consecutive free numbers above those that the child uses.
func (l *Launcher) makeWindow() (window, error) {
	first, n := windowSize, 0
	for n < windowSize {
		fd, err := unix.FcntlInt(uintptr(l.proc), unix.F_DUPFD_CLOEXEC, first+n)
		if err != nil {
			window(first).close(n)
			return 0, os.NewSyscallError("fcntl", err)
		}
		if fd != first+n {
			window(first).close(n)
			first, n = fd, 0
		}
		n++
	}
	return window(first), nil
}

func (w window) close(n int) {
	for fd := range n {
		unix.Close(int(w) + fd)
	}
}

// fillWindow duplicates descriptors into a free window for a child.
func (l *Launcher) fillWindow(f fds) (w window, err error) {
	select {
	case w = <-l.windows:
	default: // more children than windows are being started
		if w, err = l.makeWindow(); err != nil {
			return 0, fmt.Errorf("reserve descriptors: %w", err)
		}
	}
	for k, fd := range f {
		if err := unix.Dup3(fd, int(w)+k, unix.O_CLOEXEC); err != nil {
			l.emptyWindow(w)
			return 0, os.NewSyscallError("dup3", err)
		}
	}
	return w, nil
}

// emptyWindow closes the descriptors of a window but keeps the numbers reserved.
func (l *Launcher) emptyWindow(w window) {
	for fd := range windowSize {
		unix.Dup3(l.proc, int(w)+fd, unix.O_CLOEXEC) // can't fail on open descriptors
	}
	if slices.Contains(l.reserved, w) {
		l.windows <- w
	} else {
		w.close(windowSize)
	}
}
