package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"stead/runtime/atomicfile"
	"stead/runtime/backup"
	"stead/runtime/fault"
	"stead/runtime/image"
	"stead/runtime/record"
	"stead/runtime/rootfs"
	"stead/runtime/store"
	"stead/spec"
)

// A restore has three steps. A job unpacks and verifies the archive in a staging directory and
// beside the places of its volumes. Then Restore, under the lock of the state directory, puts all
// of it in place (swap.go). The old directory of the container goes to removed/. Without such a
// container, the new directory becomes that of a removed one, which a container of that name gets
// back. At last the verb writes the manifest.

// appliedText returns a manifest for Index.Applied.
func appliedText(m *spec.Container) (string, error) {
	b, err := json.MarshalIndent(m, "", "  ")
	return string(b) + "\n", err
}

// ParseApplied reads Index.Applied, under another name.
func ParseApplied(text, name string) (*spec.Container, error) {
	m := &spec.Container{}
	if err := json.Unmarshal([]byte(text), m); err != nil {
		return nil, fmt.Errorf("read the manifest in the archive: %w", err)
	}
	m.Metadata.Name, m.Replica = name, nil
	m.Default()
	return m, nil
}

// appliedName returns the name in Index.Applied.
func appliedName(text string) string {
	m := &spec.Container{}
	if err := json.Unmarshal([]byte(text), m); err != nil {
		return ""
	}
	return m.Metadata.Name
}

// rootKind returns Index.Root for a manifest.
func rootKind(m *spec.Container) string {
	switch root := m.Spec.Rootfs; {
	case root.Image != "":
		return "image"
	case root.Host != nil:
		return "host"
	}
	return "path"
}

// CheckRestore checks whether an archive fits a container, whose facts are nil if there is none.
func CheckRestore(x *backup.Index, name string, f *store.Facts, images *image.Store) error {
	if !x.Has(backup.RootTree) {
		return nil
	}
	if f == nil {
		if x.Image == nil {
			return nil
		}
		img, err := images.Lookup(x.Image.Reference)
		if errors.Is(err, image.ErrNotFound) {
			return fmt.Errorf("its files are changes of the image %s (%s), which is not on this host; add it first, with stead image pull or stead image import", x.Image.Reference, x.Image.Digest)
		}
		if err == nil && !x.Image.Fits(img.Digest, diffIDs(img)) {
			return fmt.Errorf("its files are changes of the image %s with the digest %s, and that of this host has the digest %s and other layers; add the other one first", x.Image.Reference, x.Image.Digest, img.Digest)
		}
		return err
	}
	if kind := rootKind(f.Manifest); kind != x.Root {
		return fmt.Errorf("the root of %s is of another kind (%s) than that in the backup (%s); stead restore --as makes a container beside it", name, kind, x.Root)
	}
	if x.Image == nil {
		return nil
	}
	if f.Image == nil {
		return fmt.Errorf("the backup has changes of the image %s, and %s has no image yet", x.Image.Digest, name)
	}
	var layers []string
	if img, err := images.ByDigest(f.Image.Digest); err == nil {
		layers = diffIDs(img)
	}
	if !x.Image.Fits(f.Image.Digest, layers) {
		return fmt.Errorf("the backup has changes of the image %s, and the image of %s is %s; put the old reference into its manifest first", x.Image.Digest, name, f.Image.Digest)
	}
	return nil
}

// diffIDs returns the ids of the layers of an image, the bottom first.
func diffIDs(img *image.Image) (ids []string) {
	for _, l := range img.Layers {
		ids = append(ids, l.DiffID)
	}
	return ids
}

// Restore puts data that was unpacked in a staging directory in the place of that of a container,
// which must not run, or keeps it for a container that is made later. The note is for the admin.
func (r *Runtime) Restore(ctx context.Context, name, dir string) (note string, err error) {
	s, err := backup.OpenStaging(dir)
	if err != nil {
		return "", fmt.Errorf("restore %s: %w", name, err)
	}
	defer s.Close()
	v, err := s.Staged()
	if err != nil {
		return "", fmt.Errorf("restore %s: %w", name, err)
	}
	done, err := r.claimRestored(name, v)
	if err != nil {
		return "", fmt.Errorf("restore %s: %w", name, err)
	}
	defer done()
	w := &backup.Swaps{Name: name}
	for _, p := range v.Places {
		w.List = append(w.List, backup.Swap{Staged: p.Beside, Target: p.Target, Replace: p.Replace})
	}
	if c, err := r.find(name); err == nil {
		note, err = r.restoreOld(ctx, s, v, w, c)
		if err != nil {
			return "", fmt.Errorf("restore %s: %w", name, err)
		}
		return note, nil
	}
	if note, err = r.restoreNew(s, v, w); err != nil {
		return "", fmt.Errorf("restore %s: %w", name, err)
	}
	return note, nil
}

