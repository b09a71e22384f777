package reconcile

import (
	"context"
	"fmt"
	"slices"
	"time"

	"stead/reconcile/events"
	"stead/reconcile/plan"
)

// HoldOptions are the options of a hold.
type HoldOptions struct {
	Names  []string `json:"names,omitempty"` // none is the whole host
	Reason string   `json:"reason,omitempty"`
}

// Hold pauses reconciliation of the named containers, or of the whole host, durably, until
// Release. If a name is neither here nor declared, nothing is held and the error wraps
// ErrNoContainer.
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
	// Under the lock of passes: an action that a pass planned before is not started after.
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

// Release ends the holds of the named containers, or without names the host's. A name without
// a hold of its own is an error, which wraps ErrNoContainer if the name is unknown.
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
		now := e.current()
		if !now.knows(name) {
			return fmt.Errorf("release %s: %w", name, ErrNoContainer)
		}
		if st := plan.Find(now.observed, name); st != nil && st.Applied.Replica != nil && holds.OfContainer(st.Applied) != nil {
			return fmt.Errorf("release %s: all of %s is on hold; stead release %[2]s ends that", name, st.Applied.Group())
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
	_, group := s.desired.Groups[name]
	_, err := containersNamed(s.observed, []string{name})
	return err == nil || group || s.desired.Lookup(name) != nil
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
