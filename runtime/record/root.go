package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"stead/runtime/atomicfile"
)

// Root records which merged root is mounted for a container, in RUN/roots/NAME.json. A mount
// without such a record is of no use: nobody knows of which layers it is.
type Root struct {
	Name    string `json:"name"`
	BootID  string `json:"bootId"`
	Digest  string `json:"digest"` // of the image
	Layers  []int  `json:"layers"` // numbers of its layers, bottom first
	IDBase  uint32 `json:"idBase,omitempty"`
	MountID uint64 `json:"mountId"`
	Dev     uint64 `json:"dev"` // device number of its files
}

// SameContent reports whether both are mounts of the same layers with the same ids.
func (r *Root) SameContent(o *Root) bool {
	return r.BootID == o.BootID && r.Digest == o.Digest && r.IDBase == o.IDBase && slices.Equal(r.Layers, o.Layers)
}

const rootsDir = "roots"

func rootPath(run, name string) string { return filepath.Join(run, rootsDir, name+".json") }

// Write replaces the record on disk, without a sync.
func (r *Root) Write(run string) error {
	b, err := json.Marshal(r)
	if err == nil {
		err = atomicfile.WriteVolatile(rootPath(run, r.Name), b)
	}
	if err != nil {
		return fmt.Errorf("write record of the root of %s: %w", r.Name, err)
	}
	return nil
}

// ReadRoot returns the record of a container's merged root, or nil if there is none of this boot.
func ReadRoot(run, name string) *Root {
	b, err := os.ReadFile(rootPath(run, name))
	r := &Root{}
	if err != nil || json.Unmarshal(b, r) != nil || r.BootID != BootID() || r.Name != name {
		return nil // it is mounted anew then
	}
	return r
}

// ForgetRoot removes the record of a container's merged root.
func ForgetRoot(run, name string) error {
	if err := os.Remove(rootPath(run, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// RootNames returns the names of the containers that have a record of a merged root.
func RootNames(run string) (names []string, err error) {
	entries, err := os.ReadDir(filepath.Join(run, rootsDir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".json"); ok {
			names = append(names, name)
		}
	}
	return names, err
}
