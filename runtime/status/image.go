package status

import (
	"slices"
	"strings"

	"stead/spec"
)

// ImageUse is the image that the private files of a container belong to.
type ImageUse struct {
	Reference string `json:"reference"` // as in the manifest
	Digest    string `json:"digest"`
}

// Image is an image of this host that is complete, under one of its names.
type Image struct {
	Name   string
	Digest string
	// Index is the digest of the index that lists it; "" if there is none.
	Index string
	// Source and Asked are the texts of the source and of the digest that it was pulled or
	// imported for.
	Source, Asked string
	// Superseded are digests that it stood for before, and that containers of that name are to
	// leave.
	Superseded []string
	// Config is what the image says about its program. Never changed.
	Config *spec.ImageConfig
}

// Images are the images of this host. A value is never changed.
type Images struct {
	ByName  map[string]Image
	Digests map[string]bool // of all images, those without a name too
}

// Find returns the image of a name or a reference, which may end with a digest.
func (i *Images) Find(name string) (Image, bool) {
	if m, there := i.ByName[name]; there {
		return m, true
	}
	_, digest, pinned := strings.Cut(name, "@")
	if !pinned {
		return Image{}, false
	}
	if i.Digests[digest] {
		return Image{Name: name, Digest: digest}, true
	}
	for _, m := range i.ByName {
		if m.Index == digest {
			return m, true
		}
	}
	return Image{}, false
}

// Superseded reports whether the containers of a name are to leave the image of a digest.
func (i *Images) Superseded(name, digest string) bool {
	return slices.Contains(i.ByName[name].Superseded, digest)
}