// restoreNew keeps the data for a container of that name that is made later.
func (r *Runtime) restoreNew(s *backup.Staging, v *backup.Staged, w *backup.Swaps) (note string, err error) {
	if err := CheckRestore(&v.Index, w.Name, nil, r.images); err != nil {
		return "", err
	}
	if _, err := os.Lstat(r.dir(w.Name)); err == nil {
		return "", fmt.Errorf("%s is there already", r.dir(w.Name))
	}
	if v.Index.Root != "path" {
		m, err := ParseApplied(v.Applied, w.Name)
		if err != nil {
			return "", err
		}
		w.New = true
		f := &store.Facts{Manifest: m, CreatedAt: time.Now().UTC()}
		if i := v.Index.Image; i != nil {
			img, err := r.images.Lookup(i.Reference)
			if err != nil {
				return "", err
			}
			f.Image = &store.Image{Reference: i.Reference, Digest: img.Digest}
		}
		if err := r.makeRestored(s, v, f); err != nil {
			return "", err
		}
	}
	if err := swapAll(s, w); err != nil {
		return "", err
	}
	if w.New {
		if err := r.Removed.PutAway(w.Name, s.Container()); err != nil {
			return "", errors.Join(err, undoSwaps(s, w))
		}
	}
	fault.Point("restore-committed")
	return r.finishSwaps(s, w)
}

// makeRestored makes the new directory of a container from what was unpacked.
func (r *Runtime) makeRestored(s *backup.Staging, v *backup.Staged, f *store.Facts) error {
	dir := s.Container()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for _, t := range v.Index.Trees {
		to := map[string]string{backup.RootTree: "upper", backup.ImageVolumes: "volumes"}[t.Name]
		if to == "" { // it has a place of its own
			continue
		}
		if err := os.Rename(filepath.Join(s.Trees(), t.Name), filepath.Join(dir, to)); err != nil {
			return err
		}
	}
	for _, record := range rootfs.EtcRecords {
		if text := v.Index.Records[record]; text != "" && v.Index.Root == "host" {
			if err := atomicfile.Write(filepath.Join(dir, record), []byte(text)); err != nil {
				return err
			}
		}
	}
	return f.Write(dir) // and syncs the directory
}

// restoreOld replaces the data of a container.
func (r *Runtime) restoreOld(ctx context.Context, s *backup.Staging, v *backup.Staged, w *backup.Swaps, c *container) (note string, err error) {
	f, rec := r.snapshot(c)
	if rec != nil && rec.State != record.Exited {
		return "", fmt.Errorf("it runs; run stead stop %s, this restore again, and stead start %[1]s", c.name)
	}
	if err := CheckRestore(&v.Index, c.name, f, r.images); err != nil {
		return "", err
	}
	if at := changedPlace(f.Manifest, v); at != "" {
		return "", fmt.Errorf("its manifest has changed since the archive was read: %s belongs elsewhere now; run this restore again", at)
	}
	if v.Index.Root == "path" || !v.Index.Has(backup.RootTree) {
		if err := swapAll(s, w); err != nil {
			return "", err
		}
		fault.Point("restore-committed")
		return r.finishSwaps(s, w)
	}
	if err := r.unmountRoot(ctx, c.name); err != nil {
		return "", err
	}
	c.finishing.Lock() // else a late end of its run would be written to the old directory
	defer c.finishing.Unlock()
	f, _ = r.snapshot(c)
	next := *f
	if err := r.makeRestored(s, v, &next); err != nil {
		return "", err
	}
	w.List = append(w.List, backup.Swap{Staged: s.Container(), Target: r.dir(c.name), Replace: true}) // the last
	if err := swapAll(s, w); err != nil {
		return "", err
	}
	r.mu.Lock()
	c.facts = &next
	r.mu.Unlock()
	fault.Point("restore-committed")
	return r.finishSwaps(s, w)
}
