package runtime

import (
	"errors"
	"sync"
	"time"

	"stead/runtime/status"
	"stead/runtime/store"
)

// writeDelay is the time until the end of a run is written to disk.
const writeDelay = time.Second

// pendingWrites is the set of containers whose facts will be written soon.
type pendingWrites struct {
	mu  sync.Mutex          // guards all
	all map[*container]bool // nil if none
}

func (p *pendingWrites) has(c *container) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[c]
}

// add reports whether c is the first.
func (p *pendingWrites) add(c *container) (first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if first = p.all == nil; first {
		p.all = map[*container]bool{}
	}
	p.all[c] = true
	return first
}

func (p *pendingWrites) take() map[*container]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.all
	p.all = nil
	return all
}

// writeLater writes a container's facts to disk soon, together with those of others. Until
// then only the boot record has the end of the run on disk: if the host dies within this
// second, the end will be unknown.
func (r *Runtime) writeLater(c *container) {
	if !r.pending.add(c) {
		return
	}
	r.tasks.Go(func() {
		select {
		case <-time.After(writeDelay):
		case <-r.ctx.Done():
		}
		r.writePending()
	})
}

func (r *Runtime) writePending() {
	for c := range r.pending.take() {
		if err := r.save(c, func(*store.Facts) {}); err != nil && !errors.Is(err, status.ErrMissing) { // removed meanwhile
			r.Log.Error("cannot record the end", "container", c.name, "error", err)
		}
	}
}
