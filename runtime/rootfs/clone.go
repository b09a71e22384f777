package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"stead/runtime/xattr"

	"golang.org/x/sys/unix"
)

// Clone copies a directory as it is on disk into the existing, empty directory to: owners, modes,
// times, extended attributes, hard links, holes, and what overlay has made. Where the file system
// can, both share the content of files until one is changed (reflink). Sockets and what is
// mounted in it are left out. Nobody else may change either directory meanwhile; no link is followed.
func Clone(ctx context.Context, from, to string) error {
	return (&cloner{ctx: ctx}).clone(from, to)
}

// CloneContent is Clone without what is of this place: the marks of overlay and other attributes
// that xattr.Keeps does not keep.
func CloneContent(ctx context.Context, from, to string) error {
	return (&cloner{ctx: ctx, contentOnly: true}).clone(from, to)
}

func (c *cloner) clone(from, to string) error {
	c.links, c.room = map[inode]string{}, maxLinkRoom
	src, err := openDir(unix.AT_FDCWD, from)
	if err != nil {
		return &os.PathError{Op: "open", Path: from, Err: err}
	}
	defer src.Close()
	dst, err := openDir(unix.AT_FDCWD, to)
	if err != nil {
		return &os.PathError{Op: "open", Path: to, Err: err}
	}
	defer dst.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	c.top = int(dst.Fd())
	if err := c.directory(src, dst, "", &st); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return os.NewSyscallError("syncfs", unix.Syncfs(c.top))
}

func openDir(dir int, name string) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// cloner is the state of one Clone.
type cloner struct {
	ctx         context.Context
	contentOnly bool
	top         int              // the new directory
	links       map[inode]string // the first names of files with several
	room        int              // bytes of names that links may still take
}

type inode struct{ dev, ino uint64 }

// maxLinkRoom bounds the memory for names of files that have several. Files beyond it are copied
// once for each name.
const maxLinkRoom = 32 << 20

// directory copies what is in a directory, and then its attributes: its time changes while files are
// made in it.
func (c *cloner) directory(src, dst *os.File, at string, st *unix.Stat_t) error {
	names, err := src.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.ctx.Err(); err != nil {
			return context.Cause(c.ctx)
		}
		if err := c.entry(int(src.Fd()), int(dst.Fd()), name, path.Join(at, name)); err != nil {
			return fmt.Errorf("%s: %w", path.Join(at, name), err)
		}
	}
	return c.attributes(int(src.Fd()), int(dst.Fd()), st)
}

func (c *cloner) entry(src, dst int, name, at string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(src, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind, id := st.Mode&unix.S_IFMT, inode{st.Dev, st.Ino}
	if first, ok := c.links[id]; ok && kind != unix.S_IFDIR {
		return c.link(first, dst, name)
	}
	var err error
	switch kind {
	case unix.S_IFSOCK:
		return nil
	case unix.S_IFDIR:
		err = c.subdirectory(src, dst, name, at)
	case unix.S_IFREG:
		err = c.regular(src, dst, name)
	default:
		err = c.special(src, dst, name, &st)
	}
	if err == unix.EXDEV { // it is a mount
		return nil
	}
	if err == nil && kind != unix.S_IFDIR && st.Nlink > 1 && c.room > 0 {
		c.room -= len(at) + 64
		c.links[id] = at
	}
	return err
}

// openBelow opens what nothing is mounted on. A subvolume of btrfs is another device, and no
// mount.
func openBelow(dir int, name string, flags int) (int, error) {
	return unix.Openat2(dir, name, &unix.OpenHow{Flags: uint64(unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC | flags), Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_BENEATH})
}

// special copies a link, FIFO or device.
func (c *cloner) special(src, dst int, name string, st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(src, name, target)
		if err == nil {
			err = unix.Symlinkat(string(target[:n]), dst, name)
		}
		if err != nil {
			return err
		}
	default:
		if err := unix.Mknodat(dst, name, st.Mode, int(st.Rdev)); err != nil {
			return err
		}
	}
	return c.specialAttributes(src, dst, name, st)
}

