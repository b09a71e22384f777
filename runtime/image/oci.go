package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

	"stead/spec"
)

// The documents of an image, as far as they are read (image-spec: manifest.md, config.md).

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant,omitempty"`
}

// document is a manifest or an index: what it is shows by what it holds.
type document struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	Manifests     []descriptor `json:"manifests,omitempty"`
	Config        *descriptor  `json:"config,omitempty"`
	Layers        []descriptor `json:"layers,omitempty"`
	FSLayers      []struct{}   `json:"fsLayers,omitempty"`
}

const (
	typeOCIManifest    = "application/vnd.oci.image.manifest.v1+json"
	typeOCIIndex       = "application/vnd.oci.image.index.v1+json"
	typeOCIConfig      = "application/vnd.oci.image.config.v1+json"
	typeOCILayer       = "application/vnd.oci.image.layer.v1.tar"
	typeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	typeDockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	typeDockerConfig   = "application/vnd.docker.container.image.v1+json"
)

// maxDocument limits manifests and configurations.
const maxDocument = 4 << 20

// errSchema1 is the error for an image of a form that all registries have given up.
var errSchema1 = errors.New("the image has the old form Docker schema 1, which is not supported; push it again with a current program")

// parseDocument reads a manifest or index. One that could be both is refused: programs
// would differ about what it means.
func parseDocument(b []byte) (*document, error) {
	d := &document{}
	if err := json.Unmarshal(b, d); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if d.SchemaVersion == 1 || d.FSLayers != nil || strings.Contains(d.MediaType, "manifest.v1+") && !strings.Contains(d.MediaType, "oci") {
		return nil, errSchema1
	}
	isIndex, isManifest := d.Manifests != nil, d.Config != nil || d.Layers != nil
	saysIndex := d.MediaType == typeOCIIndex || d.MediaType == typeDockerIndex
	saysManifest := d.MediaType == typeOCIManifest || d.MediaType == typeDockerManifest
	switch {
	case d.SchemaVersion != 2:
		return nil, fmt.Errorf("read manifest: schema version %d is not supported", d.SchemaVersion)
	case isIndex == isManifest, isIndex && saysManifest, isManifest && saysIndex:
		return nil, errors.New("read manifest: it must be either a manifest or an index")
	case isManifest && d.Config == nil:
		return nil, errors.New("read manifest: it has no configuration")
	}
	for _, list := range [][]descriptor{d.Manifests, d.Layers} {
		for _, l := range list {
			if _, err := parseDigest(l.Digest); err != nil {
				return nil, fmt.Errorf("read manifest: %w", err)
			}
			if l.Size < 0 {
				return nil, fmt.Errorf("read manifest: %s has the size %d", l.Digest, l.Size)
			}
		}
	}
	if d.Config != nil {
		if _, err := parseDigest(d.Config.Digest); err != nil {
			return nil, fmt.Errorf("read manifest: %w", err)
		}
		if t := d.Config.MediaType; t != typeOCIConfig && t != typeDockerConfig {
			return nil, fmt.Errorf("not the image of a container: its configuration has the type %.100q", t)
		}
	}
	return d, nil
}

// choose returns the manifest of an index for this host's platform. Entries that are no image,
// such as attestations, have the platform unknown.
func choose(d *document) (descriptor, error) {
	var have []string
	for _, m := range d.Manifests {
		p := m.Platform
		if p == nil { // a layout may list an image without it; its configuration is checked later
			if len(d.Manifests) == 1 {
				return m, nil
			}
			continue
		}
		if p.OS == "linux" && p.Architecture == runtime.GOARCH && slices.Contains(variants[runtime.GOARCH], p.Variant) {
			return m, nil
		}
		if p.OS != "unknown" {
			have = append(have, strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/"))
		}
	}
	return descriptor{}, fmt.Errorf("no image for %s; it has %s", thisPlatform, orNone(have))
}

const thisPlatform = "linux/" + runtime.GOARCH

// variants are those of an architecture that every host of it runs.
var variants = map[string][]string{"amd64": {"", "v1"}, "arm64": {"", "v8"}}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none with a platform"
	}
	return strings.Join(slices.Compact(list), ", ")
}

// ociConfig is the configuration of an image, as far as it is read.
type ociConfig struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Config       struct {
		User         string
		ExposedPorts map[string]struct{}
		Env          []string
		Entrypoint   []string
		Cmd          []string
		Volumes      map[string]struct{}
		WorkingDir   string
		StopSignal   string
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// readConfig reads the configuration of an image and checks that it is for this host.
func readConfig(b []byte) (*ociConfig, error) {
	c := &ociConfig{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("read configuration of the image: %w", err)
	}
	if c.OS != "linux" || c.Architecture != runtime.GOARCH {
		return nil, fmt.Errorf("the image is for %s/%s, this host is %s", c.OS, c.Architecture, thisPlatform)
	}
	for _, id := range c.RootFS.DiffIDs {
		if _, err := parseDigest(id); err != nil {
			return nil, fmt.Errorf("read configuration of the image: %w", err)
		}
	}
	return c, nil
}

// parseConfig returns what an image says about its program.
func parseConfig(b []byte) (spec.ImageConfig, error) {
	c, err := readConfig(b)
	if err != nil {
		return spec.ImageConfig{}, err
	}
	in := c.Config
	out := spec.ImageConfig{
		Entrypoint: in.Entrypoint, Cmd: in.Cmd, Env: in.Env, User: in.User, WorkingDir: in.WorkingDir, StopSignal: in.StopSignal,
		Volumes: slices.Sorted(maps.Keys(in.Volumes)),
	}
	for _, list := range [][]string{out.Entrypoint, out.Cmd, out.Env, out.Volumes, {out.User, out.WorkingDir, out.StopSignal}} {
		if slices.ContainsFunc(list, func(text string) bool { return strings.Contains(text, "\x00") }) {
			return spec.ImageConfig{}, errors.New("read configuration of the image: a text in it holds a zero byte")
		}
	}
	return out, nil
}

// madeConfig is the configuration of an image that was made of a root.
type madeConfig struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	Config       struct{} `json:"config"`
	RootFS       struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// makeConfig returns the configuration for an image that has none.
func makeConfig(layers []*layerRecord) ([]byte, error) {
	c := madeConfig{Architecture: runtime.GOARCH, OS: "linux"}
	c.RootFS.Type = "layers"
	for _, l := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, l.DiffID)
	}
	return json.Marshal(c)
}

// makeDigest returns the digest of the manifest of an image that has none: the same content
// gives the same digest.
func makeDigest(config []byte, layers []*layerRecord) (string, error) {
	d := document{SchemaVersion: 2, MediaType: typeOCIManifest, Config: &descriptor{MediaType: typeOCIConfig, Digest: digestOfBytes(config), Size: int64(len(config))}}
	for _, l := range layers {
		d.Layers = append(d.Layers, descriptor{MediaType: typeOCILayer, Digest: l.DiffID})
	}
	b, err := json.Marshal(d)
	return digestOfBytes(b), err
}

func digestOfBytes(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
