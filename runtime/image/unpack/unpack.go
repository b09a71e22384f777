// Package unpack writes the tar stream of a layer into a directory, in the form that overlay
// mounts read: a deleted file is a character device 0:0, a directory that hides what lower
// layers hold has the attribute trusted.overlay.opaque. It knows nothing of images and stores.
//
// The stream is hostile. Every path is resolved by the kernel below the directory
// (openat2 with RESOLVE_BENEATH), sizes and counts are limited before anything is written, and
// attributes that would mean something to overlay are never taken over. Nobody else may write
// in the directory meanwhile.
//
// A layer may need its lower layers: a directory without an entry of its own has the
// attributes that it has below, a hard link may name a file below, and a whiteout counts only if
// there is something below. Unpack leaves these to Finish, so that layers are unpacked in parallel.
package unpack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Budget limits what the layers of one image may unpack to, together.
type Budget struct {
	Bytes, Entries int64 // the limits

	bytes, entries atomic.Int64 // what is used
}

// LimitError reports that an archive is larger than its budget.
type LimitError struct {
	Path  string // the entry that is too much
	What  string // bytes or entries
	Limit int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s: more than %d %s", e.Path, e.Limit, e.What)
}

// spend counts an entry of a size.
func (l *Layer) spend(name string, size int64) error {
	b := l.budget
	if l.entries++; b.entries.Add(1) > b.Entries {
		return &LimitError{name, "entries", b.Entries}
	}
	// Compared before it is added: a header may claim any size.
	if size > b.Bytes {
		return &LimitError{name, "bytes", b.Bytes}
	}
	if l.bytes += size; b.bytes.Add(size) > b.Bytes {
		return &LimitError{name, "bytes", b.Bytes}
	}
	return nil
}

// refund takes back what a layer has spent that failed.
func (l *Layer) refund() {
	l.budget.entries.Add(-l.entries)
	l.budget.bytes.Add(-l.bytes)
	l.entries, l.bytes = 0, 0
}

// maxMemory limits what is remembered about one layer until its end, in bytes of names.
const maxMemory = 128 << 20

// A Layer is a layer that is unpacked into a directory.
type Layer struct {
	Size int64 // bytes of its files
	// HighestID is the highest owner or group, and HighestIDPath the first file that has it.
	HighestID     int
	HighestIDPath string
	// HasRoot is set if the layer has an entry for its root directory.
	HasRoot bool
	// Dropped counts attributes that were left out (see xattr.Keeps).
	Dropped int

	root    int // the directory
	parent  cachedDir
	budget  *Budget
	entries int64 // what it has spent
	bytes   int64
	buffer  []byte
	hole    int             // blocks of so many zeros are left out of files; 0 for none
	memory  int             // bytes of names that are remembered
	times   map[string]when // of directories, which change while files are made in them
	implied map[string]int  // directories without an entry, with the step
	opaque  map[string]int  // directories that hide what is below, with the step
	step    int             // 1, and one more for each of removed
	removed map[string]int  // directories and links that were removed, with the step
	deleted map[string]bool // whiteouts of the stream
	hidden  map[string]bool // whiteouts that were made
	links   []link          // hard links to files of lower layers

	inheritsACLs bool // new files may get access control lists from their directory
}

type when struct {
	atime, mtime unix.Timespec
	step         int
}

// link is a hard link whose target is in a lower layer.
type link struct{ name, target string }

// cachedDir is the directory that was opened last: most entries lie in that of the one before.
type cachedDir struct {
	name string
	fd   int
}

