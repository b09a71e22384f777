package runtime

import (
	"errors"
	"sync"
	"time"

	"stead/runtime/status"
	"stead/runtime/store"
)

// writeDelay is how long the end of a run may wait to be put on the disk.
const writeDelay = time.Second

// pendingWrites are containers whose facts are to be put on the disk soon.
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

// writeLater puts a container's facts on the disk soon, together with those of
// others. What memory knows better than the disk until then is the end of a run:
// it is in the boot record as well, so only a host that dies within this second
// forgets it, and says that the end is unknown.
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
			r.Log.Error("record the end", "container", c.name, "error", err)
		}
	}
}
