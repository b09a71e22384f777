package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// source is where the documents and layers of an image can be read: a registry or a layout.
type source interface {
	// document returns a manifest, index or configuration. It has been checked.
	document(ctx context.Context, d descriptor) ([]byte, error)
	// layer opens the stream of a layer, unchecked.
	layer(ctx context.Context, d descriptor) (io.ReadCloser, error)
}

// resolve returns the image that a manifest or index describes, for this host's platform.
func resolve(ctx context.Context, from source, digest string, b []byte) (*found, error) {
	d, err := parseDocument(b)
	if err != nil {
		return nil, err
	}
	f := &found{digest: digest}
	for depth := 0; d.Manifests != nil; depth++ {
		if depth == 2 {
			return nil, errors.New("an index in an index in an index")
		}
		chosen, err := choose(d)
		if err != nil {
			return nil, err
		}
		if b, err = from.document(ctx, chosen); err != nil {
			return nil, err
		}
		if d, err = parseDocument(b); err != nil {
			return nil, err
		}
		if f.index == "" {
			f.index = digest
		}
		f.digest = chosen.Digest
	}
	if f.config, err = from.document(ctx, *d.Config); err != nil {
		return nil, err
	}
	config, err := readConfig(f.config)
	if err != nil {
		return nil, err
	}
	if len(config.RootFS.DiffIDs) != len(d.Layers) {
		return nil, fmt.Errorf("the manifest has %d layers, the configuration %d", len(d.Layers), len(config.RootFS.DiffIDs))
	}
	for i, l := range d.Layers {
		if strings.HasSuffix(l.MediaType, "+encrypted") {
			return nil, fmt.Errorf("layer %s is encrypted, which is not supported", l.Digest)
		}
		f.layers = append(f.layers, blob{digest: l.Digest, size: l.Size, diffID: config.RootFS.DiffIDs[i], open: func(ctx context.Context) (io.ReadCloser, error) {
			return from.layer(ctx, l)
		}})
	}
	return f, nil
}

// readDocument reads a document and checks its length and digest.
func readDocument(r io.Reader, d descriptor) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", d.Digest, err)
	case len(b) > maxDocument:
		return nil, fmt.Errorf("read %s: more than %d bytes", d.Digest, maxDocument)
	case digestOfBytes(b) != d.Digest:
		return nil, fmt.Errorf("read %s: it has the digest %s", d.Digest, digestOfBytes(b))
	case d.Size > 0 && int64(len(b)) != d.Size:
		return nil, fmt.Errorf("read %s: it has %d bytes, want %d", d.Digest, len(b), d.Size)
	}
	return b, nil
}
