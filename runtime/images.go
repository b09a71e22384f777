package runtime

import (
	"context"
	"sync/atomic"

	"stead/runtime/image"
	imageregistry "stead/runtime/image/registry"
	"stead/runtime/job"
	"stead/runtime/status"
	"stead/spec"
)

// Images are the images of this host, for the reconciler. They are added in child processes.
type Images struct {
	jobs       image.Jobs
	registries atomic.Pointer[map[string]imageregistry.Settings]
}

// newImages returns the images of a runtime.
func (r *Runtime) newImages() *Images {
	i := &Images{jobs: image.Jobs{Store: r.images, Runner: job.Runner{Host: r.host}}}
	i.SetRegistries(r.Registries)
	return i
}

// SetRegistries sets the settings of registries, by host, for later pulls.
func (i *Images) SetRegistries(settings map[string]imageregistry.Settings) {
	i.registries.Store(&settings)
}

// Stored returns the images that are complete. The value is never changed.
func (i *Images) Stored() (*status.Images, error) { return i.jobs.Stored() }

// Pull downloads the image of a complete reference.
func (i *Images) Pull(ctx context.Context, reference string, progress func(done, total int64)) error {
	_, err := i.pull(ctx, reference, image.Options{}, progress)
	return err
}

func (i *Images) pull(ctx context.Context, reference string, o image.Options, progress func(done, total int64)) (*image.Image, error) {
	o.Progress = func(p image.Progress) { progress(p.Done, p.Total) }
	jobs := i.jobs
	jobs.Registries = *i.registries.Load()
	return jobs.Pull(ctx, reference, o)
}

// Import makes the image that a manifest declares, from its source.
func (i *Images) Import(ctx context.Context, m *spec.Image, progress func(done, total int64)) error {
	source, digest := m.Spec.Source, m.Spec.Digest
	o := image.Options{Digest: digest, Progress: func(p image.Progress) { progress(p.Done, p.Total) }}
	if source.Registry == "" {
		_, err := i.jobs.Import(ctx, m.Metadata.Name, source.Text(), nil, o)
		return err
	}
	pulled, err := i.pull(ctx, source.Registry, o, progress)
	if err != nil {
		return err
	}
	return i.jobs.Name(ctx, pulled, m.Metadata.Name, source.Registry, digest)
}
