// Package backup writes and reads archives of containers. It knows directories and archives,
// the keeper's freeze, and how to unpack below a directory; it knows no manifests and makes no
// container.
//
// An archive is a tar stream, compressed with zstd, whose members are in this order:
//
//	stead/index.json     what is in the archive (Index)
//	stead/manifest.yaml  the manifest as written, if it could be read
//	stead/applied.json   the manifest as applied
//	stead/drop-ins/N     the drop-ins
//	live/TREE/...        each tree as it was copied while the container ran
//	frozen/TREE/...      what had changed by the time that the container stood still
//	stead/trailer.json   checksum and counts of all that came before (trailer)
//
// A tree is live with frozen applied over it. Entries are in the order of a walk with sorted
// names, so that none can come twice. A deleted file is a whiteout as in layers of images: an
// empty file .wh.NAME. Its attribute whiteoutXattr tells whiteouts from files of the
// container that have such names, and says what was deleted.
package backup

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// Format is Index.Format of every archive.
	Format = "stead-backup"
	// Version is the newest version of the format that this program reads, and the one it writes.
	// Version 1 has no trees but RootTree and ImageVolumes.
	Version = 2
)

// Index is the first member of an archive.
type Index struct {
	Format    string    `json:"format"`
	Version   int       `json:"version"`
	Program   string    `json:"program"` // version of stead
	Host      string    `json:"host"`
	CreatedAt time.Time `json:"createdAt"`
	Name      string    `json:"name"`               // of the container
	Root      string    `json:"root"`               // the kind of its root: host, image or path
	RootPath  string    `json:"rootPath,omitempty"` // of a path root
	Image     *Image    `json:"image,omitempty"`
	Origin    string    `json:"origin,omitempty"` // the file of the manifest
	Document  int       `json:"document,omitempty"`
	// Records are the files beside a host root that remember what stead wrote into its /etc.
	Records map[string]string `json:"records,omitempty"`
	Frozen  bool              `json:"frozen"` // false if the container did not run
	Trees   []Tree            `json:"trees"`
	Mounts  []Mount           `json:"mounts,omitempty"`

	// Manifest is the file of the manifest as written, "" if it could not be read.
	Manifest string `json:"-"`
	// Applied is the manifest as applied, in JSON.
	Applied string `json:"-"`
	// DropIns are the drop-ins as written.
	DropIns []string `json:"-"`
}

// Has reports whether the archive has a tree.
func (x *Index) Has(tree string) bool {
	return slices.ContainsFunc(x.Trees, func(t Tree) bool { return t.Name == tree })
}

// Image is the image that the private files belong to.
type Image struct {
	Reference string `json:"reference"`
	Digest    string `json:"digest"`
	// Layers are the diff ids of its layers. An image with the same layers is the same to private files:
	// one that was exported and imported has another digest.
	Layers []string `json:"layers,omitempty"`
}

// Fits reports whether the private files fit an image.
func (i *Image) Fits(digest string, layers []string) bool {
	return i.Digest == digest || len(layers) > 0 && slices.Equal(i.Layers, layers)
}

// Tree is a directory in an archive.
type Tree struct {
	Name string `json:"name"` // RootTree, ImageVolumes, that of VolumeTree or that of BindTree
	// Overlay is set for the upper directory of an overlay: its whiteouts are part of it.
	Overlay bool   `json:"overlay,omitempty"`
	Volume  string `json:"volume,omitempty"` // the name of a volume
	Target  string `json:"target,omitempty"` // where a directory of the host is mounted
}

// VolumeTree returns the tree of a volume.
func VolumeTree(volume string) Tree { return Tree{Name: "volume-" + volume, Volume: volume} }

// BindTree returns the tree of the n-th directory of the host.
func BindTree(n int, target string) Tree {
	return Tree{Name: "bind-" + strconv.Itoa(n), Target: target}
}

// isValid reports whether a tree is one that this program writes.
func (t *Tree) isValid() bool {
	switch {
	case t.Volume != "":
		return *t == VolumeTree(t.Volume) && !strings.ContainsAny(t.Volume, "/\x00")
	case t.Target != "":
		n, _ := strconv.Atoi(strings.TrimPrefix(t.Name, "bind-"))
		return *t == BindTree(n, t.Target) && path.IsAbs(t.Target) && path.Clean(t.Target) == t.Target
	}
	return t.Name == RootTree || t.Name == ImageVolumes && !t.Overlay
}

