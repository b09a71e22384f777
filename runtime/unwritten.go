package runtime

import (
	"errors"
	"time"

	"stead/runtime/status"
	"stead/runtime/store"
)

// writeDelay is how long the end of a run may wait to be put on the disk.
const writeDelay = time.Second

// writeLater puts a container's facts on the disk soon, together with those of
// others. What memory knows better than the disk until then is the end of a run:
// it is in the boot record as well, so only a host that dies within this second
// forgets it, and says that the end is unknown.
func (r *Runtime) writeLater(c *container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unwritten == nil {
		r.unwritten = map[*container]bool{}
		r.tasks.Go(func() {
			select {
			case <-time.After(writeDelay):
			case <-r.ctx.Done():
			}
			r.writeUnwritten()
		})
	}
	r.unwritten[c] = true
}

func (r *Runtime) writeUnwritten() {
	r.mu.Lock()
	all := r.unwritten
	r.unwritten = nil
	r.mu.Unlock()
	for c := range all {
		if err := r.save(c, func(*store.Facts) {}); err != nil && !errors.Is(err, status.ErrMissing) { // removed meanwhile
			r.Log.Error("record the end", "container", c.name, "error", err)
		}
	}
}
