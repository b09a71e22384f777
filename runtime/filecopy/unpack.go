package filecopy

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

// Options of Unpack.
type Options struct {
	As string // the name of the stream's top (Name of what was packed); "" for a foreign tar, whose names stay
	// Plain takes set-user-ID and set-group-ID bits and capabilities away: what a container calls
	// root's must not be that on the host.
	Plain bool
	MaxID int // the highest id that a file can have; 0 for no limit
	// Covered is what is mounted over while the container runs; nothing goes there.
	Covered []Covered
}

// unpacker puts a stream in place.
type unpacker struct {
	Options
	ctx    context.Context
	root   *root
	place  *place
	parent int // the directory that was opened last, -1 for none
	name   string
	open   []opened // the directories made here that the stream is in, outermost first
	buffer []byte
	notes
}

// opened is a directory that was made, whose times are set when all is in it.
type opened struct {
	name  string
	times time.Time
}

// Unpack puts the stream of a tar in place, at or in name of the root that fd is open on. Files
// appear when they are complete, in place of those of the same name; directories that are
// there keep their owner and mode.
func Unpack(ctx context.Context, fd int, name string, r io.Reader, o Options) ([]Note, error) {
	root := newRoot(fd, o.Covered)
	u := &unpacker{Options: o, ctx: ctx, root: root, parent: -1, buffer: make([]byte, 256<<10)}
	var err error
	if o.As != "" {
		u.place, err = root.find(name, o.As)
	} else {
		u.place, err = root.findDir(name)
	}
	if err != nil {
		return nil, fmt.Errorf("copy to %s: %w", name, explain(err))
	}
	defer unix.Close(u.place.dir)
	defer u.forget()
	if err := u.all(tar.NewReader(&stoppable{ctx, r})); err != nil {
		return u.notes, fmt.Errorf("copy to %s: %w", name, explain(err))
	}
	return u.notes, nil
}

func (r *root) findDir(name string) (*place, error) {
	p, err := r.find(strings.TrimRight(name, "/")+"/.", ".")
	if err == unix.EISDIR { // it ends with /. and is no directory
		err = errors.New("there is no such directory, and a tar stream goes into one")
	}
	return p, err
}

func (u *unpacker) all(r *tar.Reader) error {
	for {
		h, err := r.Next()
		if err == io.EOF {
			return u.leave("")
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		name, err := u.nameOf(h.Name)
		if err == nil {
			if err = u.leave(name); err == nil {
				err = u.entry(name, h, r)
			}
		}
		if err != nil {
			return fmt.Errorf("%.200s: %w", h.Name, explain(err))
		}
	}
}

// nameOf returns where an entry goes, below the directory of the place; "" is that itself.
func (u *unpacker) nameOf(name string) (string, error) {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", errors.New("its name leaves the directory (..)")
		}
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", errors.New("its name holds a NUL byte")
	}
	name = strings.Trim(path.Clean("/"+name), "/")
	if u.As != "" && u.As != "." {
		first, rest, _ := strings.Cut(name, "/")
		if first != u.As {
			return "", errors.New("it does not belong to what is copied")
		}
		name = rest
	}
	if u.As != "" {
		name = strings.Trim(path.Clean("/"+u.place.top+"/"+name), "/")
	}
	return name, nil
}

