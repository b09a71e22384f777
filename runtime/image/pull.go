package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"stead/runtime/image/registry"
)

// manifestTypes are what is asked for in a registry. Schema 1 is not among them: a registry that
// has nothing else answers with it all the same.
var manifestTypes = []string{typeOCIManifest, typeOCIIndex, typeDockerManifest, typeDockerIndex}

// repository is one in a registry, with its mirrors.
type repository struct {
	c *registry.Client
	r registry.Reference
}

func (m repository) document(ctx context.Context, d descriptor) ([]byte, error) {
	check := func(b []byte) error {
		switch {
		case digestOfBytes(b) != d.Digest:
			return fmt.Errorf("%s has the digest %s", d.Digest, digestOfBytes(b))
		case d.Size > 0 && int64(len(b)) != d.Size:
			return fmt.Errorf("%s has %d bytes, want %d", d.Digest, len(b), d.Size)
		}
		return nil
	}
	if d.MediaType == typeOCIConfig || d.MediaType == typeDockerConfig {
		return m.c.Config(ctx, m.r, d.Digest, maxDocument, check)
	}
	r := m.r
	r.Digest = d.Digest
	return m.c.Manifest(ctx, r, manifestTypes, maxDocument, check)
}

func (m repository) layer(ctx context.Context, d descriptor) (io.ReadCloser, error) {
	return m.c.Blob(ctx, m.r, 0, d.Digest, d.Size)
}

// Pull adds the image of a complete reference. A tag is resolved again at each call; layers that
// are there are not downloaded again. Pull runs in this process.
func (s *Store) Pull(ctx context.Context, reference string, c *registry.Client, o Options) (*Image, error) {
	r, err := registry.Parse(reference)
	if err != nil {
		return nil, err
	}
	release, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	m, err := s.pull(ctx, reference, r, c, o)
	if err != nil {
		return nil, explain(fmt.Errorf("pull %s: %w", reference, err))
	}
	return m, nil
}

func (s *Store) pull(ctx context.Context, reference string, r registry.Reference, c *registry.Client, o Options) (*Image, error) {
	b, err := c.Manifest(ctx, r, manifestTypes, maxDocument, func(b []byte) error {
		if r.Digest != "" && digestOfBytes(b) != r.Digest {
			return fmt.Errorf("the manifest has the digest %s", digestOfBytes(b))
		}
		_, err := parseDocument(b)
		return err
	})
	if errors.Is(err, registry.ErrNotFound) {
		return nil, fmt.Errorf("no such image in the registry (repository %s, %s): %w", r.Repository, tagOrDigest(r), err)
	}
	if err != nil {
		return nil, err
	}
	f, err := resolve(ctx, repository{c, r}, digestOfBytes(b), b)
	if err != nil {
		return nil, err
	}
	if o.Digest != "" && o.Digest != f.digest && o.Digest != f.index {
		return nil, fmt.Errorf("the image has the digest %s, want %s", digestOfBytes(b), o.Digest)
	}
	name := ref{Name: reference, Source: reference, Asked: o.Digest}
	endpoints := c.Endpoints(r)
	for i, l := range f.layers {
		var opened atomic.Int64
		f.layers[i].tries = endpoints
		f.layers[i].open = func(ctx context.Context) (io.ReadCloser, error) {
			number := int(opened.Add(1)-1) % endpoints
			return c.Blob(ctx, r, number, l.digest, l.size)
		}
	}
	return s.add(ctx, f, name, o)
}

func tagOrDigest(r registry.Reference) string {
	if r.Digest != "" {
		return r.Digest
	}
	return "tag " + r.Tag
}
