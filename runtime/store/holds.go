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

// Holds keeps what is on hold: STATE/holds.json.
type Holds struct {
	file    string
	mu      sync.Mutex // serializes changes, from the value that they begin with to the file on disk
	current atomic.Pointer[status.Holds]
}

// OpenHolds reads what is on hold.
func OpenHolds(stateDir string) (*Holds, error) {
	h := &Holds{file: filepath.Join(stateDir, "holds.json")}
	now := &status.Holds{}
	b, err := os.ReadFile(h.file)
	if err == nil {
		err = json.Unmarshal(b, now)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) { // to act on what may be on hold would be worse than not to start
		return nil, fmt.Errorf("read what is on hold from %s: %w", h.file, err)
	}
	h.current.Store(now)
	return h, nil
}

// Holds returns what is on hold. The value is never changed.
func (h *Holds) Holds() *status.Holds { return h.current.Load() }

// Hold puts containers on hold, or with no names the whole host. A hold that is
// there already gets the new reason and keeps its time.
func (h *Holds) Hold(names []string, reason string) error {
	now := status.Hold{Since: time.Now().UTC(), Reason: reason}
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

// Release takes holds back: those of containers, or with no names the host's. A
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

// HoldRemovals notes which removals are held as part of a mass removal, and why,
// in place of those noted before.
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
