package unpack

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"strings"

	"stead/runtime/xattr"

	"golang.org/x/sys/unix"
)

// beneath makes the kernel refuse a path that leaves the directory, by .. or by a link.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// openDir opens a directory of the layer by its name; "" is the root.
func (l *Layer) openDir(name string, flags int) (int, error) {
	if name == "" {
		name = "."
	}
	fd, err := -1, error(unix.EAGAIN) // a rename elsewhere on the host may have it look up .. in a link again
	for tries := 0; err == unix.EAGAIN && tries < 1000; tries++ {
		fd, err = unix.Openat2(l.root, name, &unix.OpenHow{Flags: uint64(unix.O_DIRECTORY | unix.O_CLOEXEC | flags), Resolve: beneath})
	}
	switch err {
	case unix.EXDEV, unix.ELOOP:
		return -1, fmt.Errorf("%s leaves the root through a link", name)
	case unix.ENOTDIR:
		return -1, fmt.Errorf("%s is no directory", name)
	}
	return fd, err
}

// parentOf opens the directory that holds an entry, and makes it if it has none and makeIt is
// set. The descriptor is valid until the next call.
func (l *Layer) parentOf(name string, makeIt bool) (int, error) {
	dir := path.Dir(name)
	if dir == "." {
		return l.root, nil
	}
	if l.parent.fd >= 0 && l.parent.name == dir {
		return l.parent.fd, nil
	}
	fd, err := l.openDir(dir, unix.O_PATH)
	if err == unix.ENOENT && makeIt {
		fd, err = l.imply(dir)
	}
	if err != nil {
		return -1, err
	}
	l.forgetParent()
	l.parent = cachedDir{dir, fd}
	return fd, nil
}

func (l *Layer) forgetParent() {
	if l.parent.fd >= 0 {
		unix.Close(l.parent.fd)
	}
	l.parent.fd = -1
}

// imply makes a directory that has no entry, and those above it, and opens it. Finish gives
// it the attributes of the directory below it.
func (l *Layer) imply(dir string) (int, error) {
	at := 0
	for {
		next := strings.IndexByte(dir[at:], '/')
		name := dir
		if next >= 0 {
			name = dir[:at+next]
		}
		above, err := l.openDir(strings.TrimSuffix(name[:at], "/"), unix.O_PATH)
		if err != nil {
			return -1, err
		}
		err = unix.Mkdirat(above, name[at:], 0o755)
		if err == nil {
			err = unix.Fchmodat(above, name[at:], 0o755, 0) // whatever the umask
			l.implied[name] = l.step
			err = errors.Join(err, l.remember(name))
		} else if err == unix.EEXIST {
			err = nil // or a link to nothing: then the next step fails
		}
		unix.Close(above)
		if err != nil {
			return -1, err
		}
		if next < 0 {
			return l.openDir(dir, unix.O_PATH)
		}
		at += next + 1
	}
}

// makeDirectory makes a directory, or changes the one that an earlier entry has made.
func (l *Layer) makeDirectory(parent int, base, name string, h *tar.Header) error {
	err := unix.Mkdirat(parent, base, 0o700)
	if err == unix.EEXIST {
		var st unix.Stat_t
		if err = unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if err = l.remove(parent, base, name); err == nil {
				err = unix.Mkdirat(parent, base, 0o700)
			}
		}
	}
	if err != nil {
		return err
	}
	fd, err := unix.Openat(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return l.directory(fd, name, h)
}

// directory sets the attributes of an open directory. Its times are set at the end.
func (l *Layer) directory(fd int, name string, h *tar.Header) error {
	t := timesOf(h)
	t.step = l.step
	l.times[name] = t
	if err := l.remember(name); err != nil {
		return err
	}
	return l.attributes(fd, h)
}

// attributes sets owner, mode and extended attributes of an open file or directory, in this
// order: chown clears set-user-ID bits and capabilities.
func (l *Layer) attributes(fd int, h *tar.Header) error {
	if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	if err := unix.Fchmod(fd, uint32(h.Mode)&0o7777); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	if err := l.dropACLs(func(name string) error { return unix.Fremovexattr(fd, name) }); err != nil {
		return err
	}
	return l.xattrs(h, func(name string, value []byte) error { return unix.Fsetxattr(fd, name, value, 0) })
}

const accessACL, defaultACL = "system.posix_acl_access", "system.posix_acl_default"

// dropACLs removes the access control lists that a new file got from its directory.
func (l *Layer) dropACLs(remove func(string) error) error {
	if !l.inheritsACLs { // as in nearly all layers
		return nil
	}
	for _, name := range []string{accessACL, defaultACL} {
		if err := remove(name); err != nil && err != unix.ENODATA && err != unix.ENOTSUP {
			return fmt.Errorf("remove inherited %s: %w", name, err)
		}
	}
	return nil
}

// xattrs sets the extended attributes of an entry. One that can't be set fails the layer: a
// program that lost its capabilities would fail much later.
func (l *Layer) xattrs(h *tar.Header, set func(string, []byte) error) error {
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, xattr.TarPrefix)
		if !ok {
			continue
		}
		if !xattr.Keeps(name) {
			l.Dropped++
			continue
		}
		l.inheritsACLs = l.inheritsACLs || name == defaultACL
		if err := set(name, []byte(value)); err != nil {
			return fmt.Errorf("set extended attribute %.100q: %w", name, err)
		}
	}
	return nil
}