// Unpack unpacks a tar stream into the existing, empty directory dir up to the mark at its
// end. Whiteouts are interpreted if the stream is a layer of an image; in an archive of a root
// they are ordinary files. The caller must call Close.
func Unpack(ctx context.Context, dir string, stream io.Reader, whiteouts bool, budget *Budget) (*Layer, error) {
	l, err := newLayer(dir, budget)
	if err != nil {
		return nil, err
	}
	if err := unix.Fchmod(l.root, 0o755); err != nil {
		l.Close()
		return nil, fmt.Errorf("chmod %s: %w", dir, err)
	}
	for r := tar.NewReader(stream); ; {
		if err = ctx.Err(); err != nil {
			break
		}
		var h *tar.Header
		if h, err = r.Next(); err != nil {
			break
		}
		if err = l.entry(h, r, whiteouts); err != nil {
			err = fmt.Errorf("unpack %.200q: %w", h.Name, err)
			break
		}
	}
	if err != io.EOF {
		l.Discard()
		return nil, err
	}
	l.forgetRemoved()
	return l, nil
}

// Discard closes a layer that is not used.
func (l *Layer) Discard() {
	l.refund()
	l.Close()
}

// Close closes the directory.
func (l *Layer) Close() {
	l.forgetParent()
	if l.root >= 0 {
		unix.Close(l.root)
	}
	l.root = -1
}

// entry unpacks one entry.
func (l *Layer) entry(h *tar.Header, content io.Reader, whiteouts bool) error {
	if h.Typeflag == tar.TypeXGlobalHeader || h.Typeflag == 'V' { // notes about the archive
		return nil
	}
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	size := h.Size
	if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeGNUSparse && h.Typeflag != tar.TypeCont {
		size = 0
	}
	if err := l.spend(name, size); err != nil {
		return err
	}
	if whiteouts && strings.Contains("/"+name, "/"+whiteoutPrefix) {
		return l.whiteout(name)
	}
	if h.Uid < 0 || h.Gid < 0 || h.Uid >= 1<<32-1 || h.Gid >= 1<<32-1 { // -1 would mean: leave the owner
		return fmt.Errorf("owner %d:%d is no id", h.Uid, h.Gid)
	}
	if id := max(h.Uid, h.Gid); id > l.HighestID {
		l.HighestID, l.HighestIDPath = id, "/"+name
	}
	if name == "" {
		if h.Typeflag != tar.TypeDir {
			return errors.New("the root is no directory")
		}
		l.HasRoot = true
		return l.directory(l.root, "", h)
	}
	delete(l.implied, name)
	parent, err := l.parentOf(name, true)
	if err != nil {
		return err
	}
	base := path.Base(name)
	switch h.Typeflag {
	case tar.TypeDir:
		return l.makeDirectory(parent, base, name, h)
	case tar.TypeLink:
		return l.hardLink(parent, base, name, h.Linkname)
	}
	l.Size += size
	err = l.create(parent, base, h, content)
	if err == unix.EEXIST {
		if err = l.remove(parent, base, name); err == nil {
			err = l.create(parent, base, h, content)
		}
	}
	return err
}

// clean returns an entry's name below the root, "" for the root itself. Names that begin with a
// slash are taken from the root, as by every other program.
func clean(name string) (string, error) {
	parts := strings.Split(name, "/")
	kept := parts[:0]
	for _, p := range parts {
		switch p {
		case "", ".":
		case "..":
			return "", errors.New("its name leaves the root (..)")
		default:
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, "/"), nil
}

// remember counts a name that is kept in memory until the end of the layer.
func (l *Layer) remember(name string) error {
	if l.memory += len(name) + 64; l.memory > maxMemory {
		return fmt.Errorf("more than %d bytes of names of directories and deleted files", maxMemory)
	}
	return nil
}

// timesOf returns the times of an entry.
func timesOf(h *tar.Header) when {
	atime := h.AccessTime
	if atime.IsZero() {
		atime = h.ModTime
	}
	return when{atime: timespec(atime), mtime: timespec(h.ModTime)}
}

func timespec(t time.Time) unix.Timespec {
	ts, err := unix.TimeToTimespec(t)
	if err != nil || t.IsZero() {
		return unix.Timespec{}
	}
	return ts
}
