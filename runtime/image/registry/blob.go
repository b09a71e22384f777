package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Blob opens a blob of this size at the endpoint of that number. The reader asks again for the
// rest if the connection breaks off or stands still.
func (c *Client) Blob(ctx context.Context, r Reference, number int, digest string, size int64) (io.ReadCloser, error) {
	b := &blobReader{ctx: ctx, c: c, e: c.endpoints(r)[number], path: "/blobs/" + digest, size: size}
	if err := b.connect(); err != nil {
		return nil, err
	}
	return b, nil
}

// blobReader reads a blob over as many connections as it takes.
type blobReader struct {
	ctx   context.Context
	c     *Client
	e     endpoint
	path  string
	size  int64
	at    int64 // the next byte
	body  io.ReadCloser
	tries int // connections since the last byte
}

// connect asks for the bytes from b.at on.
func (b *blobReader) connect() error {
	header := http.Header{}
	if b.at > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", b.at))
	}
	a, err := b.c.get(b.ctx, b.e, b.path, header)
	var refused *StatusError
	if errors.As(err, &refused) && refused.Status == http.StatusRequestedRangeNotSatisfiable { // it knows no ranges
		a, err = b.c.get(b.ctx, b.e, b.path, nil)
	}
	if err != nil {
		return err
	}
	b.body = a.Body
	skip := b.at
	if a.StatusCode == http.StatusPartialContent {
		var first int64
		if _, err := fmt.Sscanf(a.Header.Get("Content-Range"), "bytes %d-", &first); err != nil || first > b.at {
			a.Body.Close()
			return fmt.Errorf("%s answers with another range (%s) than from byte %d on", b.e.host, a.Header.Get("Content-Range"), b.at)
		}
		skip = b.at - first
	}
	if _, err := io.CopyN(io.Discard, b.body, skip); err != nil { // from the beginning again
		b.body.Close()
		return fmt.Errorf("%s: %w", b.e.host, noEOF(err))
	}
	return nil
}

func (b *blobReader) Read(p []byte) (int, error) {
	for {
		watch := time.AfterFunc(cmp.Or(b.c.Stalled, time.Minute), func() { b.body.Close() })
		n, err := b.body.Read(p)
		watch.Stop()
		if b.at += int64(n); n > 0 {
			b.tries = 0
			return n, nil
		}
		if err == nil {
			continue
		}
		if err == io.EOF && b.at >= b.size || b.ctx.Err() != nil {
			return 0, err
		}
		if err := b.reconnect(noEOF(err)); err != nil {
			return 0, err
		}
	}
}

// reconnect connects again after a failure. It gives up when several connections in a row have
// brought nothing.
func (b *blobReader) reconnect(cause error) error {
	b.body.Close()
	for {
		if b.tries++; b.tries >= maxTries {
			return fmt.Errorf("%s breaks off after %d of %d bytes: %w", b.e.host, b.at, b.size, cause)
		}
		select {
		case <-time.After(b.c.backoff(b.tries)):
		case <-b.ctx.Done():
			return context.Cause(b.ctx)
		}
		err := b.connect()
		if err == nil {
			return nil
		}
		var status *StatusError
		var denied *DeniedError
		if errors.As(err, &status) || errors.As(err, &denied) { // get has tried again as often as makes sense
			return err
		}
		cause = err
	}
}

// noEOF returns an error that is not taken for the end of the blob.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (b *blobReader) Close() error { return b.body.Close() }
