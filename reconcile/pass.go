package reconcile

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"stead/reconcile/source"
	"stead/runtime/status"
	"stead/spec"
)

// passOptions are what an explicit apply asks for.
type passOptions struct {
	prompt  bool     // no settle time
	retry   bool     // what failed is tried again now
	confirm []string // removals, "all" for those that are pending now
	// follow: what events tell of is read again, and no more; at thousands of files,
	// looking at each after every action would be most of a pass.
	follow bool
}

// runPass reads, observes, diffs and starts what is to be done.
func (e *Engine) runPass(ctx context.Context, o passOptions) *outcome {
	e.pass.Lock()
	defer e.pass.Unlock()
	// What is busy is asked before the host is observed: an action that ends in
	// between leaves an observation that is out of date, and is not acted upon.
	jobs := e.exec.jobs()
	reading := e.reading(o.follow)
	observed := e.Runtime.List()
	now := time.Now()

	e.mu.Lock()
	e.declare(reading)
	var before *Desired
	if e.last != nil {
		before = e.last.desired
	}
	desired := e.declared.combine(observed, before)
	if o.retry {
		clear(e.memory.Failures)
		clear(e.did)
	}
	e.leaveToPolicy(observed)
	unneeded := e.confirm(o.confirm, desired, observed)
	e.memory.absences(desired, now)
	m := e.input(o.prompt, jobs)
	plan := Diff(desired, observed, m, now)
	e.compared.recognise(e.Runtime, observed)
	e.memory.hold(plan)
	e.forget(plan, jobs)
	plan = e.withoutEffect(plan, now)
	out := &outcome{desired: desired, plan: plan, at: now, unneeded: unneeded}
	e.last = out
	news := e.news(desired, plan, observed, now)
	massive := maps.Clone(e.memory.Massive)
	base := ctx
	if e.base != nil {
		base = e.base // the work outlives whoever asked for it
	}
	e.mu.Unlock()

	e.tell(news)
	e.keepHeld(massive)
	for _, list := range [][]Action{plan.Actions, plan.adoptions} {
		for _, a := range list {
			if j, started := e.exec.start(base, a); started {
				out.started = append(out.started, j)
			}
		}
	}
	return out
}

// reading is what the manifest directories hold. Nothing is removed but by a
// complete reading: events are followed only while no manifest is absent.
func (e *Engine) reading(follow bool) *source.Reading {
	e.mu.Lock()
	follow = follow && len(e.memory.Absent) == 0
	e.mu.Unlock()
	if follow {
		return e.Source.Follow()
	}
	return e.Source.Read()
}

// keepHeld notes durably what is held as part of a mass removal, before some of it
// is removed: the next daemon or apply sees no mass in what is left.
func (e *Engine) keepHeld(massive map[string]string) {
	if maps.Equal(massive, e.Runtime.Holds().Removals) {
		return
	}
	if err := e.Runtime.HoldRemovals(massive); err != nil {
		e.Log.Error("held removals are not noted: what is left after a restart may count as no mass removal", "error", err)
	}
}

// declare sorts out a reading, once.
func (e *Engine) declare(r *source.Reading) {
	if e.declared == nil || e.declared.Reading != r {
		e.declared = e.declared.next(r)
	}
}

// input is the memory as a plan takes it.
func (e *Engine) input(prompt bool, jobs map[string]*job) Memory {
	m := e.memory
	m.Prompt, m.Holds = prompt, e.Runtime.Holds()
	m.Compare = e.compared.compare
	m.Busy = make(map[string]Verb, len(jobs))
	for name, j := range jobs {
		m.Busy[name] = j.Verb
	}
	return m
}

// confirm notes confirmed removals; "all" are those that no manifest declares now.
// It returns the names of what is not to be removed.
func (e *Engine) confirm(names []string, d *Desired, observed []*status.Status) (unneeded []string) {
	all := slices.Contains(names, "all")
	for _, name := range names {
		if name != "all" && (find(observed, name) == nil || d.Lookup(name) != nil) {
			unneeded = append(unneeded, name)
		}
	}
	for _, st := range d.absent {
		if all || slices.Contains(names, st.Name) {
			e.memory.Confirmed[st.Name] = true
		}
	}
	return unneeded
}

