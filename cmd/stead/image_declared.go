package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"stead/reconcile/source"
	"stead/runtime/image"
	"stead/spec"

	"github.com/spf13/cobra"
)

// declaredImages returns the images that manifests name for this host. It fails if a manifest
// can't be read: nobody knows which images it names.
func (a *app) declaredImages() (image.Declared, error) {
	declared := image.Declared{}
	r := a.source(nil, nil).Read()
	if len(r.Dirs) > 1 && !slices.ContainsFunc(r.Dirs, func(d source.Dir) bool { return !d.Missing() }) {
		return nil, fmt.Errorf("find out which images are declared: none of the manifest directories is there: %s", strings.Join(a.manifests, ", "))
	}
	for _, d := range r.Dirs {
		if d.Err != nil && !(d.Missing() && len(r.Dirs) > 1) {
			return nil, fmt.Errorf("find out which images are declared: %s: %w", d.Path, d.Err)
		}
	}
	for _, f := range r.Files {
		switch {
		case f.Foreign:
			continue
		case f.Err != nil:
			return nil, fmt.Errorf("find out which images are declared: %w", f.Err)
		case !f.Waiting.IsZero() && len(f.Documents) == 0:
			return nil, fmt.Errorf("find out which images are declared: %s: another process has it open for writing", f.Path)
		}
		for i := range f.Documents {
			doc := &f.Documents[i]
			if len(doc.Errors) > 0 {
				return nil, fmt.Errorf("find out which images are declared: %w", doc.Errors[0])
			}
			if !doc.Elsewhere {
				declare(declared, doc)
			}
		}
	}
	return declared, nil
}

// declare adds the images that a document names.
func declare(declared image.Declared, doc *spec.Document) {
	if doc.Image != nil {
		declared[doc.Name] = append(declared[doc.Name], "image "+doc.Name)
		return
	}
	instances := doc.Replicas
	if instances == nil {
		instances = []spec.Instance{{Container: doc.Container}}
	}
	for _, one := range instances {
		if name := one.Spec.Rootfs.Image; name != "" {
			declared[name] = append(declared[name], "container "+one.Metadata.Name)
		}
	}
}

func useFlag(cmd *cobra.Command, use *bool) {
	cmd.Flags().BoolVar(use, "use", false, "have the containers of that name move to the new image: they are restarted with a fresh root")
}

// imageAdded wakes the daemon, if one runs: containers may wait for the image. With use, the
// containers of the name move to it, at once or with the next apply.
func (a *app) imageAdded(ctx context.Context, name string, use bool) error {
	if use {
		if err := a.images().Use(ctx, name); err != nil {
			return imageError(err)
		}
	}
	h, err := a.dial(ctx)
	if h != nil && err == nil {
		err = h.Reload(ctx)
	}
	if !use {
		return nil // a daemon that could not be woken sees the image a little later
	}
	return err
}