// create makes what is neither a directory nor a hard link. The error is EEXIST if there is
// something of that name.
func (l *Layer) create(parent int, base string, h *tar.Header, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		return l.regular(parent, base, h, content)
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, parent, base); err != nil {
			return err
		}
	case tar.TypeFifo:
		if err := unix.Mknodat(parent, base, unix.S_IFIFO|0o600, 0); err != nil {
			return err
		}
	case tar.TypeChar, tar.TypeBlock:
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return fmt.Errorf("%d:%d is no device", h.Devmajor, h.Devminor)
		}
		kind := uint32(unix.S_IFBLK)
		if h.Typeflag == tar.TypeChar {
			kind = unix.S_IFCHR
		}
		if h.Devmajor == 0 && h.Devminor == 0 && kind == unix.S_IFCHR {
			return errors.New("character device 0:0 would delete a file of a lower layer")
		}
		if err := unix.Mknodat(parent, base, kind|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))); err != nil {
			return err
		}
	default:
		return fmt.Errorf("entries of type %q are not supported", h.Typeflag)
	}
	return l.special(parent, base, h)
}

// special sets the attributes of a link, FIFO or device, which must not be opened.
func (l *Layer) special(parent int, base string, h *tar.Header) error {
	if err := unix.Fchownat(parent, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := unix.Fchmodat(parent, base, uint32(h.Mode)&0o7777, 0); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	byPath := fmt.Sprintf("/proc/self/fd/%d/%s", parent, base)
	if h.Typeflag != tar.TypeSymlink { // which has none
		if err := l.dropACLs(func(name string) error { return unix.Lremovexattr(byPath, name) }); err != nil {
			return err
		}
	}
	if err := l.xattrs(h, func(name string, value []byte) error { return unix.Lsetxattr(byPath, name, value, 0) }); err != nil {
		return err
	}
	t := timesOf(h)
	return setTimes(parent, base, t)
}

func setTimes(parent int, base string, t when) error {
	if err := unix.UtimesNanoAt(parent, base, []unix.Timespec{t.atime, t.mtime}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}

// regular makes a regular file.
func (l *Layer) regular(parent int, base string, h *tar.Header, content io.Reader) error {
	fd, err := unix.Openat(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if err := l.write(f, content, h.Size); err != nil {
		return err
	}
	if err := l.attributes(fd, h); err != nil {
		return err
	}
	return setTimes(parent, base, timesOf(h))
}

// largeHole is the size of blocks of zeros that are left out of the files of a layer.
const largeHole = 64 << 10

var zeros [largeHole]byte

// write writes a file's content. Blocks of zeros become holes: a tar has them of a sparse file.
func (l *Layer) write(f *os.File, content io.Reader, size int64) error {
	at, end := int64(0), int64(0) // end: of what was written
	hole := l.hole
	isHole := func(b []byte) bool { return hole > 0 && len(b) >= hole && string(b[:hole]) == string(zeros[:hole]) }
	for at < size {
		buffer := l.buffer[:min(int64(len(l.buffer)), size-at)]
		if _, err := io.ReadFull(content, buffer); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		for len(buffer) > 0 {
			data, zero := 0, 0 // blocks of data, and of zeros after them
			for data < len(buffer) && !isHole(buffer[data:]) {
				if data = min(data+hole, len(buffer)); hole == 0 {
					data = len(buffer)
				}
			}
			if data > 0 {
				if _, err := f.WriteAt(buffer[:data], at); err != nil {
					return err
				}
				end = at + int64(data)
			}
			for rest := buffer[data:]; zero < len(rest) && isHole(rest[zero:]); {
				zero += hole
			}
			buffer, at = buffer[data+zero:], at+int64(data+zero)
		}
	}
	if end < size {
		return f.Truncate(size)
	}
	return nil
}

// hardLink links an entry to another of this layer, or has Finish do it.
func (l *Layer) hardLink(parent int, base, name, to string) error {
	target, err := clean(to)
	if err != nil || target == "" {
		return fmt.Errorf("its target %.200q leaves the root", to)
	}
	if target == name {
		return nil
	}
	dir := path.Dir(target)
	if dir == "." {
		dir = ""
	}
	from, err := l.openDir(dir, unix.O_PATH)
	if err == nil {
		defer unix.Close(from)
		err = unix.Linkat(from, path.Base(target), parent, base, 0)
		if err == unix.EEXIST {
			if err = l.remove(parent, base, name); err == nil {
				err = unix.Linkat(from, path.Base(target), parent, base, 0)
			}
		}
	}
	if err == unix.ENOENT {
		l.links = append(l.links, link{name, target})
		return l.remember(name + target)
	}
	if err != nil {
		return fmt.Errorf("link to %s: %w", target, err)
	}
	return nil
}

// remove removes what an earlier entry has made.
func (l *Layer) remove(parent int, base, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && kind != unix.S_IFLNK {
		return unix.Unlinkat(parent, base, 0)
	}
	if strings.HasPrefix(l.parent.name+"/", name+"/") {
		l.forgetParent()
	}
	if l.removed[name] == 0 {
		if err := l.remember(name); err != nil {
			return err
		}
	}
	l.step++
	l.removed[name] = l.step
	if kind == unix.S_IFLNK { // entries may have gone through it
		return unix.Unlinkat(parent, base, 0)
	}
	// Whatever is in it was made here, and no link in it is followed.
	return os.RemoveAll(fmt.Sprintf("/proc/self/fd/%d/%s", parent, base))
}

// forgetRemoved forgets what is remembered of directories that were removed, and of those in them.
// This is done once: a layer may remove directories as often as it has entries.
func (l *Layer) forgetRemoved() {
	gone := func(name string, step int) bool {
		for ; name != "."; name = path.Dir(name) {
			if l.removed[name] > step {
				return true
			}
		}
		return false
	}
	for _, m := range []map[string]int{l.implied, l.opaque} {
		maps.DeleteFunc(m, gone)
	}
	maps.DeleteFunc(l.times, func(name string, w when) bool { return gone(name, w.step) })
	clear(l.removed)
}
