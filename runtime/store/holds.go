package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"stead/runtime/atomicfile"
	"stead/runtime/status"
)

// Holds stores the holds of this host: STATE/holds.json.
type Holds struct {
	file    string
	mu      sync.Mutex // serializes changes, from the value that they begin with to the file on disk
	current atomic.Pointer[status.Holds]
}

// OpenHolds reads the holds.
func OpenHolds(stateDir string) (*Holds, error) {
	h := &Holds{file: filepath.Join(stateDir, "holds.json")}
	now := &status.Holds{}
	b, err := os.ReadFile(h.file)
	if err == nil {
		err = json.Unmarshal(b, now)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) { // changing what may be on hold would be worse than not starting
		return nil, fmt.Errorf("read holds from %s: %w", h.file, err)
	}
	h.current.Store(now)
	return h, nil
}

// Holds returns the current holds. The value is never changed.
func (h *Holds) Holds() *status.Holds { return h.current.Load() }

// Hold puts containers on hold, or without names the whole host. An existing hold gets the
// new reason and keeps its time.
func (h *Holds) Hold(names []string, reason string) error {
	now := status.Hold{Since: time.Now().UTC().Truncate(time.Millisecond), Reason: reason}
	return h.change(func(next *status.Holds) {
		if len(names) == 0 {
			if next.Host != nil {
				now.Since = next.Host.Since
			}
			next.Host = &now
		}
		for _, name := range names {
			own := now
			if before, held := next.Containers[name]; held {
				own.Since = before.Since
			}
			next.Containers[name] = own
		}
	})
}

// Release removes the holds of containers, or without names the hold of the host. A
// container's own hold outlasts the host's.
func (h *Holds) Release(names []string) error {
	return h.change(func(next *status.Holds) {
		if len(names) == 0 {
			next.Host = nil
		}
		for _, name := range names {
			delete(next.Containers, name)
		}
	})
}

// HoldRemovals saves which removals are held as part of a mass removal, and why. It
// replaces those saved before.
func (h *Holds) HoldRemovals(why map[string]string) error {
	return h.change(func(next *status.Holds) { next.Removals = maps.Clone(why) })
}

// change changes the file first and then memory.
func (h *Holds) change(change func(*status.Holds)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.Holds()
	next := &status.Holds{Host: before.Host, Containers: map[string]status.Hold{}, Removals: before.Removals}
	maps.Copy(next.Containers, before.Containers)
	change(next)
	b, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return fmt.Errorf("encode holds: %w", err)
	}
	if err := atomicfile.Write(h.file, append(b, '\n')); err != nil {
		return err
	}
	h.current.Store(next)
	return nil
}
