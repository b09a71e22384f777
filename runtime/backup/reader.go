package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"stead/runtime/xattr"

	"github.com/klauspost/compress/zstd"
)

// sink takes what is in an archive, in the order of the archive. Paths are clean and lead to no
// place above the tree; what links on the way lead to is the business of the sink.
type sink interface {
	// index is called first, once. It returns for how many bytes there is room.
	index(x *Index) (room int64, err error)
	// add adds a file to a tree, or replaces it. path is "" for the top of the tree. Header.Linkname
	// of a hard link is a path of the tree.
	add(tree int, path string, h *tar.Header, content io.Reader) error
	// whiteout deletes a file. With upper, a whiteout of overlay takes its place.
	whiteout(tree int, path string, upper bool) error
	// opaque makes a directory opaque, as overlay has it.
	opaque(tree int, path string) error
}

// Info is what is known of an archive that was read to its end and is whole.
type Info struct {
	Index   Index
	Members int64
	Notes   []Note
}

// Verify reads an archive to its end and checks all of it.
func Verify(ctx context.Context, from io.Reader) (*Info, error) {
	return read(ctx, from, 1<<62, nil)
}

// ReadIndex reads the index of an archive, and no more.
func ReadIndex(from io.Reader) (*Index, error) {
	r, err := newReader(context.Background(), from, maxStart, nil)
	if err != nil {
		return nil, err
	}
	defer r.zip.Close()
	if _, err := r.meta(); err != nil {
		return nil, err
	}
	return &r.info.Index, nil
}

// reader reads an archive. It accepts what writer writes and nothing else.
type reader struct {
	zip  *zstd.Decoder
	in   *meter
	tar  *tar.Reader
	info Info
	sink sink // nil to verify only

	layer string
	tree  int
	last  string // the last entry of the tree, as in comparePaths
	begun bool   // the tree has had an entry
	gone  bool   // the last entry says that a file is gone
}

func newReader(ctx context.Context, from io.Reader, limit int64, to sink) (*reader, error) {
	zip, err := zstd.NewReader(from, zstd.WithDecoderMaxWindow(4*window), zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(2))
	if err != nil {
		return nil, err
	}
	if limit == 0 {
		limit = maxStart
	}
	in := &meter{r: zip, sum: sha256.New(), allowed: limit, left: limit, ctx: ctx}
	return &reader{zip: zip, in: in, tar: tar.NewReader(in), sink: to}, nil
}

// maxStart is the most that is read before the sink knows the index, in bytes.
const maxStart = 64 << 20

// read reads an archive to its end, and at most limit bytes of its tar; 0 for as much as the sink has
// room for. What it gave to the sink is worth something only if it returns
// no error.
func read(ctx context.Context, from io.Reader, limit int64, to sink) (*Info, error) {
	r, err := newReader(ctx, from, limit, to)
	if err != nil {
		return nil, err
	}
	defer r.zip.Close()
	h, err := r.meta()
	if err != nil {
		return nil, err
	}
	if to != nil {
		room, err := to.index(&r.info.Index)
		if err != nil {
			return nil, err
		}
		if limit == 0 {
			r.in.allowed, r.in.left = room, room
		}
	}
	r.layer, r.tree = live, 0
	for h.Name != trailerMember {
		if err := r.entry(h); err != nil {
			return nil, err
		}
		if h, err = r.next(); err != nil {
			return nil, err
		}
	}
	return &r.info, r.trailer(h)
}

// next returns the header of the next member.
func (r *reader) next() (*tar.Header, error) {
	h, err := r.tar.Next()
	if err != nil {
		return nil, r.damaged(err)
	}
	r.info.Members++
	return h, nil
}

