package backup

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"stead/runtime/xattr"

	"golang.org/x/sys/unix"
)

// copier copies the trees of a container into an archive.
type copier struct {
	*writer
	ctx      context.Context
	deadline time.Time // zero: none
	layer    string    // live or frozen
	tree     Tree
	steady   bool // the file system shows every change in ctime
	links    map[inode]linked
	linkRoom int // bytes of names that links may still take
	buffer   []byte
	target   inode // the archive itself, which may lie in a tree
	progress func(bytes int64)
}

type inode struct{ dev, ino uint64 }

// linked is the first name of a file that has several.
type linked struct {
	path string
	as   Seen
}

// maxLinkRoom bounds the memory for names of files that have several. Files beyond it are
// copied once for each name.
const maxLinkRoom = 32 << 20

var errDeadline = errors.New("it takes too long")

// check returns an error when the copy has to end.
func (c *copier) check() error {
	if err := context.Cause(c.ctx); err != nil {
		return err
	}
	if !c.deadline.IsZero() && time.Now().After(c.deadline) {
		return errDeadline
	}
	return nil
}

// begin begins a tree in a layer.
func (c *copier) begin(layer string, t Tree, dir string) error {
	c.layer, c.tree, c.links, c.linkRoom = layer, t, map[inode]linked{}, maxLinkRoom
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	switch fs.Type {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC:
		c.steady = true
	default: // tmpfs, for one, does not notice what is written to a file that is mapped into memory
		c.steady = false
	}
	return nil
}

// copyLive copies a tree while the container runs, and catalogs what it copied.
func (c *copier) copyLive(t Tree, dir string, cat *catalog) error {
	if err := c.begin(live, t, dir); err != nil {
		return err
	}
	return walk(dir, func(e *entry) error {
		if !c.steady && e.st.Mode&unix.S_IFMT == unix.S_IFREG {
			return nil // all of it is copied when the container stands still
		}
		as, err := c.emit(e)
		if err == nil && as != nil {
			err = cat.add(as)
		}
		return err
	})
}

