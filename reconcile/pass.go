package reconcile

import (
	"context"
	"errors"
	"maps"
	"time"

	"stead/reconcile/plan"
)

// passOptions are set for an explicit apply.
type passOptions struct {
	prompt  bool     // removals don't wait for the settle time
	retry   bool     // failed actions are retried now
	confirm []string // names of removals that are confirmed, or "all"
}

// runPass reads, observes, diffs and starts the actions of the plan.
func (e *Engine) runPass(ctx context.Context, o passOptions) *outcome {
	e.pass.Lock()
	defer e.pass.Unlock()
	s := e.lookLocked()
	s.memory.Prompt, s.memory.Retry, s.memory.Confirm = o.prompt, o.retry, o.confirm
	p := plan.Diff(s.desired, s.observed, s.memory, s.now)
	out := &outcome{reading: s.reading, desired: s.desired, plan: p, at: s.now}

	e.mu.Lock()
	e.memory, e.plan, e.last = s.memory, p, out
	e.results = e.results[s.known:]
	base, daemon := ctx, e.base != nil
	if daemon {
		base = e.base
	}
	e.mu.Unlock()

	e.notices.report(s.desired, p, s.observed, daemon, s.now)
	e.keepMassHeld(p.Found.MassHeld)
	for _, list := range [][]plan.Action{p.Actions, p.Adoptions} {
		for _, a := range list {
			if j, started := e.exec.start(base, a); started {
				out.started = append(out.started, j)
			}
		}
	}
	return out
}

// keepMassHeld stores durably which removals are held as part of a mass removal, before some
// of them are confirmed: to the next daemon or apply, the rest does not look like a mass.
func (e *Engine) keepMassHeld(held map[string]string) {
	if e.Holds == nil || maps.Equal(held, e.holds().Removals) {
		return
	}
	if err := e.Holds.HoldRemovals(held); err != nil {
		e.Log.Error("cannot store held removals; after a restart the rest may be removed without confirmation", "error", err)
	}
}

// again returns when the next pass is due without any event; zero if never.
func (o *outcome) again() time.Time {
	at := o.plan.Next
	if retry := o.reading.Retry; retry > 0 {
		at = earlier(at, o.at.Add(retry))
	}
	return at
}

// report is called when an action ends: it logs and records the action, and keeps the result
// for the next plan.
func (e *Engine) report(j *job) {
	now := time.Now()
	if j.err == nil {
		e.examine(j.Spec)
	}
	e.mu.Lock()
	e.results = append(e.results, plan.Result{Action: j.Action, Began: j.since, Ended: now, Err: j.err})
	e.mu.Unlock()
	e.journal.action(j, now)
	attrs := []any{string(j.Kind), j.Name, "action", string(j.Verb), "cause", j.Cause, "took", now.Sub(j.since).Round(time.Millisecond)}
	if len(j.Changes) > 0 {
		attrs = append(attrs, "changes", plan.ChangesText(j.Changes))
	}
	if j.note != "" {
		attrs = append(attrs, "note", j.note)
	}
	switch {
	case errors.Is(j.err, context.Canceled):
		e.Log.Info("interrupted by shutdown; will be retried at the next start", attrs...)
	case j.err != nil:
		e.Log.Error("failed", append(attrs, "error", j.err)...)
	default:
		e.Log.Info("done", attrs...)
	}
}
