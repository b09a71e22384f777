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
//	beside          the directory of a path root, which is unpacked beside its place
//	container/      the new directory of the container; after the swap, the old one
//	replaces        the name of the container; once it is there, container/ may be the old one
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
	// Root is the directory with the unpacked root.
	Root string
	// Path is where a path root belongs, without links.
	Path string
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

// SetBeside notes the directory beside a path root, before it is made.
func (s *Staging) SetBeside(dir string) error {
	return atomicfile.Write(s.file("beside"), []byte(dir))
}

// Beside returns the directory beside a path root, "" if there is none.
func (s *Staging) Beside() string {
	b, _ := os.ReadFile(s.file("beside"))
	return string(b)
}

// SetStaged notes that the archive is verified and on disk.
func (s *Staging) SetStaged(v *Staged) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return atomicfile.Write(s.file("staged.json"), b)
}

// Staged returns what was unpacked.
func (s *Staging) Staged() (*Staged, error) {
	b, err := os.ReadFile(s.file("staged.json"))
	if err != nil {
		return nil, err
	}
	v := &Staged{}
	return v, json.Unmarshal(b, v)
}

// SetReplaces notes that from now on the staging directory may have the old data of a container.
func (s *Staging) SetReplaces(name string) error {
	return atomicfile.Write(s.file("replaces"), []byte(name))
}

// ClearReplaces takes SetReplaces back: the swap has failed.
func (s *Staging) ClearReplaces() error { return os.Remove(s.file("replaces")) }

// Replaces returns the container whose old data may be in the staging directory, "" for none.
func (s *Staging) Replaces() string {
	b, _ := os.ReadFile(s.file("replaces"))
	return string(b)
}

// Discard deletes the staging directory with what is in it, unless that may be the old data of a
// container: then the next start of the daemon moves it to removed/.
func (s *Staging) Discard(ctx context.Context) error {
	defer s.lock.Close()
	if name := s.Replaces(); name != "" {
		for _, dir := range []string{s.Container(), s.Beside()} {
			if _, err := os.Lstat(dir); err == nil && dir != "" {
				return fmt.Errorf("%s may be the data of %s from before; it is kept, and moved to removed/ when stead starts next", dir, name)
			}
		}
	}
	if beside := s.Beside(); beside != "" {
		if err := rootfs.Delete(ctx, beside); err != nil {
			return fmt.Errorf("delete %s: %w", beside, err)
		}
	}
	return rootfs.Delete(ctx, s.Dir)
}

// Abandoned returns the staging directories whose processes have died.
func Abandoned(stateDir string) (all []*Staging, err error) {
	entries, err := os.ReadDir(filepath.Join(stateDir, "restore"))
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	for _, e := range entries {
		dir := filepath.Join(stateDir, "restore", e.Name())
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
	return all, nil
}
