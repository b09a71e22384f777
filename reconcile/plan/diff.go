package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"stead/runtime/status"
	"stead/spec"
)

// Diff returns what has to be done; observed is sorted by name. It reads its arguments and
// nothing else.
func Diff(d *Desired, observed []*status.Status, m Memory, now time.Time) Plan {
	p := planner{Desired: d, Memory: m, now: now, observed: observed, total: len(observed)}
	p.findRenames(observed)
	var absent []*status.Status
	for _, st := range observed {
		w := d.Lookup(st.Name)
		if to := p.renames[st.Name]; to != "" {
			p.rename(st, to)
			continue
		}
		if w == nil {
			absent = append(absent, st)
			w = &Want{Spec: st.Applied, Fingerprint: st.Fingerprint, From: st.From}
		}
		if h := p.Holds.OfContainer(st.Applied); h != nil {
			p.onHold(st, w, h)
			continue
		}
		p.container(st, w)
	}
	p.removals(absent)
	p.creations(observed)
	p.images()
	slices.SortFunc(p.plan.Actions, byName)
	p.volumes()
	slices.SortFunc(p.plan.Held, byName)
	slices.SortFunc(p.plan.Waits, func(a, b Wait) int { return cmp.Compare(a.Name, b.Name) })
	return p.plan
}

// planner is the work of one Diff.
type planner struct {
	*Desired
	Memory
	now      time.Time
	observed []*status.Status
	total    int
	plan     Plan

	imageWaits []imageWait
	renames    map[string]string // new names of containers, by their names
	renamed    map[string]bool   // these new names
}

// do adds an action, unless the subject is busy, or the action failed or had no effect
// before and is not due again.
func (p *planner) do(a Action) {
	if _, busy := p.Busy[a.Subject]; busy {
		return // its action will report and wake the loop
	}
	if _, busy := p.Busy[ContainerNamed(a.Old)]; busy && a.Old != "" {
		return
	}
	a.Cause += p.commandOf(a)
	if until, why := p.notBefore(a); p.now.Before(until) {
		p.plan.wait(Wait{Subject: a.Subject, Verb: a.Verb, Until: until, Why: why})
		return
	}
	if p.awaitsImage(a) {
		return
	}
	if a.Verb == Adopt {
		p.plan.Adoptions = append(p.plan.Adoptions, a)
		return
	}
	p.plan.Actions = append(p.plan.Actions, a)
}

// notBefore returns when an action may be done, and why not now; zero if it may be done now. An
// action that was just done and is needed again had no effect. Repeating it at once would go on
// for ever, so it counts as failed.
func (p *planner) notBefore(a Action) (until time.Time, why string) {
	if p.Retry {
		return time.Time{}, ""
	}
	if f, failed := p.Failures[a.Subject]; failed && !p.plan.Found.Recorded[a.Subject] && f.concerns(a) && p.now.Before(f.Retry()) {
		return f.Retry(), f.Message
	}
	d, done := p.Done[a.Subject]
	if !done || d.spec != a.Spec || d.content != a.content || d.line != a.String() {
		return time.Time{}, ""
	}
	f := Failure{Verb: a.Verb, Message: "had no effect", Count: d.times, At: d.at, spec: a.Spec, content: a.content}
	if a.Verb == Update && !strings.HasPrefix(a.Cause, "live") {
		f.Message = a.Cause
	}
	if p.now.Before(f.Retry()) {
		if p.plan.Found.NoEffect == nil {
			p.plan.Found.NoEffect = map[Subject]Failure{}
		}
		p.plan.Found.NoEffect[a.Subject] = f
	}
	return f.Retry(), f.Message
}

// container plans for a container that exists and should.
func (p *planner) container(st *status.Status, w *Want) {
	if st.State == status.Running && same(st, w) && st.StoppedAt == nil && len(st.Unapplied)+len(st.Drift)+len(st.Lost) == 0 &&
		!w.Spec.Spec.Suspend && st.From.Equal(w.From) && sameContents(st, w) && !p.isSuperseded(st) {
		return // the common case
	}
	subject := ContainerNamed(st.Name)
	if f, failed := p.Failures[subject]; failed && f.recorded(st) {
		if p.plan.Found.Recorded == nil {
			p.plan.Found.Recorded = map[Subject]bool{}
		}
		p.plan.Found.Recorded[subject] = true
	}
	if st.State == status.Starting || st.State == status.Stopping {
		return // it will report
	}
	var changes []Change
	if !same(st, w) {
		changes = Changes(st.Applied, w.Spec)
	}
	if p.isSuperseded(st) && st.StoppedAt == nil && !w.Spec.Spec.Suspend {
		changes = append(changes, p.imageChange(st))
	}
	if p.refusesImage(st, w, changes) {
		p.holdImage(st, w, changes)
		w, changes = &Want{Spec: st.Applied, Fingerprint: st.Fingerprint, From: st.From}, nil
	}
	a := Action{Subject: subject, Changes: changes, Spec: w.Spec, From: w.From}
	a.addContents(st, w)
	switch {
	case st.State == status.Running:
		p.running(st, a)
	case a.Spec.Spec.Suspend || st.StoppedAt != nil:
		p.stopped(st, a)
	default:
		p.ended(st, a)
	}
}