const (
	// RootTree is the private part of the root.
	RootTree = "root"
	// ImageVolumes has the volumes that the image declares, a directory for each.
	ImageVolumes = "image-volumes"
)

// Mount says of a mount of the container whether its content is in the archive.
type Mount struct {
	Target   string `json:"target"`
	Kind     string `json:"kind"` // bind, tmpfs, volume
	Source   string `json:"source,omitempty"`
	Included bool   `json:"included"`
	Writable bool   `json:"writable,omitempty"`
}

// trailer is the last member.
type trailer struct {
	SHA256  string `json:"sha256"`  // of the tar stream up to the header of this member
	Members int64  `json:"members"` // without this one
	Notes   []Note `json:"notes,omitempty"`
}

// Note says what about a file is not in the archive as it was on disk.
type Note struct {
	Path string `json:"path"` // TREE/...
	Text string `json:"text"`
}

func (n Note) String() string { return n.Path + ": " + n.Text }

const (
	indexMember    = "stead/index.json"
	manifestMember = "stead/manifest.yaml"
	appliedMember  = "stead/applied.json"
	dropInMember   = "stead/drop-ins/"
	trailerMember  = "stead/trailer.json"

	live, frozen = "live/", "frozen/"

	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
	// whiteoutXattr is gone for a file that was deleted since live/ was copied, and upper for a
	// whiteout of an overlay, which deletes a file of the image. No file has it: attributes in
	// trusted are not copied.
	whiteoutXattr = "trusted.stead.whiteout"
	whiteoutGone  = "gone"
	whiteoutUpper = "upper"

	maxMeta     = 4 << 20 // bytes of a member below stead/
	maxMembers  = 64      // below stead/
	maxTrees    = 256
	maxNotes    = 1000
	maxPath     = 4000 // bytes of a path in a tree: the kernel takes 4095
	maxDepth    = 256  // of directories
	maxFileSize = 16 << 40
)

var (
	// ErrDamaged is wrapped by the errors of an archive that is damaged or cut off.
	ErrDamaged = errors.New("the archive is damaged")
	// ErrForeign is wrapped by the errors of a file that is not an archive of stead.
	ErrForeign = errors.New("this is not a backup of stead")
	// ErrNewer is wrapped by the error of an archive of a later version of the format.
	ErrNewer = errors.New("the archive is newer than this program")
)

// check checks an index that was read.
func (x *Index) check() error {
	switch {
	case x.Format != Format:
		return fmt.Errorf("%w: its format is %.50q", ErrForeign, x.Format)
	case x.Version > Version:
		return fmt.Errorf("%w: it has version %d of the format, and this program reads up to %d; use the stead that wrote it (%.50s) or a later one", ErrNewer, x.Version, Version, x.Program)
	case x.Version < 1 || x.Name == "" || len(x.Trees) > maxTrees:
		return fmt.Errorf("%w: its index makes no sense", ErrForeign)
	}
	for i, t := range x.Trees {
		if !t.isValid() || slices.ContainsFunc(x.Trees[:i], func(u Tree) bool { return u.Name == t.Name }) {
			return fmt.Errorf("%w: its index lists the tree %.50q", ErrForeign, t.Name)
		}
	}
	return nil
}

// treeOf splits the name of a member into its layer, tree and path in the tree.
func (x *Index) treeOf(member string) (layer string, tree int, path string, ok bool) {
	layer = live
	rest, found := strings.CutPrefix(member, live)
	if !found {
		layer = frozen
		if rest, found = strings.CutPrefix(member, frozen); !found {
			return "", 0, "", false
		}
	}
	rest = strings.TrimSuffix(rest, "/") // of a directory
	name, path, _ := strings.Cut(rest, "/")
	for i, t := range x.Trees {
		if t.Name == name {
			return layer, i, path, true
		}
	}
	return "", 0, "", false
}

// comparePaths compares paths of a tree in the order of a walk: name by name, a directory before
// what is in it.
func comparePaths(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		switch {
		case a[i] == b[i]:
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		default:
			return cmp.Compare(a[i], b[i])
		}
	}
	return cmp.Compare(len(a), len(b))
}