// entry puts one entry in place.
func (u *unpacker) entry(name string, h *tar.Header, content io.Reader) error {
	if u.MaxID > 0 && max(h.Uid, h.Gid) > u.MaxID {
		return fmt.Errorf("it belongs to %d:%d, and a container has the ids 0 to %d", h.Uid, h.Gid, u.MaxID)
	}
	if u.Plain && h.Typeflag != tar.TypeDir && h.Mode&0o6000 != 0 {
		u.add(name, "copied without its set-user-ID and set-group-ID bits")
		h.Mode &^= 0o6000
	}
	if name == "" {
		if h.Typeflag != tar.TypeDir {
			return unix.EISDIR
		}
		return nil // it is there
	}
	dir, err := u.dirOf(name)
	if err != nil {
		return err
	}
	base := path.Base(name)
	if err := u.root.checkEntry(dir, base, "it"); err != nil {
		return err
	}
	if u.place.mustBeDir && h.Typeflag != tar.TypeDir && name == u.place.top {
		return errors.New("there is no such directory")
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.directory(dir, base, name, h)
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.replace(dir, base, func(tmp string) error { return u.regular(dir, tmp, name, h, content) })
	case tar.TypeSymlink:
		return u.replace(dir, base, func(tmp string) error {
			if err := unix.Symlinkat(h.Linkname, dir, tmp); err != nil {
				return err
			}
			if err := unix.Fchownat(dir, tmp, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return err
			}
			return setTime(dir, tmp, h.ModTime)
		})
	case tar.TypeLink:
		return u.hardLink(dir, base, name, h)
	case tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		u.add(name, "not copied: it is "+map[byte]string{tar.TypeFifo: "a FIFO", tar.TypeChar: "a device", tar.TypeBlock: "a device"}[h.Typeflag])
		return nil
	}
	return fmt.Errorf("entries of type %q are not copied", h.Typeflag)
}

