package reconcile

import (
	"context"
	"fmt"
	"slices"
	"time"

	"stead/reconcile/events"
	"stead/reconcile/plan"
)

// HoldOptions say what is put on hold.
type HoldOptions struct {
	Names  []string `json:"names,omitempty"` // none is the whole host
	Reason string   `json:"reason,omitempty"`
}

// Hold puts containers, or the whole host, on hold: durably, until Release. The
// error wraps ErrNoContainer if a name is neither here nor declared; then nothing
// is put on hold.
func (e *Engine) Hold(_ context.Context, o HoldOptions) error {
	e.init()
	if len(o.Names) > 0 {
		now := e.look()
		for _, name := range o.Names {
			if !now.knows(name) {
				return fmt.Errorf("hold %s: %w", name, ErrNoContainer)
			}
		}
	}
	// Under the pass's lock: what a pass planned before is not done after.
	e.pass.Lock()
	err := e.Holds.Hold(o.Names, o.Reason)
	e.pass.Unlock()
	if err != nil {
		return err
	}
	e.noteHold(events.Held, o.Names, "put on hold by admin", o.Reason)
	signal(e.poke)
	return nil
}

// Release ends holds: those of containers, or with no names the host's. It is an
// error if a name is not on hold by itself; it wraps ErrNoContainer if the name is
// neither on hold nor here nor declared.
func (e *Engine) Release(_ context.Context, names []string) error {
	e.init()
	holds := e.holds()
	for _, name := range names {
		if _, held := holds.Containers[name]; held {
			continue
		}
		if holds.Host != nil {
			return fmt.Errorf("release %s: the whole host is %s; stead release ends that", name, plan.HoldClause(holds.Host))
		}
		if now := e.current(); !now.knows(name) {
			return fmt.Errorf("release %s: %w", name, ErrNoContainer)
		}
		return fmt.Errorf("release %s: it is not on hold", name)
	}
	if len(names) == 0 && holds.Host == nil {
		return nil // as asked
	}
	if err := e.Holds.Release(names); err != nil {
		return err
	}
	e.noteHold(events.Released, names, "released by admin", "")
	signal(e.poke)
	return nil
}

// knows reports whether a container of that name is here or declared.
func (s state) knows(name string) bool {
	return plan.Find(s.observed, name) != nil || s.desired.Lookup(name) != nil
}

func (e *Engine) noteHold(t events.Type, names []string, cause, reason string) {
	if len(names) == 0 {
		names = []string{""}
	}
	now := time.Now()
	var list []events.Event
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		list = append(list, events.Event{Time: now, Type: t, Container: name, Cause: cause, Message: reason})
	}
	e.journal.record(list...)
}
