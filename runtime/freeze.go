package runtime

import (
	"errors"
	"fmt"

	"stead/runtime/record"
)

// thawAll lets the keeper go on where somebody froze it, by its own group or with all
// containers by the one that they are in: it would answer nobody. While the host is
// on hold the latter may be what the hold is for.
func (r *Runtime) thawAll() error {
	var err error
	switch {
	case !r.host.ParentFrozen():
	case r.Holds.Holds().Host != nil:
		return fmt.Errorf("cgroup %s with all containers and the keeper is frozen, and this host is on hold", r.host.Parent)
	default:
		r.Log.Warn("all containers were frozen by hand: they go on", "cgroup", r.host.Parent)
		err = r.host.ThawParent()
	}
	own := r.keeperGroup()
	if own.Frozen() {
		r.Log.Warn("the keeper was frozen by hand: it goes on")
		err = errors.Join(err, own.Thaw())
	}
	return err
}

// thawInterrupted lets a container go on that was held still by a change of its
// limits when whoever made it died. One that was frozen by hand is drift.
func (r *Runtime) thawInterrupted(rec *record.Record) error {
	g := r.host.Group(rec.ID())
	if !g.FrozenByUs() {
		return nil
	}
	r.Log.Warn("a change of its limits was interrupted: it goes on", "container", rec.Name)
	return g.Thaw()
}