// deed is the last thing that was done to a container with success.
type deed struct {
	line  string
	times int // in a row
	at    time.Time
	spec  *spec.Container
}

// withoutEffect takes out what was just done and is asked for again: it had no
// effect, and doing it again at once would go on forever. It counts as failed.
func (e *Engine) withoutEffect(p Plan, now time.Time) Plan {
	noEffect := func(a Action) bool {
		d, done := e.did[a.Name]
		if !done || d.line != a.String() || d.spec != a.Spec {
			return false
		}
		f := Failure{Verb: a.Verb, Message: "had no effect", Count: d.times, At: d.at, spec: a.Spec}
		if a.Verb == Update && a.Cause != "live" {
			f.Message = a.Cause
		}
		if !now.Before(f.Retry()) {
			return false
		}
		e.memory.Failures[a.Name] = f
		p.later(Wait{Name: a.Name, Verb: a.Verb, Until: f.Retry(), Why: f.Message})
		return true
	}
	p.Actions, p.adoptions = slices.DeleteFunc(p.Actions, noEffect), slices.DeleteFunc(p.adoptions, noEffect)
	return p
}

// forget drops failures and deeds of containers for which nothing is to be done
// any more.
func (e *Engine) forget(p Plan, jobs map[string]*job) {
	if len(e.memory.Failures)+len(e.did) == 0 {
		return
	}
	open := make(map[string]bool, len(p.Actions)+len(p.Waits)+len(jobs))
	for _, list := range [][]Action{p.Actions, p.adoptions} {
		for _, a := range list {
			open[a.Name] = true
		}
	}
	for _, w := range p.Waits {
		open[w.Name] = true
	}
	for name := range jobs {
		open[name] = true
	}
	for name := range e.memory.Failures {
		if !open[name] {
			delete(e.memory.Failures, name)
		}
	}
	for name := range e.did {
		if !open[name] {
			delete(e.did, name)
		}
	}
}

// report is called when an action ends: it is logged, and remembered for as long
// as that matters.
func (e *Engine) report(j *job) {
	took := time.Since(j.since).Round(time.Millisecond)
	attrs := []any{"container", j.Name, "action", string(j.Verb), "cause", j.Cause, "took", took}
	if len(j.Changes) > 0 {
		attrs = append(attrs, "changes", changesText(j.Changes))
	}
	if j.note != "" {
		attrs = append(attrs, "note", j.note)
	}
	now := time.Now()
	e.mu.Lock()
	switch {
	case j.err == nil:
		before := e.did[j.Name]
		times := 1
		if before.line == j.Action.String() && before.spec == j.Spec {
			times = before.times + 1
		}
		e.did[j.Name] = deed{line: j.Action.String(), times: times, at: now, spec: j.Spec}
		delete(e.memory.Failures, j.Name)
	case j.ByAdmin: // told to whoever asked
	default:
		f := e.memory.Failures[j.Name]
		count := 1
		if f.concerns(j.Action) {
			count = f.Count + 1
		}
		e.memory.Failures[j.Name] = Failure{Verb: j.Verb, Message: j.err.Error(), Count: count, At: now, began: j.since, spec: j.Spec}
	}
	e.mu.Unlock()
	e.recordAction(j, now)
	switch {
	case errors.Is(j.err, context.Canceled):
		e.Log.Info("given up, to be taken up at the next start", attrs...)
	case j.err != nil:
		e.Log.Error("failed", append(attrs, "error", j.err)...)
	default:
		e.Log.Info("done", attrs...)
	}
}

// leaveToPolicy forgets failed starts that the runtime's record knows of: the
// restart policy says when they are tried again, after a restart of the daemon
// too.
func (e *Engine) leaveToPolicy(observed []*status.Status) {
	if len(e.memory.Failures) == 0 {
		return
	}
	for i := range observed {
		st := observed[i]
		if f, failed := e.memory.Failures[st.Name]; failed && f.recorded(st) {
			delete(e.memory.Failures, st.Name)
		}
	}
}
