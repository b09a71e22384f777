package reconcile

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"stead/runtime/status"
	"stead/spec"
)

// Memory is what a plan needs to know besides what is desired and what is
// observed. Its zero value is that of a host nobody has looked at before.
type Memory struct {
	// Settle is how long a manifest must have been absent, in readings that
	// follow each other, before its container is removed.
	Settle time.Duration
	// Prompt is set for an explicit apply: it waits for no settle time.
	Prompt bool
	// Absent is since when manifests have been absent, by container.
	Absent map[string]time.Time
	// Confirmed are removals that a person has confirmed.
	Confirmed map[string]bool
	// Massive are removals that are held since they were part of a mass removal,
	// and why; they stay held when the rest of it is confirmed.
	Massive map[string]string
	// Failures are actions that did not succeed, by container.
	Failures map[string]Failure
	// Busy are the actions under way, by container.
	Busy map[string]Verb
	// Holds are what an admin has put on hold; nil is nothing.
	Holds *status.Holds
	// Compare is Compare, or something that remembers its answers.
	Compare func(old, new *spec.Container) []Change
}

// Diff says what has to be done; observed is what d was combined with. It reads its
// arguments and nothing else.
func Diff(d *Desired, observed []*status.Status, m Memory, now time.Time) Plan {
	p := planner{Desired: d, Memory: m, now: now}
	if p.Compare == nil {
		p.Compare = Compare
	}
	for i, st := range observed {
		w := d.wanted(i, st)
		if w == nil {
			w = &Want{Spec: st.Applied, From: st.From}
		}
		if h := p.Holds.Of(st.Name); h != nil {
			p.onHold(st, w, h)
			continue
		}
		p.container(st, w)
	}
	p.total = len(observed)
	if len(p.absent) > 0 {
		p.removals()
	}
	p.creations()
	if len(p.plan.Actions) > 1 {
		slices.SortFunc(p.plan.Actions, func(a, b Action) int { return cmp.Compare(a.Name, b.Name) })
	}
	slices.SortFunc(p.plan.Held, func(a, b Action) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(p.plan.Waits, func(a, b Wait) int { return cmp.Compare(a.Name, b.Name) })
	return p.plan
}

// planner is the work of one Diff.
type planner struct {
	*Desired
	Memory
	now   time.Time
	total int
	plan  Plan
}

// do adds an action, unless it failed before and is not due again.
func (p *planner) do(a Action) {
	if _, busy := p.Busy[a.Name]; busy {
		return // its action will report and wake the loop
	}
	if f, failed := p.Failures[a.Name]; failed && f.concerns(a) {
		if until := f.Retry(); p.now.Before(until) {
			p.plan.later(Wait{Name: a.Name, Verb: a.Verb, Until: until, Why: f.Message})
			return
		}
	}
	if a.Verb == Adopt {
		p.plan.adoptions = append(p.plan.adoptions, a)
		return
	}
	p.plan.Actions = append(p.plan.Actions, a)
}

// container plans for one that is there and should be.
func (p *planner) container(st *status.Status, w *Want) {
	if st.State == status.Running && st.Applied == w.Spec && st.StoppedAt == nil && len(st.Unapplied)+len(st.Drift)+len(st.Lost) == 0 &&
		!w.Spec.Spec.Suspend && st.From.Equal(w.From) {
		return // as nearly all are, nearly always
	}
	if st.State == status.Starting || st.State == status.Stopping {
		return // it will report
	}
	var changes []Change
	if w.Spec != st.Applied {
		changes = p.Compare(st.Applied, w.Spec)
	}
	a := Action{Name: st.Name, Changes: changes, Spec: w.Spec, From: w.From, Suspend: w.Spec.Spec.Suspend}
	switch {
	case st.State == status.Running:
		p.running(st, a)
	case a.Suspend || st.StoppedAt != nil:
		p.stopped(st, a)
	default:
		p.ended(st, a)
	}
}

// running plans for a container that runs.
func (p *planner) running(st *status.Status, a Action) {
	switch {
	case st.StoppedAt != nil:
		a.Verb, a.Cause, a.Changes, a.Spec = Stop, "stopped by admin", nil, nil
		p.do(a)
	case a.Suspend:
		a.Verb, a.Cause = Stop, "suspended"
		p.do(a)
	case needsRestart(a.Changes):
		a.Verb, a.Cause = Restart, restartCause(a.Changes)
		p.do(a)
	case len(st.Lost) > 0 && a.Spec.Spec.Restart.Policy == "always": // others may not run twice
		a.Verb, a.Cause = Restart, lostCause(st)+", which needs a restart"
		p.do(a)
	default:
		p.inPlace(st, a)
	}
}

// inPlace plans what needs no restart: changes, what the kernel refused before,
// what was changed by hand, and a manifest that moved.
func (p *planner) inPlace(st *status.Status, a Action) {
	switch {
	case len(a.Changes) > 0:
		a.Verb, a.Cause = Update, "live"
	case len(st.Unapplied) > 0:
		a.Verb, a.Cause = Update, unappliedCause(st.Unapplied)
	case len(st.Drift) > 0:
		a.Verb, a.Cause = Update, "changed by hand: "+st.Drift.String()
	case !st.From.Equal(a.From):
		a.Verb, a.Cause, a.Spec = Adopt, "manifest now "+shortName(a.From), nil
	default:
		return
	}
	p.do(a)
}

// stopped plans for a container that does not run and should not.
func (p *planner) stopped(st *status.Status, a Action) {
	switch {
	case !needsRestart(a.Changes):
		st := *st
		st.Unapplied, st.Drift = nil, nil // of no run
		p.inPlace(&st, a)
	case a.Suspend:
		a.Verb, a.Cause = Restart, "suspended: applied, not started"
		p.do(a)
	default:
		a.Verb, a.Cause = Restart, "stopped by admin: applied, not started"
		p.do(a)
	}
}

// ended plans for a container that does not run and should, if its policy says so.
func (p *planner) ended(st *status.Status, a Action) {
	unsuspended := st.Applied.Spec.Suspend
	switch {
	case needsRestart(a.Changes):
		a.Verb, a.Cause = Restart, restartCause(a.Changes)
		p.do(a)
		return
	case unsuspended:
		a.Verb, a.Cause = Start, "no longer suspended"
		p.do(a)
		return
	case len(a.Changes) > 0 || !st.From.Equal(a.From):
		st := *st
		st.Unapplied, st.Drift = nil, nil
		p.inPlace(&st, a)
		return // the policy is asked when that is done
	}
	v := judge(st, a.Spec.Spec.Restart, p.now)
	switch v.next {
	case startNow:
		a.Verb, a.Cause, a.ByPolicy, a.Changes, a.Spec = Start, v.cause, v.byPolicy, nil, nil
		p.do(a)
	case waitUntil:
		p.plan.later(Wait{Name: st.Name, Verb: Start, Until: v.at, Why: v.cause})
	}
}

// creations plans for what is declared and not there.
func (p *planner) creations() {
	p.coming(func(name string, w *Want) {
		a := Action{Verb: Create, Name: name, Spec: w.Spec, From: w.From, Suspend: w.Spec.Spec.Suspend, Cause: "manifest " + shortName(w.From)}
		if a.Suspend {
			a.Cause += ", suspended"
		}
		if h := p.Holds.Of(name); h != nil {
			p.hold(a, h)
			return
		}
		p.do(a)
	})
}

func needsRestart(changes []Change) bool {
	return slices.ContainsFunc(changes, func(c Change) bool { return c.Effect == spec.NeedsRestart })
}

// restartCause names the fields that can't be changed in place.
func restartCause(changes []Change) string {
	var fields []string
	for _, c := range changes {
		if c.Effect == spec.NeedsRestart {
			fields = append(fields, strings.TrimPrefix(c.Path, "spec."))
		}
	}
	if len(fields) == len(changes) {
		return "needs a restart"
	}
	return strings.Join(fields, ", ") + " needs a restart"
}

func lostCause(st *status.Status) string { return "changed by hand: " + st.Lost.String() }

func unappliedCause(list []status.Unapplied) string {
	var parts []string
	for _, u := range list {
		parts = append(parts, fmt.Sprintf("%s still %s: %s", u.Path, u.Have, u.Message))
	}
	return strings.Join(parts, ", ")
}

// ManifestName prints where a manifest stands; documents after the first with
// their number, from 1 as people count.
func ManifestName(from Origin) string {
	if from.File == "" {
		return ""
	}
	if from.Document > 0 {
		return fmt.Sprintf("%s#%d", from.File, from.Document+1)
	}
	return from.File
}

func shortName(from Origin) string {
	from.File = filepath.Base(from.File)
	return ManifestName(from)
}
