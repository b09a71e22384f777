package runtime

import (
	"context"
	"errors"
	"fmt"

	"stead/runtime/image"
	"stead/runtime/job"
	"stead/runtime/status"
	"stead/spec"
)

// Images are the images of this host, for the reconciler.
type Images struct{ jobs image.Jobs }

// Stored returns the images that are complete. The value is never changed.
func (i *Images) Stored() (*status.Images, error) { return i.jobs.Stored() }

// Pull downloads the image of a complete reference, in a child process.
func (i *Images) Pull(ctx context.Context, reference string, progress func(done, total int64)) error {
	return errors.New("stead can't pull images yet; stead image import NAME DIRECTORY makes a local one")
}

// Import makes the image that a manifest declares, from its source, in a child process.
func (i *Images) Import(ctx context.Context, m *spec.Image, progress func(done, total int64)) error {
	source, digest := m.Spec.Source, m.Spec.Digest
	o := image.Options{Digest: digest, Progress: func(p image.Progress) { progress(p.Done, p.Total) }}
	if source.Registry == "" {
		_, err := i.jobs.Import(ctx, m.Metadata.Name, source.Text(), nil, o)
		return err
	}
	if err := i.Pull(ctx, source.Registry, progress); err != nil {
		return err
	}
	pulled, err := i.jobs.Lookup(source.Registry)
	if err != nil {
		return fmt.Errorf("pull %s: %w", source.Registry, err)
	}
	return i.jobs.Name(ctx, pulled, m.Metadata.Name, source.Registry, digest)
}

// newImages returns the images of a runtime.
func (r *Runtime) newImages() *Images {
	return &Images{image.Jobs{Store: r.images, Runner: job.Runner{Host: r.host}}}
}
