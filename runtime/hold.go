package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"stead/runtime/atomicfile"
	"stead/runtime/status"
)

const holdsFile = "holds.json"

func (r *Runtime) loadHolds() error {
	file := filepath.Join(r.StateDir, holdsFile)
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		r.holds = &status.Holds{}
		return nil
	}
	h := &status.Holds{}
	if err == nil {
		err = json.Unmarshal(b, h)
	}
	if err != nil { // to act on what may be on hold would be worse than not to start
		return fmt.Errorf("read what is on hold from %s: %w", file, err)
	}
	r.holds = h
	return nil
}

// Holds are what is on hold.
func (r *Runtime) Holds() *status.Holds {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.holds
}

// Hold puts containers on hold, or with no names the whole host. A hold that is
// there already gets the new reason and keeps its time.
func (r *Runtime) Hold(names []string, reason string) error {
	now := status.Hold{Since: time.Now().UTC(), Reason: reason}
	return r.changeHolds(func(h *status.Holds) {
		if len(names) == 0 {
			if h.Host != nil {
				now.Since = h.Host.Since
			}
			h.Host = &now
		}
		for _, name := range names {
			next := now
			if before, held := h.Containers[name]; held {
				next.Since = before.Since
			}
			h.Containers[name] = next
		}
	})
}

// Release takes holds back: those of containers, or with no names the host's. A
// container's own hold outlasts the host's.
func (r *Runtime) Release(names []string) error {
	return r.changeHolds(func(h *status.Holds) {
		if len(names) == 0 {
			h.Host = nil
		}
		for _, name := range names {
			delete(h.Containers, name)
		}
	})
}

// HoldRemovals notes which removals are held as part of a mass removal, and why,
// in place of those noted before.
func (r *Runtime) HoldRemovals(why map[string]string) error {
	return r.changeHolds(func(h *status.Holds) { h.Removals = maps.Clone(why) })
}

// changeHolds changes them on disk first and then in memory.
func (r *Runtime) changeHolds(change func(*status.Holds)) error {
	r.holding.Lock()
	defer r.holding.Unlock()
	before := r.Holds()
	next := &status.Holds{Host: before.Host, Containers: map[string]status.Hold{}, Removals: before.Removals}
	maps.Copy(next.Containers, before.Containers)
	change(next)
	b, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return fmt.Errorf("encode holds: %w", err)
	}
	if err := atomicfile.Write(filepath.Join(r.StateDir, holdsFile), append(b, '\n')); err != nil {
		return err
	}
	r.mu.Lock()
	r.holds = next
	r.mu.Unlock()
	return nil
}
