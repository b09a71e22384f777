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

// ErrNoContainer is that of a name that no container on this host has.
var ErrNoContainer = errors.New("no such container")

// Do restarts, stops or starts containers by name, as an admin asked, and waits
// until that is done. Stop is durable: the container stays stopped, through
// restarts of the daemon and the host, until Start. What failed is in the result;
// the error is that of the asking, ErrNoContainer if a name is unknown: then
// nothing is done at all.
func (e *Engine) Do(ctx context.Context, verb plan.Verb, names []string) (Result, error) {
	e.init()
	if verb != plan.Restart && verb != plan.Stop && verb != plan.Start {
		return Result{}, fmt.Errorf("%s: want restart, stop or start", verb)
	}
	if _, daemon := e.runs(); !daemon {
		if err := e.checkAlone(ctx, false); err != nil {
			return Result{}, err
		}
	}
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	list := e.Observer.List()
	for _, name := range names {
		if plan.Find(list, name) == nil {
			return Result{}, fmt.Errorf("%s %s: %w", verb, name, ErrNoContainer)
		}
	}
	done := &doings{by: map[string]*ContainerResult{}}
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
			return e.named(done, names), ctx.Err()
		}
	}
	signal(e.poke)
	return e.named(done, names), nil
}

// ask starts an admin's action once the container is free. It shares the lock
// with the passes, so that none acts on what was true before.
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
	if now.memory.Holds.Of(name) != nil {
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

// adminAction is what an admin's verb means for a container as it stands. A
// changed manifest is applied on the way.
func adminAction(verb plan.Verb, st *status.Status, w *plan.Want) (plan.Action, error) {
	a := plan.Action{Verb: verb, Subject: plan.ContainerNamed(st.Name), Cause: "by admin", ByAdmin: true, From: st.From}
	s, from := st.Applied, st.From
	if w != nil && w.Err == nil {
		s, from = w.Spec, w.From
	} else if w != nil && verb != plan.Stop {
		a.Note = fmt.Sprintf("as it was applied before, since its manifest can't be followed: %v", w.Err)
	}
	switch {
	case verb == plan.Stop:
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

// named is the result for these containers, however they stand.
func (e *Engine) named(done *doings, names []string) Result {
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