// changes goes through a tree again and calls changed for each file that is new or not as it was
// copied, and gone for each that was copied and is no more.
func (c *copier) changes(t Tree, dir string, cat *catalog, changed func(*entry) error, gone func(path string) error) error {
	next, err := cat.read()
	if err != nil {
		return err
	}
	if err := c.begin(frozen, t, dir); err != nil {
		return err
	}
	was, err := next()
	covered := "\x00" // a directory that is gone or replaced, with all in it
	skip := func() error {
		defer func() { was, err = next() }()
		if strings.HasPrefix(was.path, covered+"/") {
			return nil
		}
		covered = "\x00"
		if was.isDir() {
			covered = was.path
		}
		return gone(was.path)
	}
	walked := walk(dir, func(e *entry) error {
		for err == nil && was != nil && comparePaths(was.path, e.path) < 0 {
			if err := skip(); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		if err := c.check(); err != nil {
			return err
		}
		if was == nil || was.path != e.path {
			return changed(e)
		}
		before := was
		was, err = next()
		if before.same(&e.st) && e.path != "" { // the top always comes: a tree with nothing but it is easier to unpack than none
			return nil
		}
		if is := e.st.Mode&unix.S_IFMT == unix.S_IFDIR; is != before.isDir() { // not all programs that unpack replace one by the other
			if before.isDir() {
				covered = e.path
			}
			if err := gone(e.path); err != nil {
				return err
			}
		}
		return changed(e)
	})
	for walked == nil && err == nil && was != nil {
		walked = skip()
	}
	return errors.Join(walked, err)
}

// copyFrozen copies what has changed since copyLive.
func (c *copier) copyFrozen(t Tree, dir string, cat *catalog) error {
	return c.changes(t, dir, cat, func(e *entry) error {
		_, err := c.emit(e)
		return err
	}, func(path string) error { return c.whiteout(path, whiteoutGone, time.Now()) })
}

// estimate is what copyFrozen would do now: files and bytes.
func (c *copier) estimate(t Tree, dir string, cat *catalog) (bytes int64, err error) {
	err = c.changes(t, dir, cat, func(e *entry) error {
		if e.st.Mode&unix.S_IFMT == unix.S_IFREG {
			bytes += e.st.Size
			if allocated := e.st.Blocks * 512; allocated < e.st.Size {
				bytes += allocated - e.st.Size
			}
		}
		bytes += 512
		return nil
	}, func(string) error { return nil })
	return bytes, err
}

// member returns the name of a path of the tree in the archive.
func (c *copier) member(p string) string { return c.layer + path.Join(c.tree.Name, p) }

// whiteout writes the mark of a file that is not there.
func (c *copier) whiteout(p, kind string, at time.Time) error {
	name := path.Join(path.Dir(p), whiteoutPrefix+path.Base(p))
	return c.mark(name, kind, at)
}

func (c *copier) mark(name, kind string, at time.Time) error {
	return c.header(&tar.Header{
		Typeflag: tar.TypeReg, Name: c.member(name), Mode: 0o600, ModTime: at.Truncate(time.Second),
		PAXRecords: map[string]string{xattr.TarPrefix + whiteoutXattr: kind},
	})
}

// emit writes a file into the archive. It returns how the file looked before it was read, and nil if
// it is not there any more or not copied.
func (c *copier) emit(e *entry) (*seen, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	as := see(e.path, &e.st)
	if c.target == (inode{e.st.Dev, e.st.Ino}) {
		return nil, nil
	}
	h := &tar.Header{
		Name: c.member(e.path), Mode: int64(e.st.Mode & 0o7777), Uid: int(e.st.Uid), Gid: int(e.st.Gid),
		ModTime: time.Unix(e.st.Mtim.Unix()),
	}
	switch e.st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return &as, c.directory(h, e)
	case unix.S_IFREG:
		return c.regular(h, e)
	case unix.S_IFLNK:
		h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(e.parent, e.base, target)
		if err != nil {
			return nil, ignoreGone(err, "read link "+e.path)
		}
		h.Linkname = string(target[:n])
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		if isWhiteout(&e.st) && c.tree.Overlay {
			return &as, c.whiteout(e.path, whiteoutUpper, h.ModTime)
		}
		if isWhiteout(&e.st) {
			c.note(path.Join(c.tree.Name, e.path), "a character device 0:0 is not copied")
			return &as, nil
		}
		h.Typeflag = tar.TypeChar
		if e.st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(e.st.Rdev)), int64(unix.Minor(e.st.Rdev))
	default:
		c.note(path.Join(c.tree.Name, e.path), "a socket is not copied")
		return &as, nil
	}
	if c.isLink(h, e, &as) {
		return &as, c.header(h)
	}
	byPath := fmt.Sprintf("/proc/self/fd/%d/%s", e.parent, e.base)
	list := func(b []byte) (int, error) { return unix.Llistxattr(byPath, b) }
	get := func(name string, b []byte) (int, error) { return unix.Lgetxattr(byPath, name, b) }
	if _, err := c.xattrs(h, list, get); err != nil {
		return nil, ignoreGone(err, "read attributes of "+e.path)
	}
	if err := c.header(h); err != nil {
		return nil, err
	}
	c.remember(h, e, as)
	return &as, nil
}

