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

	"golang.org/x/sys/unix"
)

// A restore has three steps. A job unpacks and verifies the archive in a staging directory. Then
// Restore, under the lock of the state directory, swaps the directory of the container with a new
// one that has the data: in one step, so that there is never a container with half of it. The old
// directory goes to removed/. Without such a container, the new directory becomes that of a
// removed one, which a container of that name gets back. At last the verb writes the manifest.

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
	if f == nil {
		if x.Image == nil {
			return nil
		}
		img, err := images.Lookup(x.Image.Reference)
		if errors.Is(err, image.ErrNotFound) {
			return fmt.Errorf("its files are changes of the image %s (%s), which is not on this host; add it first, with stead image pull or stead image import", x.Image.Reference, x.Image.Digest)
		}
		if err == nil && img.Digest != x.Image.Digest {
			return fmt.Errorf("its files are changes of the image %s with the digest %s, and that of this host has the digest %s; add the other one first", x.Image.Reference, x.Image.Digest, img.Digest)
		}
		return err
	}
	if kind := rootKind(f.Manifest); kind != x.Root {
		return fmt.Errorf("the root of %s is of another kind (%s) than that in the backup (%s); stead restore --as makes a container beside it", name, kind, x.Root)
	}
	if x.Image != nil && (f.Image == nil || f.Image.Digest != x.Image.Digest) {
		have := "none yet"
		if f.Image != nil {
			have = f.Image.Digest
		}
		return fmt.Errorf("the backup has changes of the image %s, and the image of %s is %s; put the old reference into its manifest first", x.Image.Digest, name, have)
	}
	return nil
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
	c, err := r.find(name)
	if err != nil {
		note, err = r.restoreNew(s, v, name)
	} else {
		note, err = r.restoreOld(ctx, s, v, c)
	}
	if err != nil {
		return "", fmt.Errorf("restore %s: %w", name, err)
	}
	return note, nil
}

// restoreNew keeps the data for a container of that name that is made later.
func (r *Runtime) restoreNew(s *backup.Staging, v *backup.Staged, name string) (note string, err error) {
	if err := CheckRestore(&v.Index, name, nil, r.images); err != nil {
		return "", err
	}
	if _, err := os.Lstat(r.dir(name)); err == nil {
		return "", fmt.Errorf("%s is there already", r.dir(name))
	}
	if v.Index.Root == "path" {
		return "", placePath(v)
	}
	m, err := ParseApplied(v.Applied, name)
	if err != nil {
		return "", err
	}
	f := &store.Facts{Manifest: m, CreatedAt: time.Now().UTC()}
	if err := r.makeRestored(s, v, f); err != nil {
		return "", err
	}
	fault.Point("restore-made")
	if err := r.Removed.PutAway(name, s.Container()); err != nil {
		return "", err
	}
	fault.Point("restore-swapped")
	return "", nil
}

