// Package image is the store of images, STATE/images: it pulls, imports, exports and deletes
// them. Layers are unpacked once, in the form that overlay mounts read, and shared by all
// images and containers. It knows nothing about containers but what their facts on disk say
// of images; how layers are mounted is not its concern.
//
// On disk:
//
//	layers/<number>/      the files of a layer: overlay form, plain ids, read-only by convention
//	layers/<number>.json  its record; a directory without one is rubbish of a process that died
//	images/<hex>.json     the record of an image, by its digest; it names its layers
//	refs/<hash>.json      a name and the digest that it stands for
//	tmp/                  what is not finished
//	lock                  shared by who adds or uses layers, exclusive for who deletes them
//
// Everything is written in the order in which it is safe to die: files of a layer, its
// directory, its record, the record of the image, the name.
package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"stead/spec"
)

// ErrNotFound is returned for an image that the store does not have.
var ErrNotFound = errors.New("no such image")

// Store is the store of images in one directory. Its methods may be called concurrently, and
// by several processes.
type Store struct {
	dir    string
	stored storedCache
}

// Open returns the store in dir, STATE/images. The directory is made when something is added.
func Open(dir string) *Store { return &Store{dir: dir} }

// LayersDir returns the directory that holds the directories of the layers.
func (s *Store) LayersDir() string { return filepath.Join(s.dir, "layers") }

// Layer is one layer of an image: LayersDir()/<Number>.
type Layer struct {
	Number int    `json:"number"`
	Digest string `json:"digest"` // of what was downloaded, compressed or not
	DiffID string `json:"diffID"` // of the tar in it
	Size   int64  `json:"size"`   // bytes of its files
}

// RootDir has the attributes of the root directory of an image.
type RootDir struct {
	Mode uint32 `json:"mode"`
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
}

// Image is an image that is complete.
type Image struct {
	// Name is the name by which it was looked up or listed; "" if it has no name any more.
	Name string `json:"name"`
	// Digest is the digest of its manifest: its identity.
	Digest string `json:"digest"`
	// Index is the digest of the index from which it was chosen for this platform, or "".
	Index  string           `json:"index,omitempty"`
	Config spec.ImageConfig `json:"config"`
	Layers []Layer          `json:"layers"` // the bottom first
	Size   int64            `json:"size"`   // of all layers together, unpacked
	// HighestID is the highest owner or group of its files, and HighestIDPath one of the files.
	HighestID     int    `json:"highestID"`
	HighestIDPath string `json:"highestIDPath,omitempty"`
	// Root has the attributes of the root directory. An upper directory must be given them.
	Root RootDir `json:"root"`
	// CreatedAt is when it was added to this store.
	CreatedAt time.Time `json:"createdAt"`
	// Source says where it came from: a reference, or the path of a file or directory.
	Source string `json:"source,omitempty"`
	// OCIConfig is the image's whole configuration as it came.
	OCIConfig json.RawMessage `json:"ociConfig,omitempty"`
}

// ref is the record of a name.
type ref struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	Index  string `json:"index,omitempty"`
	// Source and Asked are the text of the source and the digest that was asked for, so that a
	// declared image is imported again only when one of them changes.
	Source    string    `json:"source,omitempty"`
	Asked     string    `json:"asked,omitempty"`
	UpdatedAt time.Time `json:"updatedAt"`
	// Earlier are the last digests that the name stood for before, and Superseded those of them
	// whose containers are to move to Digest.
	Earlier    []string `json:"earlier,omitempty"`
	Superseded []string `json:"superseded,omitempty"`
}

// maxEarlier is how many earlier digests of a name are known.
const maxEarlier = 100

// follows returns r as the record of a name that replaces an earlier one.
func (r ref) follows(old ref) ref {
	if old.Digest == "" {
		return r
	}
	other := func(list []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(digest string) bool { return digest == r.Digest })
	}
	r.Earlier, r.Superseded = other(append(slices.Clone(old.Earlier), old.Digest)), other(old.Superseded)
	slices.Sort(r.Earlier)
	r.Earlier = slices.Compact(r.Earlier)
	r.Earlier = r.Earlier[max(0, len(r.Earlier)-maxEarlier):]
	return r
}

// Lookup returns the image of a local name or a complete reference. A reference may end with
// a digest, of the image's manifest or of the index that lists it; the image of that digest is
// found whatever its tag stands for by now. The error is ErrNotFound if there is none.
func (s *Store) Lookup(name string) (*Image, error) {
	var r ref
	err := readJSON(s.refFile(name), &r)
	if errors.Is(err, fs.ErrNotExist) {
		return s.lookupDigest(name)
	}
	if err != nil {
		return nil, fmt.Errorf("read name of image %s: %w", name, err)
	}
	return s.named(r)
}

// named returns the image that a name stands for.
func (s *Store) named(r ref) (*Image, error) {
	m, err := s.ByDigest(r.Digest)
	if err != nil {
		return nil, err
	}
	m.Name, m.Index = r.Name, r.Index
	return m, nil
}

// lookupDigest is Lookup by the digest alone.
func (s *Store) lookupDigest(name string) (*Image, error) {
	repository, digest, ok := strings.Cut(name, "@")
	if !ok {
		return nil, fmt.Errorf("image %s: %w", name, ErrNotFound)
	}
	m, err := s.ByDigest(digest)
	if err == nil {
		m.Name = name
		return m, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	refs, err := s.refs()
	if err != nil {
		return nil, err
	}
	for _, r := range refs {
		if r.Index == digest {
			m, err := s.named(r)
			if err == nil {
				m.Name = name
			}
			return m, err
		}
	}
	return nil, fmt.Errorf("image %s: %w", repository+"@"+digest, ErrNotFound)
}

// ByDigest returns the image with the digest that a container recorded.
func (s *Store) ByDigest(digest string) (*Image, error) {
	file, err := s.imageFile(digest)
	if err != nil {
		return nil, err
	}
	m := &Image{}
	err = readJSON(file, m)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("image %s: %w", digest, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read record of image %s: %w", digest, err)
	}
	return m, nil
}

// refs returns the records of all names.
func (s *Store) refs() ([]ref, error) {
	files, err := os.ReadDir(filepath.Join(s.dir, "refs"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var all []ref
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".json") {
			continue
		}
		var r ref
		err := readJSON(filepath.Join(s.dir, "refs", f.Name()), &r)
		if errors.Is(err, fs.ErrNotExist) { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list images: %w", err)
		}
		all = append(all, r)
	}
	return all, nil
}

// refFile returns the file that records a name.
func (s *Store) refFile(name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(s.dir, "refs", hex.EncodeToString(sum[:16])+".json")
}

// imageFile returns the file that records an image.
func (s *Store) imageFile(digest string) (string, error) {
	sum, err := parseDigest(digest)
	if err != nil {
		return "", err
	}
	return filepath.Join(s.dir, "images", sum+".json"), nil
}

// parseDigest returns the hexadecimal part of a digest. Digests become names of files, so
// anything but sha256 and 64 small hexadecimal digits is refused.
func parseDigest(digest string) (string, error) {
	sum, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || len(sum) != 2*sha256.Size || strings.Trim(sum, "0123456789abcdef") != "" {
		return "", fmt.Errorf("digest %.100q: want sha256: and 64 hexadecimal digits", digest)
	}
	return sum, nil
}

// readJSON reads a record.
func readJSON(file string, v any) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}
