package reconcile

import (
	"context"
	"fmt"
	"slices"
	"time"

	"stead/reconcile/events"
	"stead/runtime/status"
)

// A hold is an admin's word that manifests are not to be followed for a while:
// what was applied is kept up, by its restart policy too, and nothing else is
// done. This file says what that means for a plan, and puts holds on and off.

// onHold plans for a container on hold: what was applied goes on as it is, and
// what has changed waits.
func (p *planner) onHold(st *status.Status, w *Want, h *status.Hold) {
	if w.Spec != st.Applied {
		if changes := p.Compare(st.Applied, w.Spec); len(changes) > 0 {
			verb := Update
			if needsRestart(changes) {
				verb = Restart
			}
			p.hold(Action{Verb: verb, Name: st.Name, Changes: changes, From: w.From}, h)
		}
	}
	now := *st
	now.Unapplied, now.Drift, now.Lost = nil, nil, nil // what was changed by hand may be why it is on hold
	p.container(&now, &Want{Spec: st.Applied, From: st.From})
}

// hold plans that an action waits for the release.
func (p *planner) hold(a Action, h *status.Hold) {
	a.Verb, a.held, a.byAdmin = Hold, a.Verb, true
	a.Cause = fmt.Sprintf("%s waits; %s; %s", a.held, HoldClause(h), releaseAdvice(p.Holds, a.Name))
	p.plan.Held = append(p.plan.Held, a)
}

// HoldClause says since when something is on hold, and why.
func HoldClause(h *status.Hold) string {
	clause := "on hold since " + h.Since.UTC().Format(time.RFC3339)
	if h.Reason != "" {
		clause += ": " + h.Reason
	}
	return clause
}

func releaseAdvice(h *status.Holds, name string) string {
	if _, own := h.Containers[name]; own {
		return "end it with stead release " + name
	}
	return "end it with stead release"
}

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
		desired, observed, _, _ := e.look(false)
		for _, name := range o.Names {
			if find(observed, name) == nil && desired.Lookup(name) == nil {
				return fmt.Errorf("hold %s: %w", name, ErrNoContainer)
			}
		}
	}
	// Under the pass's lock: what a pass planned before is not done after.
	e.pass.Lock()
	err := e.Runtime.Hold(o.Names, o.Reason)
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
	holds := e.Runtime.Holds()
	for _, name := range names {
		if _, held := holds.Containers[name]; held {
			continue
		}
		if holds.Host != nil {
			return fmt.Errorf("release %s: the whole host is %s; stead release ends that", name, HoldClause(holds.Host))
		}
		if desired, observed, _, _ := e.current(); find(observed, name) == nil && desired.Lookup(name) == nil {
			return fmt.Errorf("release %s: %w", name, ErrNoContainer)
		}
		return fmt.Errorf("release %s: it is not on hold", name)
	}
	if len(names) == 0 && holds.Host == nil {
		return nil // as asked
	}
	if err := e.Runtime.Release(names); err != nil {
		return err
	}
	e.noteHold(events.Released, names, "released by admin", "")
	signal(e.poke)
	return nil
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
	e.record(list...)
}
