package unpack

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"stead/runtime/xattr"

	"golang.org/x/sys/unix"
)

// NeedsLowers reports whether the layer's files depend on its lower layers: such a layer can be
// shared only by images with the same layers below it.
func (l *Layer) NeedsLowers() bool {
	return len(l.implied)+len(l.links)+len(l.deleted)+len(l.opaque) > 0
}

// Finish takes over what the layer needs of its lower layers, their directories with the
// bottom first, and sets the times of directories.
func (l *Layer) Finish(lowers []string) error {
	l.forgetParent()
	l.forgetRemoved()
	var open []int
	defer func() {
		for _, fd := range open {
			unix.Close(fd)
		}
	}()
	if l.NeedsLowers() {
		for _, dir := range lowers {
			fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("open layer %s: %w", dir, err)
			}
			open = append(open, fd)
		}
	}
	if err := l.hide(open); err != nil {
		return err
	}
	for _, k := range l.links {
		if err := l.linkBelow(open, k); err != nil {
			return fmt.Errorf("unpack %.200q: hard link to %.200q: %w", k.name, k.target, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.implied)) { // after the links, which imply more
		if err := l.inherit(open, name); err != nil {
			return fmt.Errorf("unpack %.200q: %w", name, err)
		}
	}
	for name, t := range l.times {
		fd, err := l.openDir(name, unix.O_RDONLY|unix.O_NOFOLLOW)
		if err != nil {
			return fmt.Errorf("set times of %.200q: %w", name, err)
		}
		err = setTimesOf(fd, t)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("set times of %.200q: %w", name, err)
		}
	}
	return nil
}

func setTimesOf(fd int, t when) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), []unix.Timespec{t.atime, t.mtime}, 0)
}

// inherit gives a directory without an entry the attributes of the one below it.
func (l *Layer) inherit(lowers []int, name string) error {
	for above := path.Dir(name); above != "."; above = path.Dir(above) {
		if l.opaque[above] > 0 { // nothing shows from below
			return nil
		}
	}
	if l.OpaqueRoot() {
		return nil
	}
	below, err := openBelow(lowers, name, unix.S_IFDIR)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == errKind {
		return nil
	}
	if err != nil {
		return err
	}
	defer below.Close()
	fd, err := l.openDir(name, unix.O_RDONLY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	t, err := copyAttributes(below, fd)
	l.times[name] = t
	return err
}

// linkBelow copies a file of a lower layer into this one, as overlay does for a file that
// changes, and links it.
func (l *Layer) linkBelow(lowers []int, k link) error {
	var st unix.Stat_t
	err := l.stat(k.target, &st)
	if err == nil && isWhiteout(&st) {
		return unix.ENOENT
	}
	if err == unix.ENOENT { // else an earlier link has brought it
		err = l.copyUp(lowers, k.target)
	}
	if err != nil {
		return err
	}
	dir := path.Dir(k.target)
	if dir == "." {
		dir = ""
	}
	from, err := l.openDir(dir, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	parent, err := l.parentOf(k.name, true)
	if err != nil {
		return err
	}
	return unix.Linkat(from, path.Base(k.target), parent, path.Base(k.name), 0)
}

// copyUp copies a regular file of a lower layer.
func (l *Layer) copyUp(lowers []int, name string) error {
	below, err := openBelow(lowers, name, unix.S_IFREG)
	if err != nil {
		return err
	}
	defer below.Close()
	info, err := below.Stat()
	if err != nil {
		return err
	}
	if err := l.spend(name, info.Size()); err != nil {
		return err
	}
	l.Size += info.Size()
	parent, err := l.parentOf(name, true)
	if err != nil {
		return err
	}
	fd, err := unix.Openat(parent, path.Base(name), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if err := l.write(f, io.LimitReader(below, info.Size()), info.Size()); err != nil {
		return err
	}
	t, err := copyAttributes(below, fd)
	if err != nil {
		return err
	}
	return setTimesOf(fd, t)
}

// copyAttributes gives an open file or directory the owner, mode and extended attributes of
// another, and returns that one's times.
func copyAttributes(from *os.File, fd int) (when, error) {
	var st unix.Stat_t
	source := int(from.Fd())
	if err := unix.Fstat(source, &st); err != nil {
		return when{}, err
	}
	err := unix.Fchown(fd, int(st.Uid), int(st.Gid))
	if err == nil {
		err = unix.Fchmod(fd, st.Mode&0o7777)
	}
	if err != nil {
		return when{}, err
	}
	attributes, err := xattr.List(source, unix.Flistxattr, unix.Fgetxattr)
	for name, value := range attributes {
		if xattr.Keeps(name) && err == nil {
			err = unix.Fsetxattr(fd, name, value, 0)
		}
	}
	return when{atime: st.Atim, mtime: st.Mtim}, err
}

var errKind = errors.New("the lower layers have something of another type there")

// openBelow opens a file or directory of the lower layers. Nothing else is opened: a device may
// act on that.
func openBelow(lowers []int, name string, kind uint32) (*os.File, error) {
	at, st, err := find(lowers, name)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	if st.Mode&unix.S_IFMT != kind {
		return nil, errKind
	}
	fd, err := unix.Openat(int(at.Fd()), path.Base(name), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// find looks up a path in the merged tree of layers, the bottom first, and returns the
// directory that holds it. The error is ENOENT if there is none, ENOTDIR if a directory above it
// is a file or a link.
func find(layers []int, name string) (at *os.File, st unix.Stat_t, err error) {
	for _, layer := range slices.Backward(layers) {
		at, st, hidden, err := findIn(layer, name)
		if err != unix.ENOENT || hidden {
			return at, st, err
		}
	}
	return nil, st, unix.ENOENT
}

// findIn is find in one layer. It also reports whether this layer hides the path in those below.
func findIn(layer int, name string) (at *os.File, st unix.Stat_t, hidden bool, err error) {
	fd, err := unix.FcntlInt(uintptr(layer), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, st, false, err
	}
	at = os.NewFile(uintptr(fd), name)
	parts := strings.Split(name, "/")
	for i, part := range parts {
		err := unix.Fstatat(fd, part, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil && isWhiteout(&st) {
			hidden, err = true, unix.ENOENT
		}
		if err == nil && i == len(parts)-1 {
			return at, st, hidden, nil
		}
		if err == nil {
			fd, err = unix.Openat(fd, part, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err == unix.ELOOP { // a link
				err = unix.ENOTDIR
			}
		}
		at.Close()
		if err != nil {
			return nil, st, hidden, err
		}
		at = os.NewFile(uintptr(fd), part)
		value := make([]byte, 8)
		n, err := unix.Fgetxattr(fd, opaqueXattr, value)
		hidden = hidden || err == nil && string(value[:n]) == "y"
	}
	return nil, st, hidden, unix.ENOENT // not reached: a name has a part
}
