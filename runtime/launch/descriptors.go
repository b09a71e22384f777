package launch

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// A child shares our table of descriptors until its second step, which gives it a
// table of its own with the low numbers alone: a copy of all, to be closed one by
// one, takes longer the more containers there are (1 ms at a thousand). What it
// keeps is in a window there, low numbers in a row that are set aside for that. It
// may be used again, and what is in it closed, once the child says 'd'.

// window is the first number of one.
type window int

// windowSize is for 0, 1, 2, gateFD, ranFD and targetFD.
const windowSize = targetFD + 1

// FilesEach are the descriptors that a Launcher sets aside for each of its threads:
// two windows.
const FilesEach = 2 * windowSize

// keepWindows sets n of them aside, while low numbers are free.
func (l *Launcher) reserveWindows(n int) error {
	l.windows = make(chan window, n)
	for range n {
		w, err := l.makeWindow()
		if err != nil {
			return fmt.Errorf("set descriptors aside: %w", err)
		}
		l.reserved = append(l.reserved, w)
		l.windows <- w
	}
	return nil
}

// makeWindow finds free numbers in a row, above those of the child.
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

// lend puts descriptors into a window for a child.
func (l *Launcher) fillWindow(f fds) (w window, err error) {
	select {
	case w = <-l.windows:
	default: // more children than ever are on their way
		if w, err = l.makeWindow(); err != nil {
			return 0, fmt.Errorf("set descriptors aside: %w", err)
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

// takeBack closes what is in a window, but keeps the numbers.
func (l *Launcher) emptyWindow(w window) {
	for fd := range windowSize {
		unix.Dup3(l.proc, int(w)+fd, unix.O_CLOEXEC) // our own numbers: it can't fail
	}
	if slices.Contains(l.reserved, w) {
		l.windows <- w
	} else {
		w.close(windowSize)
	}
}