// same reports whether the applied manifest certainly equals the wanted one. If it returns
// false, Changes compares them.
func same(st *status.Status, w *Want) bool {
	return st.Applied == w.Spec || st.Fingerprint == w.Fingerprint && w.Fingerprint != spec.Fingerprint{}
}

// running plans for a container that runs.
func (p *planner) running(st *status.Status, a Action) {
	switch {
	case st.StoppedAt != nil:
		a.Verb, a.Cause, a.Changes, a.Spec = Stop, "stopped by admin", nil, nil
		p.do(a)
	case a.Spec.Spec.Suspend:
		a.Verb, a.Cause = Stop, "suspended"
		if len(a.Changes) == 0 {
			a.Spec = nil // it is applied
		}
		p.do(a)
	case needsRestart(a.Changes):
		a.Verb, a.Cause = Restart, restartCause(a.Changes)
		p.do(a)
	case len(st.Lost) > 0 && a.Spec.Spec.Restart.Policy == "always": // others may not run twice
		a.Verb, a.Cause = Restart, LostCause(st)+", which needs a restart"
		p.do(a)
	case len(st.Lost) > 0:
		p.plan.differs(a.Subject, LostCause(st)+"; stead restart "+st.Name+" restores it")
		p.inPlace(st, a)
	default:
		p.inPlace(st, a)
	}
}

// inPlace plans what needs no restart: changes, what the kernel refused before, what was
// changed by hand, and a manifest that moved.
func (p *planner) inPlace(st *status.Status, a Action) {
	switch {
	case len(a.Changes) > 0:
		a.Verb, a.Cause = Update, "live"
		if slices.ContainsFunc(a.Changes, func(c Change) bool { return c.Effect == spec.NeedsReload }) {
			a.Cause = "live, then reload"
		}
	case len(st.Unapplied) > 0:
		a.Verb, a.Cause = Update, UnappliedCause(st.Unapplied)
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
		p.inPlace(withoutRun(st), a)
	case a.Spec.Spec.Suspend:
		a.Verb, a.Cause = Restart, "suspended: applied, not started"
		p.do(a)
	default:
		a.Verb, a.Cause = Restart, "stopped by admin: applied, not started"
		p.do(a)
	}
}

// withoutRun returns st without findings that are only about a run.
func withoutRun(st *status.Status) *status.Status {
	s := *st
	s.Unapplied, s.Drift, s.Lost = nil, nil, nil
	return &s
}

// ended plans for a container that does not run and should, if its policy says so.
func (p *planner) ended(st *status.Status, a Action) {
	switch {
	case needsRestart(a.Changes):
		a.Verb, a.Cause = Restart, restartCause(a.Changes)
		p.do(a)
		return
	case st.Applied.Spec.Suspend:
		a.Verb, a.Cause = Start, "no longer suspended"
		p.do(a)
		return
	case len(a.Changes) > 0 || !st.From.Equal(a.From):
		p.inPlace(withoutRun(st), a)
		return // the policy is asked when that is done
	}
	v := AfterExit(st, a.Spec.Spec.Restart, p.now)
	switch v.Next {
	case StartNow:
		a.Verb, a.Cause, a.ByPolicy, a.Changes, a.Spec = Start, v.Cause, v.byPolicy, nil, nil
		p.do(a)
	case WaitUntil:
		p.plan.wait(Wait{Subject: a.Subject, Verb: Start, Until: v.At, Why: v.Cause})
		p.plan.differs(a.Subject, v.Cause+", next start at "+v.At.UTC().Format(time.RFC3339))
	case GiveUp:
		if !IsJob(a.Spec.Spec.Restart.Policy) {
			p.plan.differs(a.Subject, v.Cause)
		}
	}
}

// creations plans for containers that are declared and don't exist.
func (p *planner) creations(observed []*status.Status) {
	p.Missing(observed, func(name string, w *Want) {
		if p.renamed[name] {
			return
		}
		a := Action{Verb: Create, Subject: ContainerNamed(name), Spec: w.Spec, From: w.From, Cause: "manifest " + shortName(w.From)}
		if w.Spec.Spec.Suspend {
			a.Cause += ", suspended"
		}
		if h := p.Holds.OfContainer(w.Spec); h != nil {
			p.hold(a, w.Spec, h)
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

// LostCause says what was changed by hand and only a restart puts right.
func LostCause(st *status.Status) string { return "changed by hand: " + st.Lost.String() }

// UnappliedCause says which live changes the kernel refused.
func UnappliedCause(list []status.Unapplied) string {
	var parts []string
	for _, u := range list {
		parts = append(parts, fmt.Sprintf("%s still %s: %s", u.Path, u.Have, u.Message))
	}
	return strings.Join(parts, ", ")
}
