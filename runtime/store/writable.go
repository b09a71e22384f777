package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"stead/runtime/atomicfile"
	"stead/runtime/hostpath"
)

// Writable lists the directories and files of the host that a container can write, or ever
// could: a link or a manifest that it left there outlives it. The list is durable: a file
// with one quoted entry on each line, for each path of the directory or file on the host
// and for its identity.
type Writable struct {
	state string // the state directory, without links
	file  string

	mu   sync.Mutex      // guards what follows, and appends to the file
	all  map[string]bool // without links
	list []string        // the same, in the order in which they came
}

// OpenWritable reads the list. It also has paths that do not exist now, as they may be on a
// disk that is not mounted yet. If the file can't be read, the list has only the private roots.
func OpenWritable(stateDir string) (*Writable, error) {
	w := &Writable{state: Resolved(stateDir), file: filepath.Join(stateDir, "shared"), all: map[string]bool{}}
	w.list = []string{w.state + "/containers", w.state + "/removed", w.state + "/volumes"} // private roots
	b, err := os.ReadFile(w.file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return w, fmt.Errorf("read shared directories: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		dir, err := strconv.Unquote(strings.TrimSpace(line)) // the last line may be half there
		if err == nil {
			w.put(dir)
		}
	}
	return w, nil
}

func (w *Writable) put(dir string) {
	if dir != "" && !w.all[dir] {
		w.all[dir] = true
		w.list = append(w.list, dir)
	}
}

// Has reports whether a path or an identity is on the list.
func (w *Writable) Has(dir string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all[dir]
}

// Add adds entries to the list, and returns when they are on disk.
func (w *Writable) Add(dirs []string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := ""
	for _, dir := range dirs {
		if dir != "" && !w.all[dir] {
			text += "\n" + strconv.Quote(dir) + "\n" // never behind half a line
		}
	}
	if text == "" {
		return nil
	}
	f, err := os.OpenFile(w.file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Sync(), f.Close(), atomicfile.SyncDir(filepath.Dir(w.file)))
	}
	if err != nil {
		return fmt.Errorf("note shared directories: %w", err)
	}
	for _, dir := range dirs {
		w.put(dir)
	}
	return nil
}

// List returns all entries: paths without links, and identities. New ones come at its end.
func (w *Writable) List() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.list
}

// Contains reports whether a container may have made entries of a directory of the host.
// Symlinks in such a directory must not be followed.
func (w *Writable) Contains(dir string) bool {
	if rest, ok := strings.CutPrefix(dir, w.state+"/containers/"); ok {
		_, in, _ := strings.Cut(rest, "/")
		if in, _, _ = strings.Cut(in, "/"); strings.HasPrefix(in, "upper") || in == "root" || in == "volumes" {
			return true
		}
	}
	return strings.HasPrefix(dir, w.state+"/removed/") || strings.HasPrefix(dir, w.state+"/volumes/") || w.Has(dir)
}

// CheckConfig returns an error if a container can or once could write to the
// configuration, or to a link that leads there.
func CheckConfig(stateDir, config string) error {
	w, err := OpenWritable(stateDir)
	if err != nil {
		return err
	}
	real, links := hostpath.Resolve(config)
	for _, name := range append(links, real) {
		for _, dir := range w.List() {
			if hostpath.Within(name, dir) {
				return fmt.Errorf("a container can write to %s, or once could; copy the file to a directory that no container could ever write", dir)
			}
		}
	}
	return nil
}