// makeRestored makes the new directory of a container from what was unpacked.
func (r *Runtime) makeRestored(s *backup.Staging, v *backup.Staged, f *store.Facts) error {
	dir := s.Container()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	f.Image = nil
	if v.Index.Image != nil {
		f.Image = &store.Image{Reference: v.Index.Image.Reference, Digest: v.Index.Image.Digest}
	}
	for _, t := range v.Index.Trees {
		to := map[string]string{backup.RootTree: "upper", backup.ImageVolumes: "volumes"}[t.Name]
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

// restoreOld swaps the data of a container.
func (r *Runtime) restoreOld(ctx context.Context, s *backup.Staging, v *backup.Staged, c *container) (note string, err error) {
	f, rec := r.snapshot(c)
	if rec != nil && rec.State != record.Exited {
		return "", fmt.Errorf("it runs; run stead stop %s, this restore again, and stead start %[1]s", c.name)
	}
	if err := CheckRestore(&v.Index, c.name, f, r.images); err != nil {
		return "", err
	}
	if v.Index.Root == "path" {
		return r.swapPath(s, v, c)
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
	if err := s.SetReplaces(c.name); err != nil {
		return "", err
	}
	fault.Point("restore-made")
	if err := unix.Renameat2(unix.AT_FDCWD, s.Container(), unix.AT_FDCWD, r.dir(c.name), unix.RENAME_EXCHANGE); err != nil {
		return "", errors.Join(&os.PathError{Op: "swap", Path: r.dir(c.name), Err: err}, s.ClearReplaces())
	}
	fault.Point("restore-swapped")
	if err := errors.Join(atomicfile.SyncDir(r.dir("")), atomicfile.SyncDir(s.Dir)); err != nil {
		return "", err
	}
	r.mu.Lock()
	c.facts = &next
	r.mu.Unlock()
	if err := os.Rename(s.Container()+"/log", r.dir(c.name)+"/log"); err != nil && !errors.Is(err, os.ErrNotExist) {
		r.Log.Error("cannot keep the output", "container", c.name, "error", err)
	}
	return r.putAwayReplaced(c.name, s.Container())
}

// putAwayReplaced moves data that a restore has replaced to removed/.
func (r *Runtime) putAwayReplaced(name, dir string) (note string, err error) {
	entry, err := r.Removed.PutAwayReplaced(name, dir)
	if err != nil {
		return "", fmt.Errorf("keep the data from before: %w", err)
	}
	return "the data from before is in removed/" + entry, nil
}

// placePath puts an unpacked path root where there is none, or an empty directory.
func placePath(v *backup.Staged) error {
	if err := os.Rename(v.Root, v.Path); err != nil {
		if errors.Is(err, os.ErrExist) || errors.Is(err, unix.ENOTDIR) {
			return fmt.Errorf("%s is there, and not an empty directory; move it away first", v.Path)
		}
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(v.Path))
}

// swapPath swaps the directory of a path root. The old one stays beside it.
func (r *Runtime) swapPath(s *backup.Staging, v *backup.Staged, c *container) (note string, err error) {
	if _, err := os.Lstat(v.Path); errors.Is(err, os.ErrNotExist) {
		return "", placePath(v)
	}
	if err := s.SetReplaces(c.name); err != nil {
		return "", err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, v.Root, unix.AT_FDCWD, v.Path, unix.RENAME_EXCHANGE); err != nil {
		return "", errors.Join(&os.PathError{Op: "swap", Path: v.Path, Err: err}, s.ClearReplaces())
	}
	fault.Point("restore-swapped")
	if err := atomicfile.SyncDir(filepath.Dir(v.Path)); err != nil {
		return "", err
	}
	return keepReplacedPath(v.Root, v.Path)
}

// keepReplacedPath gives the old directory of a path root the name that it keeps.
func keepReplacedPath(dir, path string) (note string, err error) {
	old := path + ".replaced-" + time.Now().UTC().Format("20060102T150405.000Z")
	if err := unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, old, unix.RENAME_NOREPLACE); err != nil {
		return "", &os.PathError{Op: "rename", Path: dir, Err: err}
	}
	return "the data from before is in " + old, nil
}

// sweepRestores finishes or undoes restores whose processes died. What may be the data of a
// container from before is kept.
func (r *Runtime) sweepRestores(ctx context.Context) error {
	all, failed := backup.Abandoned(r.StateDir)
	for _, s := range all {
		failed = errors.Join(failed, r.sweepRestore(ctx, s))
	}
	return failed
}

func (r *Runtime) sweepRestore(ctx context.Context, s *backup.Staging) error {
	if name := s.Replaces(); name != "" {
		if _, err := os.Lstat(s.Container()); err == nil {
			if _, err := r.putAwayReplaced(name, s.Container()); err != nil {
				return err
			}
		}
		if v, err := s.Staged(); err == nil && v.Path != "" {
			if _, err := os.Lstat(v.Root); err == nil {
				if _, err := keepReplacedPath(v.Root, v.Path); err != nil {
					return err
				}
			}
		}
	}
	return s.Discard(ctx)
}
