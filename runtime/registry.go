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

// registry is the containers that are known, by name.
type registry struct {
	mu      sync.Mutex // guards the map, the list, and the fields of every container
	byName  map[string]*container
	ordered []*container // all of byName, by name
	news    bool         // an inspection found something new
}

// put makes a container known.
func (r *registry) put(c *container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, _ := r.search(c.name)
	r.byName[c.name], r.ordered = c, slices.Insert(r.ordered, i, c)
}

// drop forgets a container.
func (r *registry) drop(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i, there := r.search(name); there {
		delete(r.byName, name)
		r.ordered = slices.Delete(r.ordered, i, i+1)
	}
}

// search returns where a name stands, or would stand, in the order.
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

// known returns a container's facts and record as of now; neither is ever changed in place.
func (r *registry) known(c *container) (*store.Facts, *record.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.facts, c.rec
}

// advance is container.advance for who does not hold the lock.
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

// List is what is known about every container, by name. A Status is never changed
// and is made anew only when something is new of its container: among thousands,
// deriving and copying them all would be most of a pass.
func (r *registry) List() []*status.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*status.Status, len(r.ordered))
	for i, c := range r.ordered {
		all[i] = c.status()
	}
	return all
}

// Get is what is known about one container.
func (r *registry) Get(name string) (status.Status, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.byName[name]
	if !ok {
		return status.Status{}, false
	}
	return *c.status(), true
}
