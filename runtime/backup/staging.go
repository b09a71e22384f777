package backup

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"stead/runtime/atomicfile"
	"stead/runtime/rootfs"

	"golang.org/x/sys/unix"
)

// Staging is a directory in which an archive is unpacked before it takes its place:
// STATE/restore/NONCE. It has
//
//	lock            locked by each process that works on it
//	trees/          what was unpacked
//	staged.json     Staged; there when the archive is verified and on disk
//	places.json     []Place: trees that are unpacked beside their places
//	container/      the new directory of the container; after the swap, the old one
//	swaps.json      Swaps; once it is there, data in places may be the new one, and what is staged
//	                the old one
type Staging struct {
	Dir  string
	lock *os.File
}

// Staged describes an archive that was unpacked.
type Staged struct {
	Index Index
	Notes []Note
	// Manifest, Applied and DropIns are those of the index.
	Manifest, Applied string
	DropIns           []string
	Places            []Place
}

// Place is where a tree belongs that is no part of the directory of a container: the directory of
// a path root, a volume, a directory of the host. It is unpacked beside it, on the same file system.
type Place struct {
	Tree    Tree
	Beside  string // where it is unpacked
	Target  string // where it belongs, without links
	Replace bool   // what is there is replaced, and kept; else nothing may be there, or an empty directory
}

// Swaps are what a restore puts in place: all or nothing.
type Swaps struct {
	Name string // of the container
	List []Swap
	// New is set for a container that was not there. It is restored when Container is gone, too.
	New bool
}

// Swap is a directory that takes its place.
type Swap struct {
	Staged  string // where it is before; after that, what was at Target, if anything
	Target  string
	Replace bool   // of Place
	Dev     uint64 // of the directory
	Ino     uint64
}

// NewStaging makes a staging directory. The caller must call Discard or Close.
func NewStaging(stateDir string) (*Staging, error) {
	shelf := filepath.Join(stateDir, "restore")
	dir := filepath.Join(shelf, strings.ToLower(rand.Text()[:12]))
	err := os.MkdirAll(shelf, 0o700)
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("make directory for the restore: %w", err)
	}
	return OpenStaging(dir)
}

// OpenStaging opens a staging directory for one more process. The caller must call Close.
func OpenStaging(dir string) (*Staging, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: dir, Err: err}
	}
	return &Staging{dir, f}, nil
}

// Close ends the work of this process.
func (s *Staging) Close() { s.lock.Close() }

// Trees returns the directory of unpacked trees.
func (s *Staging) Trees() string { return filepath.Join(s.Dir, "trees") }

// Container returns the path of the new directory of the container.
func (s *Staging) Container() string { return filepath.Join(s.Dir, "container") }

func (s *Staging) file(name string) string { return filepath.Join(s.Dir, name) }

func (s *Staging) write(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return atomicfile.Write(s.file(name), b)
}

// read reads a file of the staging directory. One that is not there leaves v as it is.
func (s *Staging) read(name string, v any) error {
	b, err := os.ReadFile(s.file(name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	return err
}

// SetPlaces notes the trees that are unpacked elsewhere, before they are.
func (s *Staging) SetPlaces(all []Place) error { return s.write("places.json", all) }

// Places returns the trees that are unpacked elsewhere.
func (s *Staging) Places() (all []Place, err error) { return all, s.read("places.json", &all) }

// SetStaged notes that the archive is verified and on disk.
func (s *Staging) SetStaged(v *Staged) error { return s.write("staged.json", v) }

// Staged returns what was unpacked.
func (s *Staging) Staged() (*Staged, error) {
	b, err := os.ReadFile(s.file("staged.json"))
	if err != nil {
		return nil, err
	}
	v := &Staged{}
	return v, json.Unmarshal(b, v)
}

// SetSwaps notes what is about to be put in place. From now on the staging directory, and the places
// beside, may have the data from before.
func (s *Staging) SetSwaps(w *Swaps) error { return s.write("swaps.json", w) }

// ClearSwaps takes SetSwaps back: nothing is in its place, or all is and what was there is kept.
func (s *Staging) ClearSwaps() error {
	if err := os.Remove(s.file("swaps.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return atomicfile.SyncDir(s.Dir)
}

// Swaps returns what may be in its place; nil for nothing.
func (s *Staging) Swaps() (w *Swaps, err error) { return w, s.read("swaps.json", &w) }

// Discard deletes the staging directory with what is in it and beside, unless that may be data from
// before: then the next start of the daemon keeps it.
func (s *Staging) Discard(ctx context.Context) error {
	defer s.lock.Close()
	w, err := s.Swaps()
	if err != nil || w != nil {
		return errors.Join(err, fmt.Errorf("%s may have data of %s from before; stead keeps it when it starts next", s.Dir, w.Name))
	}
	places, err := s.Places()
	if err != nil {
		return err
	}
	for _, p := range places {
		if err := rootfs.Delete(ctx, p.Beside); err != nil {
			return fmt.Errorf("delete %s: %w", p.Beside, err)
		}
	}
	return rootfs.Delete(ctx, s.Dir)
}

// Stagings returns all staging directories, without a lock.
func Stagings(stateDir string) (all []*Staging, err error) {
	entries, err := os.ReadDir(filepath.Join(stateDir, "restore"))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	for _, e := range entries {
		all = append(all, &Staging{Dir: filepath.Join(stateDir, "restore", e.Name())})
	}
	return all, err
}

// Abandoned returns the staging directories whose processes have died.
func Abandoned(stateDir string) (all []*Staging, err error) {
	stagings, err := Stagings(stateDir)
	for _, s := range stagings {
		dir := s.Dir
		f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDONLY|os.O_CREATE, 0o600)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil { // somebody works on it
			f.Close()
			continue
		}
		all = append(all, &Staging{dir, f})
	}
	return all, err
}
