package image

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"stead/runtime/image/unpack"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// blob is the stream of a layer and what it must be.
type blob struct {
	digest string // of the stream; "" if unknown
	size   int64  // of the stream in bytes; negative if unknown
	diffID string // of the tar in it; "" if unknown
	tries  int    // how often to open it, if it turns out wrong; 0 is once
	plain  bool   // an archive of a root: names of whiteouts mean nothing
	open   func(context.Context) (io.ReadCloser, error)
}

// unpackedLayer is a layer in a directory, with the digests that its stream turned out to have.
type unpackedLayer struct {
	*unpack.Layer
	digest, diffID string
	size           int64 // of the stream
}

// unpackBlob unpacks a blob into the empty directory dir. It returns without an error only if
// the whole stream was read and is what it must be. read is called with the bytes that were read.
func unpackBlob(ctx context.Context, dir string, b blob, budget *unpack.Budget, read func(int64)) (*unpackedLayer, error) {
	stream, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	outer := &hashedReader{ctx: ctx, r: stream, sum: sha256.New(), limit: b.size, read: read}
	buffered := bufio.NewReaderSize(outer, 256<<10)
	inside, compressed, err := decompress(buffered)
	if err != nil {
		return nil, err
	}
	defer inside.Close()
	inner := &hashedReader{ctx: ctx, r: inside, sum: sha256.New(), limit: budget.Bytes + 4096*budget.Entries, inside: true}
	if !compressed {
		inner.sum = nil // it is the same stream
	}
	layer, err := unpack.Unpack(ctx, dir, inner, !b.plain, budget)
	if err == nil {
		_, err = io.Copy(io.Discard, inner) // what follows the end of the tar counts for the digests
		if err == nil && b.plain && !inner.endsInZeros() {
			err = errors.New("the archive is truncated: it has no end mark")
		}
		if err == nil {
			_, err = io.Copy(io.Discard, buffered)
		}
		if err != nil {
			layer.Discard()
		}
	}
	if err != nil {
		return nil, err
	}
	l := &unpackedLayer{Layer: layer, digest: outer.digest(), size: outer.n}
	if l.diffID = l.digest; compressed {
		l.diffID = inner.digest()
	}
	switch {
	case b.size >= 0 && l.size != b.size:
		err = fmt.Errorf("has %d bytes, want %d", l.size, b.size)
	case b.digest != "" && l.digest != b.digest:
		err = fmt.Errorf("has the digest %s, want %s", l.digest, b.digest)
	case b.diffID != "" && l.diffID != b.diffID:
		err = fmt.Errorf("its content has the digest %s, want %s (diff ID)", l.diffID, b.diffID)
	}
	if err != nil {
		layer.Discard()
		return nil, err
	}
	return l, nil
}

// hashedReader counts and hashes what is read, and ends with its context.
type hashedReader struct {
	ctx    context.Context
	r      io.Reader
	sum    hash.Hash // nil for none
	n      int64
	limit  int64 // bytes; negative for none
	inside bool  // of a compressed stream: more than the limit is a bomb
	read   func(int64)
	tail   []byte // the last bytes, at most a block
}

func (h *hashedReader) Read(p []byte) (int, error) {
	if err := h.ctx.Err(); err != nil {
		return 0, context.Cause(h.ctx)
	}
	n, err := h.r.Read(p)
	if h.n += int64(n); h.limit >= 0 && h.n > h.limit {
		if h.inside {
			return n, &unpack.LimitError{Path: "the archive", What: "bytes", Limit: h.limit}
		}
		return n, fmt.Errorf("has more than %d bytes", h.limit)
	}
	if h.sum != nil {
		h.sum.Write(p[:n])
	}
	if n > 0 {
		h.tail = append(h.tail, p[max(0, n-tarBlock):n]...)
		h.tail = h.tail[max(0, len(h.tail)-tarBlock):]
		if h.read != nil {
			h.read(int64(n))
		}
	}
	return n, err
}

const tarBlock = 512

// endsInZeros reports whether the stream ended as a whole tar does.
func (h *hashedReader) endsInZeros() bool { return bytes.Equal(h.tail, make([]byte, tarBlock)) }

func (h *hashedReader) digest() string { return "sha256:" + hex.EncodeToString(h.sum.Sum(nil)) }

// maxWindow limits the memory that a compressed stream may ask for.
const maxWindow = 128 << 20

// decompress returns what is in a stream, whose first bytes say how it is compressed.
func decompress(r *bufio.Reader) (inside io.ReadCloser, compressed bool, err error) {
	magic, err := r.Peek(6)
	if err != nil && err != io.EOF {
		return nil, false, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(r)
		return z, true, err
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}),
		len(magic) >= 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:4], []byte{0x2a, 0x4d, 0x18}): // a skippable frame first
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, true, err
		}
		return z.IOReadCloser(), true, nil
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
		z, err := xz.NewReader(r, maxWindow)
		return io.NopCloser(z), true, err
	case bytes.HasPrefix(magic, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(r)), true, nil
	}
	return io.NopCloser(r), false, nil
}
