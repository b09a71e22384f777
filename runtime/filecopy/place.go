package filecopy

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// parent opens the directory that holds what a path leads to, following the links of its last part
// too, and returns the name there. What it leads to need not be there.
func (r *root) parent(name string) (dir int, base string, err error) {
	name = strings.TrimRight(name, "/")
	for range 40 {
		base = path.Base("/" + name)
		if base == "." || base == ".." || base == "/" {
			return -1, "", unix.EISDIR
		}
		above := strings.TrimSuffix(name, base)
		if dir, err = r.open(above, unix.O_PATH|unix.O_DIRECTORY); err != nil {
			return -1, "", err
		}
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(dir, base, target)
		if err != nil { // no link, or nothing
			return dir, base, nil
		}
		unix.Close(dir)
		if name = string(target[:n]); !path.IsAbs(name) {
			name = above + "/" + name
		}
		name = strings.TrimRight(name, "/")
	}
	return -1, "", unix.ELOOP
}

// place is where a stream goes.
type place struct {
	dir int // the directory; owned
	// top replaces the first part of the names in the stream; "." puts what the stream's top
	// directory holds into dir itself.
	top string
	// mustBeDir is set if only a directory may come: the path ends with a slash.
	mustBeDir bool
}

// find returns the place for a stream whose top is called as (see Name), as cp(1) has it: in a
// directory that is there, else under the name that the path gives.
func (r *root) find(name, as string) (*place, error) {
	at, err := r.open(name, unix.O_PATH|unix.O_DIRECTORY)
	if err == nil {
		if err := r.uncovered(at, name); err != nil {
			unix.Close(at)
			return nil, err
		}
		return &place{dir: at, top: as}, nil
	}
	if err != unix.ENOENT && err != unix.ENOTDIR {
		return nil, err
	}
	dir, base, err := r.parent(name)
	if err == unix.ENOENT {
		return nil, fmt.Errorf("there is no directory %s", path.Dir(path.Clean("/"+name)))
	}
	if err != nil {
		return nil, err
	}
	if err := r.uncovered(dir, name); err != nil {
		unix.Close(dir)
		return nil, err
	}
	if err := r.checkEntry(dir, base, name); err != nil {
		unix.Close(dir)
		return nil, err
	}
	return &place{dir: dir, top: base, mustBeDir: strings.HasSuffix(name, "/")}, nil
}
