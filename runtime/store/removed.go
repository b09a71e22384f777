package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"stead/runtime/status"
)

// Removed manages STATE/removed: the directories of removed containers, with their data. Its
// methods may be called concurrently.
type Removed struct {
	dir string

	mu      sync.Mutex           // guards what follows, not the files
	newest  map[string]string    // by container, its last entry
	overdue map[string]time.Time // by entry, when Expire first found it overdue
}

// RemovedContainer is a removed container whose data still exists.
type RemovedContainer struct {
	Name      string
	Entry     string // of STATE/removed: NAME@20261123T041500Z
	Path      string // of its directory
	RemovedAt time.Time
	Deleting  bool          // its deletion began, and is under way or failed: nothing brings it back
	From      status.Origin // origin of its manifest; zero if unknown
	Group     string        // the name of its manifest, if it was a replica
}

// Is reports whether a name means the container: its own, that of its entry, or, for a replica,
// that of its manifest.
func (r *RemovedContainer) Is(name string) bool {
	return name != "" && (name == r.Name || name == r.Entry || name == r.Group)
}

const entryTime = "20060102T150405Z"

// parseEntry parses the name of a removed container's directory.
func parseEntry(entry string) (name string, at time.Time, ok bool) {
	name, text, ok := strings.Cut(entry, "@")
	text, _, _ = strings.Cut(text, ".") // a number follows if there were two in one second
	at, err := time.Parse(entryTime, text)
	return name, at, ok && name != "" && err == nil && !strings.HasPrefix(name, doomedPrefix)
}

// RemovedName returns the container's name in an entry of STATE/removed.
func RemovedName(entry string) string {
	name, _, _ := strings.Cut(entry, "@")
	return name
}

// OpenRemoved reads the entries of STATE/removed.
func OpenRemoved(stateDir string) (*Removed, error) {
	r := &Removed{dir: filepath.Join(stateDir, "removed"), newest: map[string]string{}}
	all, err := r.entries()
	for _, e := range all {
		if !isReset(e.Entry) && !e.Deleting {
			r.newest[e.Name] = e.Entry
		}
	}
	return r, err
}

// entries returns the entries of STATE/removed by name and time, without files whose names
// have another form.
func (r *Removed) entries() ([]RemovedContainer, error) {
	files, err := os.ReadDir(r.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list removed containers: %w", err)
	}
	var all []RemovedContainer
	for _, f := range files {
		entry, deleting := strings.CutPrefix(f.Name(), doomedPrefix)
		if name, at, ok := parseEntry(entry); ok && f.IsDir() {
			all = append(all, RemovedContainer{Name: name, Entry: entry, Path: filepath.Join(r.dir, f.Name()), RemovedAt: at, Deleting: deleting})
		}
	}
	slices.SortStableFunc(all, func(a, b RemovedContainer) int { return strings.Compare(a.Entry, b.Entry) })
	return all, nil
}

// List returns the containers that were removed and not yet deleted as a whole, by name and
// time.
func (r *Removed) List() ([]RemovedContainer, error) {
	all, err := r.entries()
	for i := range all {
		if f, err := ReadFacts(all[i].Path); err == nil {
			all[i].From, all[i].Group = f.From, f.Manifest.Group()
		}
	}
	return all, err
}

// Image returns the image that the newest data of a name belongs to; false if there is none.
func (r *Removed) Image(name string) (use status.ImageUse, ok bool) {
	f := r.Facts(name)
	if f == nil || f.Image == nil {
		return use, false
	}
	return status.ImageUse(*f.Image), true
}

// Facts returns the facts of the newest removed container of a name, which BringBack would move; nil
// if there are none.
func (r *Removed) Facts(name string) *Facts {
	r.mu.Lock()
	newest := r.newest[name]
	r.mu.Unlock()
	if newest == "" {
		return nil
	}
	dir := filepath.Join(r.dir, newest)
	if f, err := ReadFacts(dir); err == nil {
		return f
	}
	return BroughtBack(dir)
}

// FinishDeletions finishes the deletions that an earlier process began.
func (r *Removed) FinishDeletions(ctx context.Context, log *slog.Logger) {
	doomed, _ := filepath.Glob(filepath.Join(r.dir, doomedPrefix+"*"))
	for _, dir := range doomed {
		if err := deleteTree(ctx, dir); err != nil && ctx.Err() == nil {
			log.Error("cannot delete purged data", "error", err)
		}
	}
}

// broughtBackFile has the old facts of a container that was brought back, until its new facts
// are written.
const broughtBackFile = "brought-back.json"

// BringBack moves the newest removed container of a name to dir and returns a note for
// the admin; "" if there is none.
func (r *Removed) BringBack(name, dir string) (note string, err error) {
	r.mu.Lock()
	newest := r.newest[name]
	r.mu.Unlock()
	if newest == "" {
		return "", nil
	}
	// The facts are out of date. If this process dies after the rename, the next must not
	// take them for those of the container: another one may have these ids by now, and an
	// admin's stop was one of the removed container.
	old := filepath.Join(r.dir, newest)
	if err := os.Rename(filepath.Join(old, FactsFile), filepath.Join(old, broughtBackFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	err = os.Rename(old, dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	r.forget(newest)
	if err != nil { // removed by hand
		return "", nil
	}
	_, at, _ := parseEntry(newest)
	return "root of " + at.Format(time.DateOnly) + " brought back", nil
}

// UndoBringBack moves a container that was brought back to dir to removed/ again, unless its new
// facts are written.
func (r *Removed) UndoBringBack(name, dir string) error {
	facts, old := filepath.Join(dir, FactsFile), filepath.Join(dir, broughtBackFile)
	if _, err := os.Lstat(old); err != nil {
		return nil
	}
	if _, err := os.Lstat(facts); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// The facts last: a removed container may have them under either name.
	if err := r.PutAway(name, dir); err != nil {
		return err
	}
	r.mu.Lock()
	entry := filepath.Join(r.dir, r.newest[name])
	r.mu.Unlock()
	return os.Rename(filepath.Join(entry, broughtBackFile), filepath.Join(entry, FactsFile))
}

// BroughtBack returns the old facts of a container that was brought back to dir, and nil if there
// are none. ForgetBroughtBack removes them once the new facts are written.
func BroughtBack(dir string) *Facts {
	f, err := readFacts(filepath.Join(dir, broughtBackFile))
	if err != nil {
		return nil
	}
	return f
}

func ForgetBroughtBack(dir string) error {
	if err := os.Remove(filepath.Join(dir, broughtBackFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// PutAway moves a container's directory to removed/NAME@TIME. The facts stay in it for
// people to read; a container that is created again starts from its new manifest.
func (r *Removed) PutAway(name, dir string) error {
	var entry string
	err := r.move(dir, func(n int) string {
		entry = name + "@" + time.Now().UTC().Format(entryTime)
		if n > 1 {
			entry += fmt.Sprintf(".%d", n)
		}
		return entry
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.newest[name] = entry
	r.mu.Unlock()
	return nil
}

// forget removes an entry from memory.
func (r *Removed) forget(entry string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name := RemovedName(entry); r.newest[name] == entry {
		delete(r.newest, name)
	}
}
