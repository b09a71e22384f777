package reconcile

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"stead/reconcile/plan"
	"stead/runtime/status"
)

// ErrNoContainer is the error for a name that no container on this host has.
var ErrNoContainer = errors.New("no such container")

// Do restarts, stops, starts or reloads the named containers for an admin, and waits until that is
// done. A stop is durable: the container stays stopped until Start, also when the daemon or
// the host restarts. What failed is in the result. The error is about the request itself: if
// a name is unknown it wraps ErrNoContainer, and nothing is done.
func (e *Engine) Do(ctx context.Context, verb plan.Verb, names []string) (Result, error) {
	e.init()
	if verb != plan.Restart && verb != plan.Stop && verb != plan.Start && verb != plan.Reload {
		return Result{}, fmt.Errorf("%s: want restart, stop, start or reload", verb)
	}
	if _, daemon := e.runs(); !daemon {
		if err := e.checkAlone(ctx, false); err != nil {
			return Result{}, err
		}
	}
	names, err := containersNamed(e.Observer.List(), names)
	if err != nil {
		return Result{}, fmt.Errorf("%s %w", verb, err)
	}
	done := &doneActions{by: map[string]*ContainerResult{}}
	var jobs []*job
	for _, name := range names {
		j, err := e.ask(ctx, verb, name)
		if err != nil {
			done.by[name] = &ContainerResult{Name: name, Error: err.Error()}
			continue
		}
		if j != nil {
			jobs = append(jobs, j)
		}
	}
	for _, j := range jobs {
		select {
		case <-j.ended:
			done.add(j)
		case <-ctx.Done():
			return e.resultFor(done, names), ctx.Err()
		}
	}
	signal(e.poke)
	return e.resultFor(done, names), nil
}

// containersNamed returns the containers of these names, sorted. The name of a manifest stands
// for all its replicas.
func containersNamed(list []*status.Status, names []string) ([]string, error) {
	var all []string
	for _, name := range names {
		before := len(all)
		if plan.Find(list, name) != nil {
			all = append(all, name)
		}
		for _, st := range list {
			if st.Applied.Group() == name {
				all = append(all, st.Name)
			}
		}
		if len(all) == before {
			return nil, fmt.Errorf("%s: %w", name, ErrNoContainer)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(all))), nil
}

// ask starts an admin's action once the container is free.
func (e *Engine) ask(ctx context.Context, verb plan.Verb, name string) (*job, error) {
	var before *job
	for {
		j, started, err := e.tryAsk(ctx, verb, name)
		if errors.Is(err, ErrNoContainer) && before != nil && before.Verb == plan.Remove {
			return nil, fmt.Errorf("it was just being removed (%s), and is gone", before.Cause)
		}
		if before = j; err != nil || started {
			return j, err
		}
		select {
		case <-j.ended:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tryAsk is one attempt of ask: it returns the job that the container is busy with, or the new
// one. It holds the lock of passes, so that no pass acts on an observation from before.
func (e *Engine) tryAsk(ctx context.Context, verb plan.Verb, name string) (*job, bool, error) {
	e.pass.Lock()
	defer e.pass.Unlock()
	if j := e.exec.jobs()[plan.ContainerNamed(name)]; j != nil {
		return j, false, nil
	}
	now := e.lookLocked()
	st := plan.Find(now.observed, name)
	if st == nil {
		return nil, false, ErrNoContainer
	}
	w := now.desired.Lookup(name)
	if now.memory.Holds.OfContainer(st.Applied) != nil {
		w = nil // reconciliation is paused
	}
	a, err := adminAction(verb, st, w)
	if err != nil {
		return nil, false, err
	}
	base, daemon := e.runs()
	if !daemon {
		base = ctx
	}
	j, started := e.exec.start(base, a)
	return j, started, nil
}

// adminAction translates an admin's verb into an action on a container in its present state.
// A changed manifest is applied with it.
func adminAction(verb plan.Verb, st *status.Status, w *plan.Want) (plan.Action, error) {
	a := plan.Action{Verb: verb, Subject: plan.ContainerNamed(st.Name), Cause: "by admin", ByAdmin: true, From: st.From}
	s, from := st.Applied, st.From
	if w != nil && w.Err == nil {
		s, from = w.Spec, w.From
	} else if w != nil && verb != plan.Stop && verb != plan.Reload {
		a.Note = fmt.Sprintf("with its last applied manifest, since the current one is invalid: %v", w.Err)
	}
	switch {
	case verb == plan.Stop:
	case verb == plan.Reload && st.State != status.Running:
		return plan.Action{}, errors.New("it does not run")
	case verb == plan.Reload && st.Applied.Spec.Reload == nil:
		return plan.Action{}, errors.New("its manifest has no reload: reload: {signal: HUP}, or {exec: [COMMAND]}")
	case verb == plan.Reload:
	case s.Spec.Suspend:
		return plan.Action{}, fmt.Errorf("it is suspended by its manifest %s: set suspend: false there", filepath.Base(plan.ManifestName(from)))
	case verb == plan.Restart:
		a.Spec, a.From = s, from
	case s != st.Applied:
		if changes := plan.Changes(st.Applied, s); st.State != status.Running && len(changes) > 0 {
			a.Spec, a.From, a.Changes = s, from, changes
		}
	}
	return a, nil
}

// resultFor returns the result for the named containers, whether they are as declared or not.
func (e *Engine) resultFor(done *doneActions, names []string) Result {
	var r Result
	views := e.views()
	for _, name := range names {
		c := done.by[name]
		if c == nil {
			c = &ContainerResult{Name: name}
		}
		for _, v := range views {
			if v.Name == name {
				c.State, c.Sync, c.Reason = v.State, v.Sync, v.Reason
			}
		}
		r.Containers = append(r.Containers, *c)
	}
	return r
}
