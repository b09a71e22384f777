package runtime

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"stead/runtime/record"
	"stead/runtime/status"
	"stead/runtime/store"
)

// registry holds the known containers by name.
type registry struct {
	mu         sync.Mutex // guards the map, the list, and the fields of every container
	byName     map[string]*container
	ordered    []*container // all of byName, by name
	foundDrift bool         // an inspection found something new
	// unread are containers whose container.json can't be read, with the host ids of their run, 0
	// if unknown. They may run, and nothing of them is changed.
	unread map[string]uint32
	// restoring are the directories that a restore is about to replace, with its container.
	restoring map[string]string
}

// put adds a container.
func (r *registry) put(c *container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, _ := r.search(c.name)
	r.byName[c.name], r.ordered = c, slices.Insert(r.ordered, i, c)
}

// drop removes a container.
func (r *registry) drop(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i, there := r.search(name); there {
		delete(r.byName, name)
		r.ordered = slices.Delete(r.ordered, i, i+1)
	}
}

// search returns the index of a name in ordered, or where to insert it.
func (r *registry) search(name string) (int, bool) {
	return slices.BinarySearchFunc(r.ordered, name, func(c *container, name string) int { return strings.Compare(c.name, name) })
}

// find returns a container that is known. Error: status.ErrMissing.
func (r *registry) find(name string) (*container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.byName[name]
	if !ok {
		return nil, fmt.Errorf("container %s: %w", name, status.ErrMissing)
	}
	return c, nil
}

// isUnread reports whether there is a container whose facts could not be read.
func (r *registry) isUnread(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, unread := r.unread[name]
	return unread
}

// snapshot returns a container's current facts and record; neither is ever changed in place.
func (r *registry) snapshot(c *container) (*store.Facts, *record.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.facts, c.rec
}

// advance calls container.advance with the lock held.
func (r *registry) advance(c *container, rec *record.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.advance(rec)
}

// mark sets a flag of a container until unmark is called.
func (r *registry) mark(flag *bool) (unmark func()) {
	set := func(to bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		*flag = to
	}
	set(true)
	return func() { set(false) }
}

// running returns the containers that run, by name.
func (r *registry) running() (all []*container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.ordered {
		if c.rec != nil && c.rec.State == record.Running {
			all = append(all, c)
		}
	}
	return all
}

// List returns the status of every container, by name. A Status is never changed, and a
// new one is made only when its container changed: with thousands of containers, deriving
// and copying them all would be most of a pass.
func (r *registry) List() []*status.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*status.Status, len(r.ordered))
	for i, c := range r.ordered {
		all[i] = c.status()
	}
	return all
}

// Get returns the status of one container.
func (r *registry) Get(name string) (status.Status, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.byName[name]
	if !ok {
		return status.Status{}, false
	}
	return *c.status(), true
}
