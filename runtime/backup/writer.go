package backup

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"
)

// writer writes an archive.
type writer struct {
	sum     hash.Hash
	zip     *zstd.Encoder
	spool   *spool        // to sum and zip
	out     *bufio.Writer // of tar bytes, to spool
	tar     *tar.Writer
	members int64
	notes   []Note
	bytes   int64 // of content
}

// window is the size of zstd's window, in bytes. It bounds the memory of both sides.
const window = 4 << 20

func newWriter(to io.Writer) (*writer, error) {
	zip, err := zstd.NewWriter(to, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(2), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	w := &writer{sum: sha256.New(), zip: zip}
	w.spool = &spool{to: io.MultiWriter(w.sum, zip)}
	w.out = bufio.NewWriterSize(w.spool, 256<<10)
	w.tar = tar.NewWriter(w.out)
	return w, nil
}

// close gives up an archive, or frees what finish has left.
func (w *writer) close() { w.zip.Close() }

// index writes the members that come first.
func (w *writer) index(x *Index) error {
	b, err := json.MarshalIndent(x, "", "  ")
	if err != nil {
		return err
	}
	err = w.meta(indexMember, append(b, '\n'), x.CreatedAt)
	if err == nil && x.Manifest != "" {
		err = w.meta(manifestMember, []byte(x.Manifest), x.CreatedAt)
	}
	if err == nil {
		err = w.meta(appliedMember, []byte(x.Applied), x.CreatedAt)
	}
	for i, d := range x.DropIns {
		if err == nil {
			err = w.meta(dropInMember+strconv.Itoa(i), []byte(d), x.CreatedAt)
		}
	}
	return err
}

func (w *writer) meta(name string, content []byte, at time.Time) error {
	if len(content) > maxMeta {
		return fmt.Errorf("%s has %d bytes, more than %d", name, len(content), maxMeta)
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o600, ModTime: at.Truncate(time.Second)}
	if err := w.header(h); err != nil {
		return err
	}
	_, err := w.tar.Write(content)
	return err
}

// header begins a member.
func (w *writer) header(h *tar.Header) error {
	h.Format = tar.FormatPAX
	w.members++
	return w.tar.WriteHeader(h)
}

// note notes what is not in the archive as it was on disk.
func (w *writer) note(path, format string, args ...any) {
	if len(w.notes) < maxNotes {
		w.notes = append(w.notes, Note{Path: path, Text: fmt.Sprintf(format, args...)})
	}
}

// finish writes the trailer and ends the archive.
func (w *writer) finish() error {
	if err := w.tar.Flush(); err != nil {
		return err
	}
	if err := w.out.Flush(); err != nil {
		return err
	}
	if err := w.spool.release(); err != nil {
		return err
	}
	t := trailer{SHA256: hex.EncodeToString(w.sum.Sum(nil)), Members: w.members, Notes: w.notes}
	b, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	if err := w.meta(trailerMember, append(b, '\n'), time.Unix(0, 0)); err != nil {
		return err
	}
	if err := w.tar.Close(); err != nil {
		return err
	}
	if err := w.out.Flush(); err != nil {
		return err
	}
	return w.zip.Close()
}
