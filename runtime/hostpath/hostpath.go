// Package hostpath opens the host paths in manifests: roots and sources of mounts. Other users
// may be able to write to parts of such a path, and so may, through a mount, another
// container, whose files can belong to root on disk. A link there could make
// stead mount any directory of the host. So paths are opened part by part, and what was opened is
// mounted.
//
// The package also knows which paths lead to the same place, and which paths stead must
// protect: no container may write to them.
package hostpath

import (
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// LinkError is returned for a symbolic link that is not followed.
type LinkError struct {
	Link string
	Why  string
}

func (e *LinkError) Error() string {
	return fmt.Sprintf("%s is a symbolic link, and %s; write the path that it leads to", e.Link, e.Why)
}

// Unwrap returns the error that openat2(2) would return.
func (e *LinkError) Unwrap() error { return unix.ELOOP }

// walk is the state of opening one path.
type walk struct {
	shared      func(dir string) bool
	trusts      func(uid uint32) bool
	fd          int
	at          string // the path of fd, without links
	stat        unix.Stat_t
	writableDir string // fd or a directory above it that users other than root can write to; "" if none
	links       int
}

// Open opens an absolute path. It follows only links that nobody but the host's root can have
// made: not in a directory that others can write to, or below one, nor where shared
// reports true for such a directory. real is the path without links. A directory is open
// for reading, any other file only as a path (O_PATH).
func Open(name string, shared func(dir string) bool) (fd int, real string, err error) {
	return OpenFor(name, shared, nil)
}

// OpenFor is Open with further users, beside root, whose links are followed; trusts may be
// nil.
func OpenFor(name string, shared func(dir string) bool, trusts func(uid uint32) bool) (fd int, real string, err error) {
	w := &walk{shared: shared, trusts: trusts, fd: -1}
	defer func() { // unless fd is returned
		if w.fd >= 0 {
			unix.Close(w.fd)
		}
	}()
	if err := w.start(); err != nil {
		return -1, "", err
	}
	for todo := splitPath(name); len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		target, err := w.step(part)
		if err != nil {
			return -1, "", err
		}
		if target == "" {
			continue
		}
		if path.IsAbs(target) {
			if err := w.start(); err != nil {
				return -1, "", err
			}
		}
		todo = append(splitPath(target), todo...)
	}
	fd, w.fd = w.fd, -1
	return fd, w.at, nil
}

func splitPath(name string) (all []string) {
	for p := range strings.SplitSeq(name, "/") {
		if p != "" && p != "." {
			all = append(all, p)
		}
	}
	return all
}

// start begins at the root directory.
func (w *walk) start() error {
	fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/", Err: err}
	}
	w.writableDir = ""
	return w.enter(fd, "/")
}

func (w *walk) enter(fd int, at string) error {
	if w.fd >= 0 {
		unix.Close(w.fd)
	}
	w.fd, w.at = fd, at
	if err := unix.Fstat(fd, &w.stat); err != nil {
		return &os.PathError{Op: "stat", Path: at, Err: err}
	}
	// A user who can write to a directory can rename any entry in it; if it is sticky, only
	// his own.
	if w.writableDir == "" && (!w.isTrusted(w.stat.Uid) || w.stat.Mode&0o022 != 0 && w.stat.Mode&unix.S_ISVTX == 0) {
		w.writableDir = at
	}
	return nil
}

// step opens the next part of the path. If that is a link, it returns the link's target.
func (w *walk) step(part string) (target string, err error) {
	at := path.Join(w.at, part)
	if w.stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", &os.PathError{Op: "open", Path: w.at, Err: unix.ENOTDIR}
	}
	// Without O_PATH, so that an automount is triggered. With O_DIRECTORY the open can't
	// block on a FIFO.
	fd, err := unix.Openat(w.fd, part, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		fd, err = unix.Openat(w.fd, part, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return "", &os.PathError{Op: "open", Path: at, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return "", &os.PathError{Op: "stat", Path: at, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", w.enter(fd, at)
	}
	defer unix.Close(fd)
	if why := w.distrustReason(&st); why != "" {
		return "", &LinkError{at, why}
	}
	if w.links++; w.links > 40 {
		return "", &os.PathError{Op: "open", Path: at, Err: unix.ELOOP}
	}
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", b)
	if err != nil {
		return "", &os.PathError{Op: "readlink", Path: at, Err: err}
	}
	return string(b[:n]), nil
}

// distrustReason returns why a link is not followed; "" if it is followed.
func (w *walk) distrustReason(link *unix.Stat_t) string {
	for dir := w.at; ; dir = path.Dir(dir) {
		if w.shared(dir) {
			return "a container can write to " + dir + ", or once could"
		}
		if dir == "/" {
			break
		}
	}
	switch {
	case w.writableDir != "":
		return "others than root can write to " + w.writableDir
	case w.stat.Mode&0o022 != 0:
		return "others than root can write to " + w.at
	case !w.isTrusted(link.Uid):
		return fmt.Sprintf("it belongs to user %d", link.Uid)
	}
	return ""
}

func (w *walk) isTrusted(uid uint32) bool { return uid == 0 || w.trusts != nil && w.trusts(uid) }
