package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"stead/runtime/atomicfile"
	"stead/runtime/fault"

	"golang.org/x/sys/unix"
)

// InUseError reports that an image can't be deleted.
type InUseError struct {
	Name   string
	UsedBy []string
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("image %s is used by %s", e.Name, strings.Join(e.UsedBy, ", "))
}

// patience is how long a deletion waits for pulls and imports.
const patience = 2 * time.Second

// Remove deletes a name, and the image with the layers that no other image has if it was the
// last name. It fails with an InUseError if somebody uses the image. It needs no space on the
// disk.
func (s *Store) Remove(ctx context.Context, name string, declared Declared) error {
	return s.deleting(ctx, func() error {
		m, err := s.Lookup(name)
		if err != nil {
			return err
		}
		images, refs, err := s.read()
		if err != nil {
			return err
		}
		uses, err := s.uses(images, refs, declared)
		if err != nil {
			return err
		}
		var names []string
		for _, r := range refs {
			if r.Digest == m.Digest {
				names = append(names, r.Name)
			}
		}
		if i := slices.Index(names, name); i >= 0 && len(names) > 1 {
			if len(declared[name]) > 0 {
				return &InUseError{name, declared[name]}
			}
			return s.unlink(s.refFile(name))
		}
		if len(uses[m.Digest]) > 0 {
			return &InUseError{name, uses[m.Digest]}
		}
		return s.forget(images, refs, false, m.Digest)
	})
}

// Unused returns the images that Prune would delete.
func (s *Store) Unused(declared Declared) ([]Entry, error) {
	all, err := s.List(declared)
	return slices.DeleteFunc(all, func(e Entry) bool { return len(e.UsedBy) > 0 }), err
}

// Prune deletes all images that nobody uses or declares, and the layers of interrupted pulls,
// and returns what it deleted.
func (s *Store) Prune(ctx context.Context, declared Declared) (gone []Entry, err error) {
	err = s.deleting(ctx, func() error {
		if gone, err = s.Unused(declared); err != nil {
			return err
		}
		images, refs, err := s.read()
		if err != nil {
			return err
		}
		var digests []string
		for _, e := range gone {
			digests = append(digests, e.Digest)
		}
		return s.forget(images, refs, true, digests...)
	})
	return gone, err
}

// deleting holds the lock while records are deleted and the files of layers without one are
// renamed. It deletes these afterwards: that may take long, and starts wait for the lock.
func (s *Store) deleting(ctx context.Context, records func() error) error {
	if _, err := os.Lstat(s.dir); errors.Is(err, os.ErrNotExist) {
		return records() // nothing is there
	}
	release, err := s.lock(ctx, unix.LOCK_EX, patience)
	if err != nil {
		return err
	}
	err = records()
	if err == nil {
		err = s.putAside()
	}
	release()
	return errors.Join(err, s.deleteAside())
}

// forget deletes the records of images, of their names, and of the layers that no other image
// has; with all also those of layers that no image has, which a pull may still need.
func (s *Store) forget(images []*Image, refs []ref, all bool, digests ...string) error {
	for _, r := range refs {
		if slices.Contains(digests, r.Digest) {
			if err := s.unlink(s.refFile(r.Name)); err != nil {
				return err
			}
		}
	}
	fault.Point("image-name-deleted")
	theirs, needed := map[int]bool{}, map[int]bool{}
	for _, m := range images {
		if slices.Contains(digests, m.Digest) {
			file, err := s.imageFile(m.Digest)
			if err == nil {
				err = s.unlink(file)
			}
			if err != nil {
				return err
			}
		}
		for _, l := range m.Layers {
			if slices.Contains(digests, m.Digest) {
				theirs[l.Number] = true
			} else {
				needed[l.Number] = true
			}
		}
	}
	fault.Point("image-record-deleted")
	records, err := s.layers()
	if err != nil {
		return err
	}
	for _, l := range records {
		if needed[l.Number] || !all && !theirs[l.Number] {
			continue
		}
		if err := s.unlink(s.layerFile(l.Number)); err != nil {
			return err
		}
	}
	return nil
}

// unlink deletes a record for good: after a loss of power it must not name what is deleted
// next.
func (s *Store) unlink(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(file))
}
