package filecopy

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"stead/runtime/xattr"

	"golang.org/x/sys/unix"
)

// packer writes a file or directory as a tar.
type packer struct {
	ctx    context.Context
	root   *root
	tar    *tar.Writer
	links  map[inode]string // the first name of files with several
	room   int              // bytes of names that links may still take
	buffer []byte
	notes
}

// maxLinkRoom bounds the memory for names of files that have several. Files beyond it are copied
// once for each name.
const maxLinkRoom = 32 << 20

// Pack writes a file or directory of the root that fd is open on to w. Its name in the stream is
// Name(name), and of a directory all below is below that. A link that name leads to is followed;
// links in the tree are kept.
func Pack(ctx context.Context, fd int, name string, covered []Covered, w io.Writer) ([]Note, error) {
	p := &packer{ctx: ctx, root: newRoot(fd, covered), tar: tar.NewWriter(w), links: map[inode]string{}, room: maxLinkRoom, buffer: make([]byte, 256<<10)}
	if err := p.top(name); err != nil {
		return p.notes, fmt.Errorf("copy %s: %w", name, explain(err))
	}
	return p.notes, p.tar.Close()
}

func (p *packer) top(name string) error {
	at, err := p.root.open(name, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return err
	}
	if kind := kindOf(st.Mode); kind != "" {
		return errors.New("it is " + kind + ", which is not copied")
	}
	if isKernels(at) {
		return errKernels
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if c, ok := p.root.covered[inodeOf(&st)]; ok {
		return &CoveredError{name, c}
	}
	if isDir {
		err = p.root.uncovered(at, name)
	} else { // the directory it is in, as the name has it: a link may lead to a file elsewhere
		err = p.uncoveredParent(name)
	}
	if err != nil {
		return err
	}
	// Opened again for reading: only files and directories may be.
	flags := unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	if isDir {
		flags |= unix.O_DIRECTORY
	}
	fd, err := p.root.open(name, flags)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	as := Name(name)
	if as == "." && !isDir {
		return unix.ENOTDIR
	}
	return p.file(f, as)
}

// uncoveredParent checks the directory that a file was found in, following links as the kernel does.
func (p *packer) uncoveredParent(name string) error {
	if len(p.root.covered) == 0 {
		return nil
	}
	dir, _, err := p.root.parent(name)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return p.root.uncovered(dir, name)
}

// file writes an open file or directory, and what is in it.
func (p *packer) file(f *os.File, as string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return p.regular(f, as, &st)
	case unix.S_IFDIR:
		return p.directory(f, as, &st)
	}
	return errChanged
}

var errChanged = errors.New("it was replaced by another kind of file meanwhile")

func (p *packer) directory(dir *os.File, as string, st *unix.Stat_t) error {
	h := headerOf(as+"/", tar.TypeDir, st)
	if err := p.header(h, int(dir.Fd())); err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		err := p.entry(int(dir.Fd()), name, path.Join(as, name), st.Dev)
		if errors.Is(err, unix.ENOENT) { // deleted meanwhile
			continue
		}
		if at := new(entryError); err != nil && !errors.As(err, &at) {
			err = &entryError{path.Join(as, name), explain(err)}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// entryError is an error of an entry; the directories above don't repeat it.
type entryError struct {
	path string
	err  error
}

func (e *entryError) Error() string { return e.path + ": " + e.err.Error() }
func (e *entryError) Unwrap() error { return e.err }

// entry writes one entry of a directory.
func (p *packer) entry(dir int, base, as string, dev uint64) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if c, ok := p.root.covered[inodeOf(&st)]; ok {
		p.add(as, "not copied: "+c.By+" is mounted there while the container runs")
		return nil
	}
	if kind := kindOf(st.Mode); kind != "" {
		p.add(as, "not copied: it is "+kind)
		return nil
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return p.link(dir, base, as, &st)
	}
	// Nothing but a file or directory is opened: opening a device may act.
	fd, err := openat2(dir, base, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
	if err == unix.ELOOP || err == unix.ENXIO {
		err = errChanged
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), as)
	defer f.Close()
	if st.Dev != dev && isKernels(fd) {
		p.add(as, "not copied: the kernel makes its files up")
		return nil
	}
	return p.file(f, as)
}

func (p *packer) link(dir int, base, as string, st *unix.Stat_t) error {
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, base, target)
	if err == unix.EINVAL {
		err = errChanged
	}
	if err != nil {
		return err
	}
	h := headerOf(as, tar.TypeSymlink, st)
	h.Linkname = string(target[:n])
	return p.tar.WriteHeader(h)
}

func (p *packer) regular(f *os.File, as string, st *unix.Stat_t) error {
	h := headerOf(as, tar.TypeReg, st)
	if st.Nlink > 1 {
		if first, ok := p.links[inodeOf(st)]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return p.tar.WriteHeader(h)
		}
		if p.room -= len(as) + 64; p.room > 0 {
			p.links[inodeOf(st)] = as
		}
	}
	h.Size = st.Size
	if err := p.header(h, int(f.Fd())); err != nil {
		return err
	}
	n, err := io.CopyBuffer(onlyWriter{p.tar}, io.LimitReader(&stoppable{p.ctx, f}, h.Size), p.buffer)
	if err != nil {
		return err
	}
	if n < h.Size { // the size is written already
		p.add(as, "became shorter while it was read")
		_, err = io.CopyN(onlyWriter{p.tar}, zeroReader{}, h.Size-n)
	}
	return err
}

// stoppable is a reader that ends with its context.
type stoppable struct {
	ctx context.Context
	io.Reader
}

func (s *stoppable) Read(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.Reader.Read(b)
}

// onlyWriter hides ReadFrom, which would take another buffer for each file.
type onlyWriter struct{ io.Writer }

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func headerOf(name string, kind byte, st *unix.Stat_t) *tar.Header {
	return &tar.Header{
		Typeflag: kind, Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX,
	}
}

// header writes the header of an open file with its extended attributes.
func (p *packer) header(h *tar.Header, fd int) error {
	attributes, err := xattr.List(fd, unix.Flistxattr, unix.Fgetxattr)
	if err != nil {
		return err
	}
	total := 0
	for name, value := range attributes {
		if !keepsXattr(name) {
			continue
		}
		if total += len(name) + len(value); total > xattr.MaxInTar {
			p.add(h.Name, fmt.Sprintf("has more than %d bytes of extended attributes; the rest is not copied", xattr.MaxInTar))
			break
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[xattr.TarPrefix+name] = string(value)
	}
	return p.tar.WriteHeader(h)
}

// keepsXattr reports whether an extended attribute is copied. A tar has no name with a "=". Those of overlay and labels of
// SELinux belong to the place where a file is.
func keepsXattr(name string) bool {
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.") && !strings.Contains(name, "=") ||
		name == capability || strings.HasPrefix(name, "system.posix_acl_")
}

const capability = "security.capability"
