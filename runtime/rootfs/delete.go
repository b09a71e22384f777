package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxDepth is how many directories are open at once while a tree is deleted. Deeper directories
// are moved to the top first: a container can nest directories so deeply that following
// them would exhaust the descriptors and the stack.
const maxDepth = 64

// tree is a directory tree that is being deleted.
type tree struct {
	ctx   context.Context
	top   *os.File
	moved int // number of directories moved to the top
}

// Delete deletes a directory and all its content, however deep a container has nested it. After
// an error it continues, and returns the first error. It stops when ctx ends.
func Delete(ctx context.Context, dir string) error {
	top, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer top.Close()
	t := &tree{ctx: ctx, top: top}
	if err := t.empty(top, 0); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// empty deletes the content of a directory. It deletes while it lists, and repeats that until a
// round deletes nothing.
func (t *tree) empty(dir *os.File, depth int) error {
	for {
		var failed error
		gone, moved := false, t.moved
		for {
			names, err := dir.Readdirnames(1024)
			for _, name := range names {
				if t.ctx.Err() != nil {
					return t.ctx.Err()
				}
				if err := t.remove(dir, name, depth); err == nil {
					gone = true
				} else if failed == nil {
					failed = err
				}
			}
			if err == io.EOF || errors.Is(err, unix.ENOENT) { // another process deletes the same tree
				break
			}
			if err != nil {
				return err
			}
		}
		if !gone && !(depth == 0 && t.moved > moved) {
			return failed
		}
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
}

func (t *tree) remove(dir *os.File, name string, depth int) error {
	at := int(dir.Fd())
	err := unix.Unlinkat(at, name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if depth >= maxDepth && t.moveToTop(at, name) {
		return nil
	}
	fd, e := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if e == unix.ENOENT {
		return nil
	}
	if e != nil {
		return refusal("unlink", dir, name, err)
	}
	below := os.NewFile(uintptr(fd), filepath.Join(dir.Name(), name))
	err = t.empty(below, depth+1)
	below.Close()
	if err != nil {
		return err
	}
	if err := unix.Unlinkat(at, name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return refusal("rmdir", dir, name, err)
	}
	return nil
}

// refusal returns the error for a name in a directory that can't be deleted. It says if that is so
// because one of both is immutable or append-only (man 1 chattr).
func refusal(op string, dir *os.File, name string, err error) error {
	path := filepath.Join(dir.Name(), name)
	if err == unix.EPERM {
		for _, at := range []string{name, ""} {
			var st unix.Statx_t
			if unix.Statx(int(dir.Fd()), at, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE, &st) != nil {
				continue
			}
			fixed := filepath.Join(dir.Name(), at)
			switch {
			case st.Attributes&unix.STATX_ATTR_IMMUTABLE != 0:
				return &os.PathError{Op: op, Path: path, Err: fmt.Errorf("%w: immutable; to allow it: chattr -i %s", err, fixed)}
			case st.Attributes&unix.STATX_ATTR_APPEND != 0:
				return &os.PathError{Op: op, Path: path, Err: fmt.Errorf("%w: append-only; to allow it: chattr -a %s", err, fixed)}
			}
		}
	}
	return &os.PathError{Op: op, Path: path, Err: err}
}

// moveToTop moves a directory to the top under a free name.
func (t *tree) moveToTop(at int, name string) bool {
	for {
		t.moved++
		err := unix.Renameat2(at, name, int(t.top.Fd()), ".deep-"+strconv.Itoa(t.moved), unix.RENAME_NOREPLACE)
		if err != unix.EEXIST {
			return err == nil
		}
	}
}
