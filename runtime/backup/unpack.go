package backup

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"stead/runtime/image/unpack"

	"golang.org/x/sys/unix"
)

// Limits bound what an archive may unpack to.
type Limits struct {
	Bytes   int64 // 0 for nine tenths of what is free where the trees are unpacked
	Entries int64 // 0 for DefaultMaxEntries
}

// DefaultMaxEntries is the default limit of files in an archive.
const DefaultMaxEntries = 20_000_000

// maxContent bounds the sizes of all files together, holes included: the time to read them.
const maxContent = 64 << 40

// Unpack verifies an archive while it unpacks the trees into directories of dir, which exists and
// is empty, each under the name of its tree. If it fails, what is there is worth nothing. accept is
// called with the index before anything is unpacked. It returns the trees that are unpacked
// elsewhere, by name, each with a directory that does not exist.
func Unpack(ctx context.Context, from io.Reader, dir string, limits Limits, accept func(*Index) (map[string]string, error)) (*Info, error) {
	if limits.Entries == 0 {
		limits.Entries = DefaultMaxEntries
	}
	u := &unpacker{dir: dir, accept: accept, budget: &unpack.Budget{Bytes: maxContent, Entries: limits.Entries}}
	defer u.close()
	info, err := read(ctx, from, limits.Bytes, u)
	if err != nil {
		return nil, err
	}
	for _, t := range u.trees {
		if err := t.Finish(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	return info, nil
}

// unpacker is the sink that makes files.
type unpacker struct {
	dir    string
	accept func(*Index) (map[string]string, error)
	budget *unpack.Budget
	trees  []*unpack.Tree
}

func (u *unpacker) close() {
	for _, t := range u.trees {
		t.Close()
	}
}

func (u *unpacker) index(x *Index) (room int64, err error) {
	elsewhere, err := u.accept(x)
	if err != nil {
		return 0, err
	}
	free := map[unix.Fsid]int64{} // of each file system
	for _, t := range x.Trees {
		dir := elsewhere[t.Name]
		if dir == "" {
			dir = filepath.Join(u.dir, t.Name)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			return 0, err
		}
		tree, err := unpack.NewTree(dir, u.budget)
		if err != nil {
			return 0, err
		}
		u.trees = append(u.trees, tree)
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err != nil {
			return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
		}
		free[fs.Fsid] = int64(fs.Bavail) / 10 * 9 * fs.Bsize
	}
	for _, n := range free {
		room += n
	}
	return room, nil
}

func (u *unpacker) add(tree int, path string, h *tar.Header, content io.Reader) error {
	return u.wrap(u.trees[tree].Add(path, h, content))
}

func (u *unpacker) whiteout(tree int, path string, upper bool) error {
	if upper {
		return u.wrap(u.trees[tree].Whiteout(path))
	}
	return u.wrap(u.trees[tree].Delete(path))
}

func (u *unpacker) opaque(tree int, path string) error {
	return u.wrap(u.trees[tree].Opaque(path))
}

// wrap says whose fault an error is: that of the disk, or of the archive.
func (u *unpacker) wrap(err error) error {
	if err == nil || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EIO) || errors.Is(err, unix.ENOTSUP) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}
