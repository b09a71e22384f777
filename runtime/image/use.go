package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Declared are the images that manifests name, by the name or reference that they give, and for
// each the manifests: "container web", "image debian-12".
type Declared map[string][]string

// Entry is an image in a list. An image with several names has several entries, one without a
// name has one.
type Entry struct {
	Name      string    `json:"name"` // "" if its name stands for a newer image by now
	Digest    string    `json:"digest"`
	Size      int64     `json:"size"`   // bytes of all its layers, unpacked
	Layers    int       `json:"layers"` // their number
	UsedBy    []string  `json:"usedBy"` // sorted: "container web", "removed web@20261123T041500Z", "manifest ..."
	CreatedAt time.Time `json:"createdAt"`
}

// List returns all images by name. Who uses them is read from disk at this moment.
func (s *Store) List(declared Declared) ([]Entry, error) {
	images, refs, err := s.read()
	if err != nil {
		return nil, err
	}
	uses, err := s.uses(images, refs, declared)
	if err != nil {
		return nil, err
	}
	all := []Entry{}
	for _, m := range images {
		e := Entry{Digest: m.Digest, Size: m.Size, Layers: len(m.Layers), CreatedAt: m.CreatedAt, UsedBy: uses[m.Digest]}
		if e.UsedBy == nil {
			e.UsedBy = []string{}
		}
		named := false
		for _, r := range refs {
			if r.Digest == m.Digest {
				e.Name, named = r.Name, true
				all = append(all, e)
			}
		}
		if !named {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.Name+"\x00"+a.Digest, b.Name+"\x00"+b.Digest) })
	return all, nil
}

// read returns the records of all images and names.
func (s *Store) read() ([]*Image, []ref, error) {
	images, err := s.images()
	if err != nil {
		return nil, nil, err
	}
	refs, err := s.refs()
	return images, refs, err
}

// facts are what a container's facts, container.json, say of images (store.Facts).
type facts struct {
	Image *struct {
		Reference string `json:"reference"`
		Digest    string `json:"digest"`
	} `json:"image"`
	Manifest struct {
		Spec struct {
			Rootfs struct {
				Image string `json:"image"`
			} `json:"rootfs"`
		} `json:"spec"`
	} `json:"manifest"`
}

// factsIn returns what is in the JSON files of a container's directory: container.json, and of one
// that is just brought back what it was before.
func factsIn(dir string) (all []facts, err error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) { // it was removed, or is no container
		return nil, nil
	}
	for _, file := range files {
		if err != nil || filepath.Ext(file.Name()) != ".json" {
			continue
		}
		var f facts
		err = readJSON(filepath.Join(dir, file.Name()), &f)
		if errors.Is(err, os.ErrNotExist) {
			err = nil
			continue
		}
		all = append(all, f)
	}
	return all, err
}

// uses returns who uses each image, by digest. A container uses the image that its root was made
// of, and the one that its manifest names by now.
func (s *Store) uses(images []*Image, refs []ref, declared Declared) (map[string][]string, error) {
	uses := map[string][]string{}
	add := func(digest, user string) {
		if digest != "" && !slices.Contains(uses[digest], user) {
			uses[digest] = append(uses[digest], user)
		}
	}
	byName := func(name string) string {
		for _, r := range refs {
			if r.Name == name {
				return r.Digest
			}
		}
		_, digest, _ := strings.Cut(name, "@")
		for _, m := range images {
			if m.Digest == digest {
				return digest
			}
		}
		for _, r := range refs {
			if r.Index == digest && digest != "" {
				return r.Digest
			}
		}
		return ""
	}
	state := filepath.Dir(s.dir)
	for _, dir := range []string{"containers", "removed"} {
		entries, err := os.ReadDir(filepath.Join(state, dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("find out who uses images: %w", err)
		}
		for _, e := range entries {
			user := "container " + e.Name()
			if dir == "removed" {
				user = "removed " + e.Name()
			}
			all, err := factsIn(filepath.Join(state, dir, e.Name()))
			if err != nil {
				return nil, fmt.Errorf("find out who uses images: %w", err)
			}
			for _, f := range all {
				if f.Image != nil {
					add(f.Image.Digest, user)
				}
				if name := f.Manifest.Spec.Rootfs.Image; name != "" && dir == "containers" {
					add(byName(name), user)
				}
			}
		}
	}
	for name, manifests := range declared {
		for _, m := range manifests {
			add(byName(name), m)
		}
	}
	for _, users := range uses {
		slices.Sort(users)
	}
	return uses, nil
}