// ignoreGone wraps an error, unless it is that a file is gone.
func ignoreGone(err error, what string) error {
	if err == unix.ENOENT || err == unix.ESTALE || err == unix.EINVAL { // EINVAL: it is no link any more
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (c *copier) directory(h *tar.Header, e *entry) error {
	h.Typeflag = tar.TypeDir
	h.Name += "/"
	opaque := false
	if e.mount {
		c.note(path.Join(c.tree.Name, e.path), "what is mounted there is not copied")
	} else {
		fd := int(e.dir.Fd())
		var err error
		opaque, err = c.xattrs(h, func(b []byte) (int, error) { return unix.Flistxattr(fd, b) }, func(name string, b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
		if err != nil {
			return fmt.Errorf("read attributes of %s: %w", e.path, err)
		}
	}
	if err := c.header(h); err != nil {
		return err
	}
	if opaque {
		return c.mark(path.Join(e.path, opaqueMarker), whiteoutUpper, h.ModTime)
	}
	return nil
}

// regular writes a regular file. A file that changes while it is read is copied again later.
func (c *copier) regular(h *tar.Header, e *entry) (*seen, error) {
	fd, err := unix.Openat(e.parent, e.base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOATIME, 0)
	if err != nil {
		if err == unix.ELOOP || err == unix.ENXIO { // it is something else by now
			return nil, nil
		}
		return nil, ignoreGone(err, "open "+e.path)
	}
	f := os.NewFile(uintptr(fd), e.path)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Ino != e.st.Ino {
		return nil, nil
	}
	e.st = st
	as := see(e.path, &st)
	h.Typeflag, h.Size, h.Mode, h.Uid, h.Gid, h.ModTime = tar.TypeReg, st.Size, int64(st.Mode&0o7777), int(st.Uid), int(st.Gid), time.Unix(st.Mtim.Unix())
	if c.isLink(h, e, &as) {
		return &as, c.header(h)
	}
	if c.layer == live {
		// A store to a page that is dirty already does not change ctime: only when the page is
		// clean does the next store show. fdatasync would flush the disk as well, for each file.
		const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
		if err := unix.SyncFileRange(fd, 0, 0, all); err != nil {
			return nil, fmt.Errorf("write %s to disk: %w", e.path, err)
		}
	}
	_, err = c.xattrs(h, func(b []byte) (int, error) { return unix.Flistxattr(fd, b) }, func(name string, b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
	if err != nil {
		return nil, fmt.Errorf("read attributes of %s: %w", e.path, err)
	}
	if st.Size > maxFileSize {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", e.path, st.Size, int64(maxFileSize))
	}
	short := false
	copyTo := func(to io.Writer) func(extent) error {
		return func(x extent) error {
			s, err := content(to, f, x, c.buffer, c.check)
			c.bytes += x.size
			if c.progress != nil {
				c.progress(c.bytes)
			}
			short = short || s
			return err
		}
	}
	if list, sparse := extents(f, st.Size); sparse {
		err = c.sparseFile(h, list, copyTo(c.out))
	} else if err = c.header(h); err == nil {
		err = copyTo(c.tar)(extent{0, st.Size})
	}
	if err != nil {
		return nil, fmt.Errorf("copy %s: %w", e.path, err)
	}
	if short && c.layer == frozen {
		c.note(path.Join(c.tree.Name, e.path), "it became shorter while it was read, by a process outside of the container")
	}
	c.remember(h, e, as)
	return &as, nil
}

// isLink makes h a hard link if the file is in this layer already, and as what the file looked like
// then.
func (c *copier) isLink(h *tar.Header, e *entry, as *seen) bool {
	first, ok := c.links[inode{e.st.Dev, e.st.Ino}]
	if !ok || e.st.Nlink < 2 {
		return false
	}
	h.Typeflag, h.Linkname, h.Size = tar.TypeLink, c.member(first.path), 0
	as.Seen = first.as
	return true
}

// remember remembers the first name of a file that has several.
func (c *copier) remember(h *tar.Header, e *entry, as seen) {
	if e.st.Nlink < 2 || c.linkRoom < 0 {
		return
	}
	if c.linkRoom -= len(e.path) + 200; c.linkRoom < 0 {
		c.note(c.tree.Name, "has so many hard links that some are copied as files of their own")
		return
	}
	c.links[inode{e.st.Dev, e.st.Ino}] = linked{e.path, as.Seen}
}