// damaged returns the error for a stream that can't be read.
func (r *reader) damaged(err error) error {
	var limit *LimitError
	switch {
	case r.in.ctx.Err() != nil:
		return context.Cause(r.in.ctx)
	case errors.As(err, &limit):
		return limit
	case r.info.Members == 0 && (errors.Is(err, zstd.ErrMagicMismatch) || errors.Is(err, io.EOF) || errors.Is(err, tar.ErrHeader)):
		return fmt.Errorf("%w: it is no tar archive that was compressed with zstd", ErrForeign)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it ends early", ErrDamaged)
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// meta reads the members of the index and returns the header of the member after them.
func (r *reader) meta() (*tar.Header, error) {
	x := &r.info.Index
	for room := int64(maxMeta); ; {
		h, err := r.next()
		if err != nil {
			return nil, err
		}
		order := r.info.Members == 1
		if (h.Name == indexMember) != order {
			return nil, fmt.Errorf("%w: it does not begin with %s", ErrForeign, indexMember)
		}
		if !strings.HasPrefix(h.Name, "stead/") || h.Name == trailerMember {
			return h, nil
		}
		if room -= h.Size; h.Typeflag != tar.TypeReg || room < 0 || r.info.Members > maxMembers {
			return nil, fmt.Errorf("%w: its index is too large", ErrForeign)
		}
		b, err := io.ReadAll(r.tar)
		if err != nil {
			return nil, r.damaged(err)
		}
		switch {
		case h.Name == indexMember:
			if err := json.Unmarshal(b, x); err != nil {
				return nil, fmt.Errorf("%w: read its index: %w", ErrForeign, err)
			}
			if err := x.check(); err != nil {
				return nil, err
			}
		case h.Name == manifestMember && x.Manifest == "" && x.Applied == "":
			x.Manifest = string(b)
		case h.Name == appliedMember && x.Applied == "":
			x.Applied = string(b)
		case h.Name == dropInMember+strconv.Itoa(len(x.DropIns)) && x.Applied != "":
			x.DropIns = append(x.DropIns, string(b))
		default:
			return nil, r.refuse(h, "it is not expected there")
		}
	}
}

// refuse returns the error for a member that writer does not write.
func (r *reader) refuse(h *tar.Header, why string) error {
	return fmt.Errorf("%w: %.200q: %s", ErrDamaged, h.Name, why)
}

// entry takes a member of a tree.
func (r *reader) entry(h *tar.Header) error {
	x := &r.info.Index
	layer, tree, p, ok := x.treeOf(h.Name)
	if !ok {
		return r.refuse(h, "it is in no tree of the index")
	}
	if name := layer + path.Join(x.Trees[tree].Name, p); h.Name != name && (h.Name != name+"/" || h.Typeflag != tar.TypeDir) || !isClean(p) {
		return r.refuse(h, "its name is not as it should be, and may lead out of the tree")
	}
	if err := r.enter(h, layer, tree); err != nil {
		return err
	}
	kind, marked := h.PAXRecords[xattr.TarPrefix+whiteoutXattr]
	key := p
	dir, base := path.Split(p)
	dir = strings.TrimSuffix(dir, "/")
	if marked {
		hidden, ok := strings.CutPrefix(base, whiteoutPrefix)
		if !ok || hidden == "" || h.Typeflag != tar.TypeReg || h.Size != 0 || kind != whiteoutUpper && (kind != whiteoutGone || layer != frozen) || kind == whiteoutUpper && !x.Trees[tree].Overlay {
			return r.refuse(h, "it is no whiteout")
		}
		if key = path.Join(dir, hidden); base == opaqueMarker {
			key = dir + "/"
		} else if hidden == "." || hidden == ".." {
			return r.refuse(h, "it is no whiteout")
		}
	}
	after := comparePaths(r.last, key)
	if r.begun && (after > 0 || after == 0 && (!r.gone || marked)) { // what is gone may have something else in its place
		return r.refuse(h, "it is not in order, or comes twice")
	}
	if !r.begun && layer == live && (p != "" || h.Typeflag != tar.TypeDir) {
		return r.refuse(h, "the tree does not begin with its top")
	}
	r.last, r.begun, r.gone = key, true, marked && kind == whiteoutGone
	switch {
	case r.sink == nil:
		return r.check(h, p)
	case !marked:
		if err := r.check(h, p); err != nil {
			return err
		}
		return r.fault(r.sink.add(tree, p, h, r.tar))
	case base == opaqueMarker:
		return r.sink.opaque(tree, dir)
	}
	return r.sink.whiteout(tree, key, kind == whiteoutUpper)
}

// fault returns the error of a sink. Errors of the stream, which come through it, become those of
// an archive that is damaged.
func (r *reader) fault(err error) error {
	if err != nil && r.in.err != nil {
		return r.damaged(r.in.err)
	}
	return err
}

// isClean reports whether a path names nothing above the tree.
func isClean(p string) bool {
	return p == "" || path.Clean("/"+p) == "/"+p && len(p) <= maxPath && !strings.ContainsRune(p, 0) && strings.Count(p, "/") <= maxDepth
}

// enter moves on to the tree of a member.
func (r *reader) enter(h *tar.Header, layer string, tree int) error {
	if layer == r.layer && tree == r.tree {
		return nil
	}
	forward := layer == r.layer && tree > r.tree || layer == frozen && r.layer == live
	if !forward || r.layer == live && !r.begun {
		return r.refuse(h, "it is not in order")
	}
	skipped := layer == live && tree != r.tree+1 || layer == frozen && r.layer == live && r.tree != len(r.info.Index.Trees)-1
	if skipped {
		return r.refuse(h, "a tree of the index is missing before it")
	}
	r.layer, r.tree, r.last, r.begun = layer, tree, "", false
	return nil
}

// check checks a header, and makes the target of a hard link a path of the tree.
func (r *reader) check(h *tar.Header, p string) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
	case tar.TypeLink:
		layer, tree, target, ok := r.info.Index.treeOf(h.Linkname)
		if !ok || layer != r.layer || tree != r.tree || !isClean(target) || target == "" || comparePaths(target, p) >= 0 {
			return r.refuse(h, "it is a hard link to something else than a file before it")
		}
		h.Linkname = target
	default:
		return r.refuse(h, fmt.Sprintf("members of type %q are not known", h.Typeflag))
	}
	if h.Size > maxFileSize {
		return r.refuse(h, "it is too large for a file")
	}
	return nil
}