// dirOf opens the directory that holds an entry. Links are not followed: whoever can write there
// could lead the copy elsewhere. The descriptor is valid until the next call.
func (u *unpacker) dirOf(name string) (int, error) {
	dir := path.Dir(name)
	if dir == "." {
		return u.place.dir, nil
	}
	if u.parent >= 0 && u.name == dir {
		return u.parent, nil
	}
	fd, err := openat2(u.place.dir, dir, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
	if err == unix.ELOOP || err == unix.ENOTDIR {
		err = fmt.Errorf("%s is a link or a file there, want a directory", dir)
	}
	if err == unix.ENOENT && u.As == "" { // a foreign tar need not have its directories
		fd, err = u.makeDirs(dir)
	}
	if err != nil {
		return -1, err
	}
	if err := u.root.uncovered(fd, dir); err != nil {
		unix.Close(fd)
		return -1, err
	}
	u.forget()
	u.parent, u.name = fd, dir
	return fd, nil
}

func (u *unpacker) makeDirs(dir string) (int, error) {
	above, err := u.dirOf(dir)
	if err == nil {
		err = u.root.checkEntry(above, path.Base(dir), "it")
	}
	if err == nil {
		err = unix.Mkdirat(above, path.Base(dir), 0o755)
	}
	if err != nil && err != unix.EEXIST {
		return -1, err
	}
	return openat2(above, path.Base(dir), &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
}

func (u *unpacker) forget() {
	if u.parent >= 0 {
		unix.Close(u.parent)
	}
	u.parent = -1
}

func (u *unpacker) directory(dir int, base, name string, h *tar.Header) error {
	err := unix.Mkdirat(dir, base, 0o700)
	made := err == nil
	if err != nil && err != unix.EEXIST {
		return err
	}
	fd, err := openat2(dir, base, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
	if err == unix.ELOOP || err == unix.ENOTDIR {
		return errors.New("there is a file or a link of that name, which no directory replaces")
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !made {
		return nil
	}
	u.open = append(u.open, opened{name, h.ModTime})
	return u.attributes(fd, name, h)
}

// leave sets the times of directories that the stream has left for name.
func (u *unpacker) leave(name string) error {
	for len(u.open) > 0 {
		last := u.open[len(u.open)-1]
		if name != "" && strings.HasPrefix(name, last.name+"/") {
			return nil
		}
		u.open = u.open[:len(u.open)-1]
		dir, err := u.dirOf(last.name)
		if err == nil {
			err = setTime(dir, path.Base(last.name), last.times)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// replace puts what make makes under a temporary name in the place of base. A directory is not
// replaced.
func (u *unpacker) replace(dir int, base string, make func(tmp string) error) error {
	var st unix.Stat_t
	if unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return errors.New("there is a directory of that name, which no file replaces")
	}
	tmp := tmpName(base)
	err := make(tmp)
	if err == unix.EEXIST { // of a copy that was killed
		if err = removeAbandoned(dir, tmp); err == nil {
			err = make(tmp)
		}
	}
	if err == errBusy {
		return err // the file is that of another copy
	}
	if err == nil {
		err = unix.Renameat(dir, tmp, dir, base)
	}
	unix.Unlinkat(dir, tmp, 0) // it is there if that failed, or if both are names of one file
	return err
}

var errBusy = errors.New("another copy is writing it; try again")

// removeAbandoned removes a temporary file, unless a copy that is under way has locked it.
func removeAbandoned(dir int, tmp string) error {
	fd, err := unix.Openat(dir, tmp, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK {
			return errBusy
		}
	}
	return unix.Unlinkat(dir, tmp, 0)
}

// tmpName returns the name under which a file is written. It is the same each time, so that the
// next copy removes what one that was killed has left.
func tmpName(base string) string {
	const prefix, suffix = ".", ".stead-cp~"
	return prefix + base[:min(len(base), unix.NAME_MAX-len(prefix)-len(suffix))] + suffix
}

func (u *unpacker) regular(dir int, tmp, name string, h *tar.Header, content io.Reader) error {
	fd, err := unix.Openat(dir, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), tmp)
	defer f.Close()
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK { // see removeAbandoned
		return errBusy
	}
	if err := u.write(f, content, h.Size); err != nil {
		return err
	}
	if err := u.attributes(fd, name, h); err != nil {
		return err
	}
	return setTime(dir, tmp, h.ModTime)
}

var zeros [64 << 10]byte

// write writes a file's content; long runs of zeros become holes.
func (u *unpacker) write(f *os.File, content io.Reader, size int64) error {
	for at := int64(0); at < size; {
		b := u.buffer[:min(int64(len(zeros)), size-at)]
		if _, err := io.ReadFull(content, b); err != nil {
			return err
		}
		if len(b) < len(zeros) || string(b) != string(zeros[:]) {
			if _, err := f.WriteAt(b, at); err != nil {
				return err
			}
		}
		at += int64(len(b))
	}
	return f.Truncate(size)
}

// attributes sets owner, mode and extended attributes of an open file, in this order: chown takes
// set-user-ID bits and capabilities away.
func (u *unpacker) attributes(fd int, name string, h *tar.Header) error {
	if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
		return fmt.Errorf("set its owner %d:%d: %w", h.Uid, h.Gid, err)
	}
	if err := unix.Fchmod(fd, uint32(h.Mode)&0o7777); err != nil {
		return err
	}
	for _, name := range []string{"system.posix_acl_access", "system.posix_acl_default"} { // of the directory that it is in
		if err := unix.Fremovexattr(fd, name); err != nil && err != unix.ENODATA && err != unix.ENOTSUP {
			return fmt.Errorf("remove inherited %s: %w", name, err)
		}
	}
	for key, value := range h.PAXRecords {
		attribute, ok := strings.CutPrefix(key, xattr.TarPrefix)
		if !ok || !keepsXattr(attribute) {
			continue
		}
		if u.Plain && attribute == capability {
			u.add(name, "copied without its capabilities")
			continue
		}
		if err := unix.Fsetxattr(fd, attribute, []byte(value), 0); err != nil {
			u.add(name, fmt.Sprintf("copied without its extended attribute %.100s: %v", attribute, err))
		}
	}
	return nil
}

func (u *unpacker) hardLink(dir int, base, name string, h *tar.Header) error {
	target, err := u.nameOf(h.Linkname)
	if err != nil || target == "" {
		return fmt.Errorf("its target %.200q is outside of what is copied", h.Linkname)
	}
	if target == name {
		return nil
	}
	dir, err = unix.FcntlInt(uintptr(dir), unix.F_DUPFD_CLOEXEC, 0) // dirOf closes it
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	from, err := u.dirOf(target)
	if err != nil {
		return err
	}
	return u.replace(dir, base, func(tmp string) error { return unix.Linkat(from, path.Base(target), dir, tmp, 0) })
}

func setTime(dir int, base string, t time.Time) error {
	ts, err := unix.TimeToTimespec(t)
	if err != nil || t.IsZero() {
		ts = unix.Timespec{}
	}
	return unix.UtimesNanoAt(dir, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}
