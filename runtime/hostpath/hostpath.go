// Package hostpath opens the paths of the host that manifests name: roots and
// sources of mounts. Parts of such a path may be for others to write, for a user
// or, through a mount, for another container, whose root's files are plain root's
// on disk. A link there would have us mount whatever its maker likes. So paths
// are walked part by part, and what is opened is what is mounted.
//
// It knows too which paths mean the same place, and which places stead takes orders
// from: none of these may be for a container to write.
package hostpath

import (
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// LinkError is a symbolic link that was not followed.
type LinkError struct {
	Link string
	Why  string
}

func (e *LinkError) Error() string {
	return fmt.Sprintf("%s is a symbolic link, and %s; write the path that it leads to", e.Link, e.Why)
}

// Unwrap is what openat2(2) would say.
func (e *LinkError) Unwrap() error { return unix.ELOOP }

// walk is a path under way.
type walk struct {
	shared      func(dir string) bool
	fd          int
	at          string // where fd is, without links
	stat        unix.Stat_t
	writableDir string // a directory at or above that others than root can write; "" if none
	links       int
}

// Open opens an absolute path. Links are followed where only the host's root can
// have made them: not where their directory, or one above it, is for others to
// write, nor where shared says so of one of these. real is the path without links.
// A directory is open for reading, anything else only as a path (O_PATH).
func Open(name string, shared func(dir string) bool) (fd int, real string, err error) {
	w := &walk{shared: shared, fd: -1}
	defer func() { // of what is not handed over
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

// start goes to the root.
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
	// Who may write a directory may rename what is in it; but where it is sticky
	// only what is his own.
	if w.writableDir == "" && (w.stat.Uid != 0 || w.stat.Mode&0o022 != 0 && w.stat.Mode&unix.S_ISVTX == 0) {
		w.writableDir = at
	}
	return nil
}

// step goes one part on, or says where the link that is there leads.
func (w *walk) step(part string) (target string, err error) {
	at := path.Join(w.at, part)
	if w.stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", &os.PathError{Op: "open", Path: w.at, Err: unix.ENOTDIR}
	}
	// Open, not O_PATH: so that what is mounted on demand is mounted. With
	// O_DIRECTORY this can't hang in a FIFO.
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

// distrust says why a link is not followed; "" if it is.
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
	case link.Uid != 0:
		return fmt.Sprintf("it belongs to user %d", link.Uid)
	}
	return ""
}
