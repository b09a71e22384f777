package backup

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// entry is a file that a walk has come to.
type entry struct {
	parent int    // descriptor of the directory that it is in
	base   string // its name there
	path   string // from the top; "" for the top itself
	st     unix.Stat_t
	dir    *os.File // of a directory that the walk enters
	mount  bool     // a directory that something is mounted on; the walk does not enter it
}

// walk calls visit for a directory and all below it: a directory first, then what is in it, by
// name. Files may come and go meanwhile. It follows no links and enters no mounts.
func walk(top string, visit func(*entry) error) error {
	fd, err := unix.Open(top, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NOATIME, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: top, Err: err}
	}
	e := &entry{dir: os.NewFile(uintptr(fd), top)}
	return walkIn(e, 0, visit)
}

// walkIn visits a directory and what is in it, and closes it.
func walkIn(e *entry, depth int, visit func(*entry) error) error {
	defer e.dir.Close()
	fd := int(e.dir.Fd())
	if err := unix.Fstat(fd, &e.st); err != nil {
		return &os.PathError{Op: "stat", Path: e.path, Err: err}
	}
	if err := visit(e); err != nil {
		return err
	}
	names, err := e.dir.Readdirnames(-1)
	if err != nil && !errors.Is(err, unix.ENOENT) { // the directory was removed
		return &os.PathError{Op: "list", Path: e.path, Err: err}
	}
	slices.Sort(names)
	for _, name := range names {
		below := &entry{parent: fd, base: name, path: name}
		if e.path != "" {
			below.path = e.path + "/" + name
		}
		err := unix.Fstatat(fd, name, &below.st, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "stat", Path: below.path, Err: err}
		}
		if len(below.path) > maxPath || depth >= maxDepth {
			return fmt.Errorf("%.100s…: nested too deeply: an archive has paths of up to %d bytes and %d directories", below.path, maxPath, maxDepth)
		}
		if below.st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if err = below.open(); err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
				continue // it was replaced; if the container stands still that can't be
			}
			if err == nil && !below.mount {
				err = walkIn(below, depth+1, visit)
			} else if err == nil {
				err = visit(below)
			}
		} else {
			err = visit(below)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// open opens a directory unless something is mounted on it.
func (e *entry) open() error {
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NOATIME, Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH}
	fd, err := unix.Openat2(e.parent, e.base, &how)
	if err == unix.EXDEV {
		e.mount = true
		return nil
	}
	if err != nil {
		return err
	}
	e.dir = os.NewFile(uintptr(fd), e.path)
	return nil
}

// isWhiteout reports whether a file is a whiteout of overlay.
func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}
