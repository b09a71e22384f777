package unpack

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"stead/runtime/xattr"

	"golang.org/x/sys/unix"
)

// A Tree is a directory that is filled entry by entry, by whoever reads an archive that is no
// layer: whiteouts are made as they are told, and nothing is below. Paths are relative to the
// directory, without . and .., "" for the directory itself.
type Tree struct{ layer *Layer }

// NewTree opens an existing, empty directory. The caller must call Close.
func NewTree(dir string, budget *Budget) (*Tree, error) {
	l, err := newLayer(dir, budget)
	return &Tree{l}, err
}

// Close closes the directory.
func (t *Tree) Close() { t.layer.Close() }

// Add adds a file or directory, or replaces what an earlier call made. Its directory must be
// there. Header.Linkname of a hard link is a path of the tree that is there.
func (t *Tree) Add(name string, h *tar.Header, content io.Reader) error {
	own := *h
	own.Name = name
	if own.Name == "" {
		own.Name = "."
	}
	if name != "" {
		if _, err := t.layer.parentOf(name, false); err != nil {
			return wrap(name, err)
		}
	}
	if h.Typeflag == tar.TypeDir { // the earlier directory may have more attributes
		if err := t.clearXattrs(name); err != nil {
			return wrap(name, err)
		}
	}
	t.layer.hole = 0
	if h.PAXRecords["GNU.sparse.realsize"] != "" {
		t.layer.hole = 4096 // as exact as a file system has it
	}
	err := t.layer.entry(&own, content, false)
	if err == nil && len(t.layer.links) > 0 {
		err = fmt.Errorf("its target %.200q is not there", h.Linkname)
	}
	return wrap(name, err)
}

func wrap(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("unpack %.200q: %w", name, err)
}

// clearXattrs removes the attributes of a directory, if it is one.
func (t *Tree) clearXattrs(name string) error {
	fd, err := t.layer.openDir(name, unix.O_RDONLY|unix.O_NOFOLLOW)
	if err != nil {
		return nil // it is made, or replaced
	}
	defer unix.Close(fd)
	attributes, err := xattr.List(fd, unix.Flistxattr, unix.Fgetxattr)
	for key := range attributes {
		if key != "security.selinux" { // every file has it where there is SELinux
			err = errors.Join(err, unix.Fremovexattr(fd, key))
		}
	}
	return err
}

// Delete deletes a file or directory that an earlier call made.
func (t *Tree) Delete(name string) error {
	parent, err := t.layer.parentOf(name, false)
	if err == nil {
		err = t.layer.remove(parent, path.Base(name), name)
	}
	return wrap(name, err)
}

// Whiteout makes a whiteout of overlay, in place of what an earlier call made.
func (t *Tree) Whiteout(name string) error {
	parent, err := t.layer.parentOf(name, false)
	if err != nil {
		return wrap(name, err)
	}
	if err := t.layer.remove(parent, path.Base(name), name); err != nil && err != unix.ENOENT {
		return wrap(name, err)
	}
	return wrap(name, unix.Mknodat(parent, path.Base(name), unix.S_IFCHR, 0))
}

// Opaque makes a directory opaque.
func (t *Tree) Opaque(name string) error {
	fd, err := t.layer.openDir(name, unix.O_RDONLY|unix.O_NOFOLLOW)
	if err == nil {
		defer unix.Close(fd)
		err = unix.Fsetxattr(fd, opaqueXattr, []byte("y"), 0)
	}
	return wrap(name, err)
}

// Finish sets the times of directories, and writes all to disk.
func (t *Tree) Finish() error {
	if err := t.layer.Finish(nil); err != nil {
		return err
	}
	return os.NewSyscallError("syncfs", unix.Syncfs(t.layer.root))
}

// newLayer opens the directory of a layer.
func newLayer(dir string, budget *Budget) (*Layer, error) {
	root, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return &Layer{
		root: root, parent: cachedDir{fd: -1}, budget: budget, buffer: make([]byte, 1<<20), hole: largeHole, HighestID: -1,
		times: map[string]when{}, step: 1, implied: map[string]int{}, opaque: map[string]int{}, removed: map[string]int{}, deleted: map[string]bool{}, hidden: map[string]bool{},
	}, nil
}
