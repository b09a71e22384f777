package image

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"stead/runtime/xattr"

	"golang.org/x/sys/unix"
)

// packDirectory returns a directory as the stream of a tar. The same content gives the same
// stream. Other file systems that are mounted in it are left out, and so are sockets: a program
// makes its own at each start.
func packDirectory(ctx context.Context, dir string) (io.ReadCloser, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	root := os.NewFile(uintptr(fd), dir)
	r, w := io.Pipe()
	go func() {
		defer root.Close()
		buffered := bufio.NewWriterSize(w, 256<<10)
		err := newPacker(ctx, buffered).pack(root)
		if err == nil {
			err = buffered.Flush()
		}
		w.CloseWithError(err)
	}()
	return r, nil
}

type inode struct{ dev, ino uint64 }

// packer writes a directory as a tar. Files are opened below their directory and never through a
// link.
type packer struct {
	ctx    context.Context
	w      *tar.Writer
	links  map[inode]string // files with several names, by their first
	room   int              // bytes of names that links may still take
	buffer []byte
	// whiteouts is set for the layer of an image, in which overlay's whiteouts become those of the
	// image specification.
	whiteouts bool
	// noRoot leaves out the entry of the root directory.
	noRoot bool
}

// maxLinkRoom bounds the memory for names of files that have several. Files beyond it are copied
// once for each name.
const maxLinkRoom = 32 << 20

func newPacker(ctx context.Context, w io.Writer) *packer {
	return &packer{ctx: ctx, w: tar.NewWriter(w), links: map[inode]string{}, room: maxLinkRoom, buffer: make([]byte, 256<<10)}
}

// pack writes the root directory and all below, and the end of the tar.
func (p *packer) pack(dir *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return err
	}
	if !p.noRoot {
		if err := p.header(headerOf("./", &st), int(dir.Fd())); err != nil {
			return err
		}
	}
	if err := p.content(dir, ""); err != nil {
		return err
	}
	return p.w.Close()
}

// content writes what is in a directory, by name.
func (p *packer) content(dir *os.File, prefix string) error {
	entries, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(entries)
	for _, name := range entries {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		if err := p.entry(int(dir.Fd()), name, prefix+name); err != nil {
			return fmt.Errorf("read %s: %w", prefix+name, err)
		}
	}
	return nil
}

// entry writes one file or directory.
func (p *packer) entry(dir int, base, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if p.whiteouts && strings.HasPrefix(base, ".wh.") {
		return errors.New("its name means a deleted file in the layer of an image")
	}
	h := headerOf(name, &st)
	kind := st.Mode & unix.S_IFMT
	if p.whiteouts && kind == unix.S_IFCHR && st.Rdev == 0 { // a whiteout of overlay; they may be linked
		h.Name, h.Typeflag = strings.TrimSuffix(name, base)+".wh."+base, tar.TypeReg
		return p.w.WriteHeader(h)
	}
	if first, ok := p.links[inode{st.Dev, st.Ino}]; ok && kind != unix.S_IFDIR {
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		return p.w.WriteHeader(h)
	}
	if st.Nlink > 1 && kind != unix.S_IFDIR && kind != unix.S_IFSOCK && p.room > 0 {
		p.room -= len(name) + 64
		p.links[inode{st.Dev, st.Ino}] = name
	}
	switch kind {
	case unix.S_IFREG:
		return p.regular(dir, base, h)
	case unix.S_IFDIR:
		return p.directory(dir, base, name, h)
	case unix.S_IFLNK:
		target := make([]byte, 4096)
		n, err := unix.Readlinkat(dir, base, target)
		if err != nil {
			return err
		}
		h.Linkname = string(target[:n])
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case unix.S_IFIFO:
	default:
		return nil
	}
	attributes, err := xattr.List(fmt.Sprintf("/proc/self/fd/%d/%s", dir, base), unix.Llistxattr, unix.Lgetxattr)
	if err != nil {
		return err
	}
	return p.write(h, attributes)
}

// headerOf returns the header of a file.
func headerOf(name string, st *unix.Stat_t) *tar.Header {
	h := &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, strings.TrimSuffix(name, "/")+"/"
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
	case unix.S_IFCHR:
		h.Typeflag = tar.TypeChar
	case unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	}
	return h
}

// regular writes a regular file.
func (p *packer) regular(dir int, base string, h *tar.Header) error {
	fd, err := unix.Openat(dir, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), h.Name)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errChanged
	}
	h.Size = st.Size
	if err := p.header(h, fd); err != nil {
		return err
	}
	n, err := io.CopyBuffer(onlyWriter{p.w}, io.LimitReader(f, h.Size), p.buffer)
	if err == nil && n < h.Size {
		err = errChanged
	}
	return err
}

// onlyWriter hides ReadFrom, which would take another buffer for each file.
type onlyWriter struct{ io.Writer }

var errChanged = errors.New("it changed while it was read; stop what writes to it, or use a copy")

// directory writes a directory and what is in it.
func (p *packer) directory(dir int, base, name string, h *tar.Header) error {
	// A subvolume of btrfs is another device too, and is no mount.
	fd, err := unix.Openat2(dir, base, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_BENEATH})
	if err == unix.EXDEV {
		return p.w.WriteHeader(h)
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if err := p.header(h, fd); err != nil {
		return err
	}
	return p.content(f, name+"/")
}

// header writes the header of an open file or directory.
func (p *packer) header(h *tar.Header, fd int) error {
	attributes, err := xattr.List(fd, unix.Flistxattr, unix.Fgetxattr)
	if err != nil {
		return err
	}
	opaque := string(attributes["trusted.overlay.opaque"]) == "y"
	if err := p.write(h, attributes); err != nil || !opaque || !p.whiteouts {
		return err
	}
	return p.w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(h.Name, "./") + ".wh..wh..opq", Typeflag: tar.TypeReg, Format: tar.FormatPAX})
}

// write writes a header with extended attributes.
func (p *packer) write(h *tar.Header, attributes map[string][]byte) error {
	total := 0
	for name, value := range attributes {
		if !xattr.Keeps(name) {
			continue
		}
		if total += len(name) + len(value); total > xattr.MaxInTar {
			return fmt.Errorf("it has more than %d bytes of extended attributes", xattr.MaxInTar)
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[xattr.TarPrefix+name] = string(value)
	}
	return p.w.WriteHeader(h)
}