// link makes a further name of a file of the copy.
func (c *cloner) link(first string, dst int, name string) error {
	dir, err := unix.Openat2(c.top, path.Dir(first), &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return unix.Linkat(dir, path.Base(first), dst, name, 0)
}

func (c *cloner) subdirectory(src, dst int, name, at string) error {
	fd, err := openBelow(src, name, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	from := os.NewFile(uintptr(fd), name)
	defer from.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return err
	}
	if err := unix.Mkdirat(dst, name, 0o700); err != nil {
		return err
	}
	to, err := openDir(dst, name)
	if err != nil {
		return err
	}
	defer to.Close()
	return c.directory(from, to, at, &st)
}

func (c *cloner) regular(src, dst int, name string) error {
	fd, err := openBelow(src, name, unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	from := os.NewFile(uintptr(fd), name)
	defer from.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errors.New("it was replaced meanwhile")
	}
	out, err := unix.Openat(dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	to := os.NewFile(uintptr(out), name)
	defer to.Close()
	if unix.IoctlFileClone(out, fd) != nil { // most file systems can't
		if err := c.content(from, to, st.Size); err != nil {
			return err
		}
	}
	return c.attributes(fd, out, &st)
}

// content copies what is not a hole.
func (c *cloner) content(from, to *os.File, size int64) error {
	for at := int64(0); at < size; {
		if err := c.ctx.Err(); err != nil {
			return context.Cause(c.ctx)
		}
		begin, err := unix.Seek(int(from.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO { // a hole up to the end
			break
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(int(from.Fd()), begin, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		end = min(end, begin+64<<20)
		if _, err := from.Seek(begin, io.SeekStart); err != nil {
			return err
		}
		if _, err := to.Seek(begin, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(to, from, end-begin); err != nil { // by copy_file_range(2)
			return err
		}
		at = end
	}
	return to.Truncate(size)
}

// attributes sets owner, mode, extended attributes and times of an open file or directory.
func (c *cloner) attributes(src, dst int, st *unix.Stat_t) error {
	if err := unix.Fchown(dst, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(dst, st.Mode&0o7777); err != nil {
		return err
	}
	all, err := xattr.List(src, unix.Flistxattr, unix.Fgetxattr)
	if err != nil {
		return err
	}
	if err := c.setXattrs(all, func(name string, value []byte) error { return unix.Fsetxattr(dst, name, value, 0) }); err != nil {
		return err
	}
	return setTimes(fmt.Sprintf("/proc/self/fd/%d", dst), st, 0)
}

// specialAttributes sets those of a link, FIFO or device, which must not be opened.
func (c *cloner) specialAttributes(src, dst int, name string, st *unix.Stat_t) error {
	if err := unix.Fchownat(dst, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(dst, name, st.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	to := fmt.Sprintf("/proc/self/fd/%d/%s", dst, name)
	all, err := xattr.List(fmt.Sprintf("/proc/self/fd/%d/%s", src, name), unix.Llistxattr, unix.Lgetxattr)
	if err != nil {
		return err
	}
	if err := c.setXattrs(all, func(name string, value []byte) error { return unix.Lsetxattr(to, name, value, 0) }); err != nil {
		return err
	}
	return setTimes(to, st, unix.AT_SYMLINK_NOFOLLOW)
}

func (c *cloner) setXattrs(all map[string][]byte, set func(name string, value []byte) error) error {
	for name, value := range all {
		if c.contentOnly && !xattr.Keeps(name) {
			continue
		}
		if err := set(name, value); err != nil {
			return fmt.Errorf("set extended attribute %.100q: %w", name, err)
		}
	}
	return nil
}

func setTimes(file string, st *unix.Stat_t, flags int) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, file, []unix.Timespec{st.Atim, st.Mtim}, flags)
}
