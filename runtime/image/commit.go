package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"stead/runtime/atomicfile"
	"stead/runtime/fault"

	"golang.org/x/sys/unix"
)

// layerRecord is the record of a layer on disk.
type layerRecord struct {
	Layer
	// Below identifies the layers below, if the files depend on them (unpack.Layer.NeedsLowers).
	Below string `json:"below,omitempty"`
	// Plain is set for the archive of a root, in which names of whiteouts mean nothing.
	Plain         bool   `json:"plain,omitempty"`
	HighestID     int    `json:"highestID"`
	HighestIDPath string `json:"highestIDPath,omitempty"`
	HasRoot       bool   `json:"hasRoot,omitempty"`
	// OpaqueRoot is set if the layer hides all layers below it.
	OpaqueRoot bool `json:"opaqueRoot,omitempty"`
}

// chain identifies a stack of layers by the digests of their content, the bottom first.
func chain(diffIDs []string) string {
	sum := sha256.Sum256([]byte(strings.Join(diffIDs, "\n")))
	return hex.EncodeToString(sum[:])
}

// layerDir returns the directory of a layer.
func (s *Store) layerDir(number int) string {
	return filepath.Join(s.LayersDir(), strconv.Itoa(number))
}

func (s *Store) layerFile(number int) string { return s.layerDir(number) + ".json" }

// layers returns the records of all layers.
func (s *Store) layers() ([]layerRecord, error) {
	files, err := os.ReadDir(s.LayersDir())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	var all []layerRecord
	for _, f := range files {
		text, ok := strings.CutSuffix(f.Name(), ".json")
		number, err := strconv.Atoi(text)
		if !ok || err != nil {
			continue
		}
		var r layerRecord
		err = readJSON(s.layerFile(number), &r)
		if errors.Is(err, os.ErrNotExist) { // deleted meanwhile
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list layers: %w", err)
		}
		r.Number = number
		all = append(all, r)
	}
	return all, nil
}

// findLayer returns the layer that has a content, on these layers below it.
func (s *Store) findLayer(diffID string, below []string, plain bool) (*layerRecord, error) {
	all, err := s.layers()
	for _, r := range all {
		if r.DiffID == diffID && r.Plain == plain && (r.Below == "" || r.Below == chain(below)) {
			if _, err := os.Lstat(s.layerDir(r.Number)); err == nil {
				return &r, nil
			}
		}
	}
	return nil, err
}

// commitLayer makes a finished layer in dir part of the store. The caller holds a lease.
func (s *Store) commitLayer(dir string, l *unpackedLayer, below string, plain bool) (*layerRecord, error) {
	r := &layerRecord{
		Layer: Layer{Digest: l.digest, DiffID: l.diffID, Size: l.Size}, Below: below, Plain: plain,
		HighestID: max(l.HighestID, 0), HighestIDPath: l.HighestIDPath, HasRoot: l.HasRoot, OpaqueRoot: l.OpaqueRoot(),
	}
	if err := syncFS(dir); err != nil {
		return nil, err
	}
	fault.Point("image-layer-synced")
	if err := os.MkdirAll(s.LayersDir(), 0o700); err != nil {
		return nil, err
	}
	number, err := s.nextNumber()
	for err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, s.layerDir(number), unix.RENAME_NOREPLACE)
		if err == nil {
			break
		}
		if err == unix.EEXIST { // another job has just taken it
			number, err = number+1, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("add layer: %w", err)
	}
	fault.Point("image-layer-renamed")
	if err := atomicfile.SyncDir(s.LayersDir()); err != nil {
		return nil, err
	}
	r.Number = number
	return r, writeJSON(s.layerFile(number), r)
}

// syncFS writes all that is in memory of a file system to its disk.
func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}

// nextNumber returns a number that no layer has, on disk or in the record of an image.
func (s *Store) nextNumber() (int, error) {
	files, err := os.ReadDir(s.LayersDir())
	if err != nil {
		return 0, err
	}
	next := 1
	for _, f := range files {
		if n, err := strconv.Atoi(strings.TrimSuffix(f.Name(), ".json")); err == nil {
			next = max(next, n+1)
		}
	}
	images, err := s.images()
	for _, m := range images {
		for _, l := range m.Layers {
			next = max(next, l.Number+1)
		}
	}
	return next, err
}

// images returns the records of all images.
func (s *Store) images() ([]*Image, error) {
	files, err := os.ReadDir(filepath.Join(s.dir, "images"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var all []*Image
	for _, f := range files {
		sum, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok {
			continue
		}
		m, err := s.ByDigest("sha256:" + sum)
		if errors.Is(err, ErrNotFound) { // deleted meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// commitImage records an image and then its name. Its layers are in the store.
func (s *Store) commitImage(m *Image, r ref) error {
	file, err := s.imageFile(m.Digest)
	if err != nil {
		return err
	}
	for _, dir := range []string{filepath.Dir(file), filepath.Dir(s.refFile(r.Name))} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	m.Name, m.Index = "", "" // these belong to the name
	if err := writeJSON(file, m); err != nil {
		return err
	}
	fault.Point("image-recorded")
	var old ref
	if err := readJSON(s.refFile(r.Name), &old); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := writeJSON(s.refFile(r.Name), r.follows(old)); err != nil {
		return err
	}
	m.Name, m.Index = r.Name, r.Index
	return nil
}

// isComplete reports whether the layers of an image are all there.
func (s *Store) isComplete(m *Image) bool {
	return !slices.ContainsFunc(m.Layers, func(l Layer) bool {
		var r layerRecord
		if readJSON(s.layerFile(l.Number), &r) != nil || r.DiffID != l.DiffID {
			return true
		}
		_, err := os.Lstat(s.layerDir(l.Number))
		return err != nil
	})
}

func writeJSON(file string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", file, err)
	}
	return atomicfile.Write(file, append(b, '\n'))
}

// Recover deletes what jobs that died have left: unfinished layers and those without a record.
// It does nothing while somebody holds a lease.
func (s *Store) Recover(ctx context.Context) error {
	if _, err := os.Lstat(s.dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	release, err := s.lock(ctx, unix.LOCK_EX, 1)
	if errors.Is(err, ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	err = s.putAside()
	release()
	return errors.Join(err, s.deleteAside())
}

// aside marks the names of files that are to be deleted. They belong to nobody.
const aside = ".deleted-"

// putAside renames unfinished layers and those without a record, with the exclusive lock held. It
// needs no space on the disk, and the number of a layer can be used again at once.
func (s *Store) putAside() error {
	suffix := aside + strconv.FormatInt(time.Now().UnixNano(), 36)
	rename := func(name string) error {
		if err := os.Rename(name, name+suffix); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	failed := rename(filepath.Join(s.dir, "tmp"))
	files, err := os.ReadDir(s.LayersDir())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return errors.Join(failed, err)
	}
	for _, f := range files {
		number, err := strconv.Atoi(f.Name())
		if err != nil || !f.IsDir() {
			continue
		}
		if _, err := os.Lstat(s.layerFile(number)); errors.Is(err, os.ErrNotExist) {
			failed = errors.Join(failed, rename(s.layerDir(number)))
		}
	}
	return failed
}

// deleteAside deletes what was put aside, now or before a crash.
func (s *Store) deleteAside() (failed error) {
	for _, dir := range []string{s.dir, s.LayersDir()} {
		files, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
		for _, f := range files {
			if strings.Contains(f.Name(), aside) {
				fault.Point("image-layer-deleting")
				failed = errors.Join(failed, os.RemoveAll(filepath.Join(dir, f.Name())))
			}
		}
	}
	return failed
}
