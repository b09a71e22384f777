package spec

// Image is a manifest that declares a local image.
type Image struct {
	// The version of the manifest language: `stead/v1`.
	APIVersion string `yaml:"apiVersion" json:"apiVersion" enum:"stead/v1"`
	// The kind of the manifest: `Image`.
	Kind string `yaml:"kind" json:"kind" enum:"Image"`
	// The name of the image and notes about it.
	Metadata ImageMetadata `yaml:"metadata" json:"metadata" effect:"live"`
	// Where the image comes from.
	Spec ImageSpec `yaml:"spec" json:"spec" effect:"live"`
}

// ImageMetadata names an image. Images and containers may have the same names.
type ImageMetadata struct {
	// The name of the image, unique among the images of this host, for `rootfs.image`.
	Name string `yaml:"name" json:"name"`
	// Labels, for people and tools.
	Labels map[string]string `yaml:"labels,omitempty" json:"labels,omitempty"`
	// Notes for people and tools. stead never acts on them.
	Annotations map[string]string `yaml:"annotations,omitempty" json:"annotations,omitempty"`
}

// ImageSpec describes an image.
type ImageSpec struct {
	// Patterns of the hosts that have the image, as for containers. If absent, every host has it.
	Hosts []string `yaml:"hosts,omitempty" json:"hosts,omitempty"`
	// Where the image comes from: exactly one of `registry`, `directory`, `archive` and `layout`. It is pulled or imported when it is missing, and again when this text or `digest` changes.
	Source ImageSource `yaml:"source" json:"source"`
	// What the source must have: of a registry or a layout the digest of the manifest or index, of an archive the digest of the file.
	Digest string `yaml:"digest,omitempty" json:"digest,omitempty"`
}

// ImageSource says where an image comes from.
type ImageSource struct {
	// A complete reference to an image in a registry, such as `docker.io/library/debian:12`.
	Registry string `yaml:"registry,omitempty" json:"registry,omitempty" oneof:"source"`
	// The absolute path of a directory that holds a root.
	Directory string `yaml:"directory,omitempty" json:"directory,omitempty" oneof:"source"`
	// The absolute path of an archive: a root, an image in the OCI layout, or one that `docker save` wrote; plain or compressed.
	Archive string `yaml:"archive,omitempty" json:"archive,omitempty" oneof:"source"`
	// The absolute path of an image in the OCI layout; of several images in it `/srv/oci:NAME` takes one.
	Layout string `yaml:"layout,omitempty" json:"layout,omitempty" oneof:"source"`
}

// Text returns the source as it is written.
func (s ImageSource) Text() string { return s.Registry + s.Directory + s.Archive + s.Layout }