// trailer checks the last member, and that nothing comes after it.
func (r *reader) trailer(h *tar.Header) error {
	sum := hex.EncodeToString(r.in.sum.Sum(nil)) // of all but the last block, which is the header
	if h.Typeflag != tar.TypeReg || h.Size > maxMeta {
		return r.refuse(h, "it is no trailer")
	}
	if len(r.info.Index.Trees) > 0 && (r.layer == live && (!r.begun || r.tree != len(r.info.Index.Trees)-1)) {
		return r.refuse(h, "a tree of the index is missing before it")
	}
	r.in.tail = &bytes.Buffer{}
	b, err := io.ReadAll(r.tar)
	if err != nil {
		return r.damaged(err)
	}
	var t trailer
	if err := json.Unmarshal(b, &t); err != nil {
		return fmt.Errorf("%w: read its trailer: %w", ErrDamaged, err)
	}
	r.info.Members--
	if t.SHA256 != sum || t.Members != r.info.Members {
		return fmt.Errorf("%w: its content has another checksum than its trailer says", ErrDamaged)
	}
	r.info.Notes = slices.Clip(t.Notes)
	if _, err := r.tar.Next(); err != io.EOF {
		return fmt.Errorf("%w: something follows its trailer", ErrDamaged)
	}
	if n, err := io.Copy(io.Discard, r.in); err != nil || n > 0 {
		return fmt.Errorf("%w: something follows its end", ErrDamaged)
	}
	if end := append(b, make([]byte, len(padding(h.Size))+2*blockSize)...); !bytes.Equal(r.in.tail.Bytes(), end) { // no checksum covers it
		return fmt.Errorf("%w: its end is not as it should be", ErrDamaged)
	}
	return nil
}

// meter reads the tar stream: it sums all but the last block that was read, and limits what is
// read.
type meter struct {
	r             io.Reader
	sum           hash.Hash
	held          []byte // not yet in sum
	allowed, left int64
	ctx           context.Context
	err           error         // the last error that is not io.EOF
	tail          *bytes.Buffer // gets what is read from now on; nil for nothing
}

// blockSize is the size of blocks of tar.
const blockSize = 512

func (m *meter) Read(b []byte) (n int, err error) {
	if err = context.Cause(m.ctx); err == nil {
		n, err = m.r.Read(b)
	}
	if m.left -= int64(n); m.left < 0 {
		err = &LimitError{m.allowed}
	}
	if err != nil && err != io.EOF {
		m.err = err
	}
	m.count(b[:n])
	if m.tail != nil && m.tail.Len() <= 2*maxMeta {
		m.tail.Write(b[:n])
	}
	return n, err
}

func (m *meter) count(b []byte) {
	if len(b) >= blockSize {
		m.sum.Write(m.held)
		m.sum.Write(b[:len(b)-blockSize])
		m.held = append(m.held[:0], b[len(b)-blockSize:]...)
		return
	}
	m.held = append(m.held, b...)
	if excess := len(m.held) - blockSize; excess > 0 {
		m.sum.Write(m.held[:excess])
		m.held = append(m.held[:0], m.held[excess:]...)
	}
}

// LimitError is returned for an archive that unpacks to more than it may.
type LimitError struct{ Bytes int64 }

func (e *LimitError) Error() string {
	return fmt.Sprintf("the archive unpacks to more than %d MiB; free space, or allow more with --max-size", e.Bytes>>20)
}
