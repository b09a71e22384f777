package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"stead/runtime/status"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Removed is a container that was removed and whose data is still there.
type Removed struct {
	Name      string
	Entry     string // of STATE/removed: NAME@20261123T041500Z
	Path      string // of its directory
	RemovedAt time.Time
	From      status.Origin // where its manifest stood; zero if that is not known
}

const stampFormat = "20060102T150405Z"

// parseEntry takes the name of a removed container's directory apart.
func parseEntry(entry string) (name string, at time.Time, ok bool) {
	name, stamp, ok := strings.Cut(entry, "@")
	stamp, _, _ = strings.Cut(stamp, ".") // a number follows if there were two in one second
	at, err := time.Parse(stampFormat, stamp)
	return name, at, ok && name != "" && err == nil && !strings.HasPrefix(name, doomedPrefix)
}

// RemovedName is the container's name in an entry of STATE/removed.
func RemovedName(entry string) string {
	name, _, _ := strings.Cut(entry, "@")
	return name
}

func (r *Runtime) removedDir() string { return filepath.Join(r.StateDir, "removed") }

// removedEntries are what is in STATE/removed, by name and time. What has another
// form of name is not ours.
func (r *Runtime) removedEntries() ([]Removed, error) {
	entries, err := os.ReadDir(r.removedDir())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list removed containers: %w", err)
	}
	var all []Removed
	for _, e := range entries {
		if name, at, ok := parseEntry(e.Name()); ok && e.IsDir() {
			all = append(all, Removed{Name: name, Entry: e.Name(), Path: filepath.Join(r.removedDir(), e.Name()), RemovedAt: at})
		}
	}
	return all, nil
}

// Removed lists the containers that were removed and not yet deleted, by name
// and time.
func (r *Runtime) Removed() ([]Removed, error) {
	all, err := r.removedEntries()
	for i := range all {
		if f, err := readFacts(all[i].Path); err == nil {
			all[i].From = f.From
		}
	}
	return all, err
}

// loadRemoved finds the newest removed container of each name, and goes on with
// deletions that were interrupted.
func (r *Runtime) loadRemoved() error {
	if r.ReadOnly {
		return nil // only a create asks
	}
	all, err := r.removedEntries()
	for _, e := range all {
		r.removed[e.Name] = e.Entry
	}
	doomed, _ := filepath.Glob(filepath.Join(r.removedDir(), doomedPrefix+"*"))
	if len(doomed) > 0 {
		r.watcher.Go(func() {
			for _, dir := range doomed {
				if err := r.deleteTree(r.ctx, dir); err != nil && r.ctx.Err() == nil {
					r.Log.Error("delete what was purged", "error", err)
				}
			}
		})
	}
	return err
}

// makeDir makes a container's directory, from the newest removed one if there is one.
func (r *Runtime) makeDir(name string) (broughtBack string, err error) {
	dir := r.dir(name)
	if _, err := os.Lstat(dir); err == nil {
		return "", nil // of a create that did not get far
	}
	r.mu.Lock()
	newest := r.removed[name]
	r.mu.Unlock()
	if newest == "" {
		return "", os.Mkdir(dir, 0o700)
	}
	// Its facts are of the past. If we die after the rename, they must not be
	// taken for the container's: its ids may be another's by now, and whoever
	// stopped it stopped the one that was removed.
	old := filepath.Join(r.removedDir(), newest)
	if err := os.Remove(filepath.Join(old, factsFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	err = os.Rename(old, dir)
	gone := errors.Is(err, os.ErrNotExist) // taken away by hand
	if err != nil && !gone {
		return "", err
	}
	r.mu.Lock()
	delete(r.removed, name)
	r.mu.Unlock()
	if gone {
		return "", os.Mkdir(dir, 0o700)
	}
	return "root of " + removedOn(newest) + " brought back", nil
}

// removedOn is the date in the name of a removed container's directory.
func removedOn(entry string) string {
	_, at, _ := parseEntry(entry)
	return at.Format(time.DateOnly)
}

// putAway moves the directory to removed/NAME@TIME. The facts stay with it, for
// people; a name that comes back starts from its new manifest.
func (r *Runtime) putAway(name string) error {
	entry := name + "@" + time.Now().UTC().Format(stampFormat)
	for n := 2; ; n++ {
		err := os.Rename(r.dir(name), filepath.Join(r.removedDir(), entry))
		if err == nil {
			break
		}
		if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
			return err
		}
		entry = fmt.Sprintf("%s@%s.%d", name, time.Now().UTC().Format(stampFormat), n) // twice in one second
	}
	r.mu.Lock()
	r.removed[name] = entry
	r.mu.Unlock()
	return nil
}
