package plan

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"stead/runtime/status"
	"stead/spec"
)

// Desired is what should be on this host. Package desired makes it from the manifests; it is
// never changed afterwards.
type Desired struct {
	Host     string           // this host's name, for hosts:
	Dirs     []Dir            // the manifest directories, in the order of the search path
	Declared map[string]*Want // from the manifests, by container
	// Kept are containers that stay as applied, since their manifests are invalid, unreadable
	// or contested. Kept has precedence over Declared.
	Kept map[string]*Want
	// Groups are the valid manifests with replicas, by name.
	Groups map[string]Group
	// Images are the images that manifests declare, by name.
	Images map[string]*WantImage
	// Elsewhere are containers that only manifests for other hosts declare, and where.
	Elsewhere map[string]status.Origin

	Problems
}

// Group is a manifest with replicas.
type Group struct {
	From     status.Origin
	Replicas int
}

// Dir is a manifest directory.
type Dir struct {
	Path string
	// Err is why the directory could not be read completely. A file that was not seen in it is
	// not known to be gone.
	Err error
	// Missing and Untrusted classify Err: the directory does not exist, or others than a
	// trusted owner can write to it.
	Missing, Untrusted bool
	// Matters is set if Err is to be reported. It is not for a missing directory of the search
	// path from which no container came.
	Matters bool
	Files   int // manifests that count
}

// Want is one container as it should be.
type Want struct {
	Spec        *spec.Container
	Fingerprint spec.Fingerprint // of Spec; zero if it was not computed
	Sources     []spec.Source    // of Spec, with what they hold
	From        status.Origin
	RootAt      *spec.Error // position of rootfs.image, without a message; nil without
	// Err is why the manifest can't be applied. Spec is then the applied one: the container is
	// kept as it is.
	Err error
	// Waiting is since when another process has had the manifest, or a drop-in for it, open for
	// writing, and Writer is that file; zero if none has.
	Waiting time.Time
	Writer  string
}

// WantImage is one image as it should be.
type WantImage struct {
	Spec *spec.Image
	From status.Origin
	At   *spec.Error // position of its source, without a message
}

// Lookup returns how a container should be, nil if it should not be there.
func (d *Desired) Lookup(name string) *Want {
	if w := d.Kept[name]; w != nil {
		return w
	}
	return d.Declared[name]
}

// Missing calls visit for every container that should be there and is not, in no order.
func (d *Desired) Missing(observed []*status.Status, visit func(name string, w *Want)) {
	missing := len(d.Declared)
	for _, st := range observed {
		if d.Declared[st.Name] != nil {
			missing--
		}
	}
	if missing == 0 {
		return // as nearly always
	}
	for name, w := range d.Declared {
		if Find(observed, name) == nil {
			visit(name, w)
		}
	}
}

// Find returns the status of a container from a list that is sorted by name, nil if it is
// not there.
func Find(list []*status.Status, name string) *status.Status {
	i, there := slices.BinarySearchFunc(list, name, func(st *status.Status, name string) int { return strings.Compare(st.Name, name) })
	if !there {
		return nil
	}
	return list[i]
}

// DirOf returns the manifest directory that a file came from, and why an absence from it
// proves nothing.
func (d *Desired) DirOf(file string) (string, error) {
	for _, dir := range d.Dirs {
		if !strings.HasPrefix(file, dir.Path+"/") {
			continue
		}
		switch {
		case dir.Missing:
			return dir.Path, fmt.Errorf("directory %s is missing", dir.Path)
		case dir.Untrusted:
			return dir.Path, fmt.Errorf("its absence is not trusted: %w", dir.Err)
		case dir.Err != nil:
			return dir.Path, fmt.Errorf("directory %s can't be read: %w", dir.Path, dir.Err)
		}
		return dir.Path, nil
	}
	return "", fmt.Errorf("its manifest %s is in no directory that is read", file)
}

// ShortPath returns a file's path below its manifest directory.
func (d *Desired) ShortPath(path string) string {
	for _, dir := range d.Dirs {
		if rel, inside := strings.CutPrefix(path, dir.Path+"/"); inside {
			return rel
		}
	}
	return path
}

// ManifestName prints where a manifest stands; documents after the first with their number,
// from 1 as people count.
func ManifestName(from status.Origin) string {
	if from.File == "" {
		return ""
	}
	if from.Document > 0 {
		return fmt.Sprintf("%s#%d", from.File, from.Document+1)
	}
	return from.File
}

func shortName(from status.Origin) string {
	from.File = filepath.Base(from.File)
	return ManifestName(from)
}
