package runtime

import (
	"errors"
	"sync"
	"time"

	"stead/runtime/status"
	"stead/runtime/store"

	"golang.org/x/sys/unix"
)

// writeDelay is the time until the end of a run is written to disk.
const writeDelay = time.Second

// longestWriteDelay is the time between two attempts when the disk stays full.
const longestWriteDelay = time.Minute

// pendingWrites is the set of containers whose facts will be written soon.
type pendingWrites struct {
	mu      sync.Mutex // guards what follows
	all     map[*container]bool
	writing bool // a goroutine writes them
}

func (p *pendingWrites) has(c *container) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[c]
}

// add reports whether nobody writes them yet, so that the caller has to.
func (p *pendingWrites) add(c *container) (first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil {
		p.all = map[*container]bool{}
	}
	p.all[c] = true
	first = !p.writing
	p.writing = true
	return first
}

func (p *pendingWrites) take() map[*container]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.all
	p.all = nil
	return all
}

// isDone reports whether there is nothing to write. The caller then stops writing.
func (p *pendingWrites) isDone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writing = len(p.all) > 0
	return !p.writing
}

// writeLater writes a container's facts to disk soon, together with those of others, and
// tries again until that succeeds. Until then only memory has them, and for the end of a run
// the boot record: if the host dies within this second, the end will be unknown.
func (r *Runtime) writeLater(c *container) {
	if !r.pending.add(c) {
		return
	}
	r.tasks.Go(func() {
		for wait := writeDelay; !r.pending.isDone(); wait = min(2*wait, longestWriteDelay) {
			select {
			case <-time.After(wait):
				r.writePending(wait == writeDelay)
			case <-r.ctx.Done():
				r.writePending(true)
				return
			}
		}
	})
}

// writePending writes all pending facts once. It keeps those that can't be written.
func (r *Runtime) writePending(log bool) {
	for c := range r.pending.take() {
		err := r.save(c, func(*store.Facts) {})
		if err == nil || errors.Is(err, status.ErrMissing) { // removed meanwhile
			continue
		}
		r.pending.add(c)
		if log {
			r.Log.Error("cannot write container.json; will be retried", "container", c.name, "error", err)
		}
	}
}

// saveOrKeep is save for a change that must not fail because the disk is full: what fills it
// could otherwise not be stopped. Then the change is in memory only and is written as soon as
// there is space. The error says so; it is for the admin alone.
func (r *Runtime) saveOrKeep(c *container, change func(*store.Facts)) (unwritten, err error) {
	c.finishing.Lock()
	defer c.finishing.Unlock()
	next, err := r.changeFacts(c, change)
	if err != nil && !isDiskFull(err) {
		return nil, err
	}
	r.setFacts(c, next)
	if err != nil {
		r.writeLater(c)
	}
	return err, nil
}

func isDiskFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
