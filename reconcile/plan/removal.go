package plan

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"stead/runtime/status"
	"stead/spec"
)

// Removals are patient: this file decides when a container without a manifest is removed, and
// when an admin has to confirm the removal.

// removals plans for the containers that no manifest declares.
func (p *planner) removals(absent []*status.Status) {
	found := &p.plan.Found
	found.Absent, found.Confirmed, found.MassHeld = map[string]time.Time{}, map[string]bool{}, map[string]string{}
	p.confirmations(absent)
	gone := 0 // manifests missing from readable directories
	for _, st := range absent {
		if p.isLowered(st) {
			p.total--
			continue
		}
		if why := p.MassHeld[st.Name]; why != "" {
			found.MassHeld[st.Name] = why
		}
		if _, err := p.DirOf(st.From.File); err == nil {
			gone++
			found.Absent[st.Name] = p.absentSince(st.Name)
		}
	}
	massive := massRemoval(gone, p.total)
	for _, st := range absent {
		p.removal(st, massive)
	}
}

// confirmations finds which removals are confirmed, and which confirmations are of containers
// that are not to be removed.
func (p *planner) confirmations(absent []*status.Status) {
	all := slices.Contains(p.Confirm, "all")
	for _, st := range absent {
		if p.Confirmed[st.Name] || all || slices.Contains(p.Confirm, st.Name) || slices.Contains(p.Confirm, st.Applied.ManifestName()) {
			p.plan.Found.Confirmed[st.Name] = true
		}
	}
	for _, name := range p.Confirm {
		isOf := func(st *status.Status) bool { return st.Applied.Group() == name }
		if name != "all" && !p.plan.Found.Confirmed[name] && !slices.ContainsFunc(absent, isOf) {
			p.plan.Found.Unneeded = append(p.plan.Found.Unneeded, name)
		}
	}
}

// absentSince returns since when a manifest has been absent: an absence counts from the
// first of the readings that follow each other, and only in a healthy directory.
func (p *planner) absentSince(name string) time.Time {
	if since, known := p.Absent[name]; known && !since.After(p.now) {
		return since
	}
	return p.now
}

// removal plans for one container that no manifest declares. massive is why removing all of
// them at once looks like an accident, "" if it does not.
func (p *planner) removal(st *status.Status, massive string) {
	dir, dirErr := p.DirOf(st.From.File)
	confirmed := p.plan.Found.Confirmed[st.Name]
	until, settled := p.settled(st.Name)
	a := Action{Subject: ContainerNamed(st.Name), From: st.From}
	var held string
	advice := "confirm with stead apply --confirm-removal=" + st.Name
	lowered := p.isLowered(st)
	switch h := p.Holds.OfContainer(st.Applied); {
	case h != nil:
		a.OnHold, held, advice = true, "manifest gone; "+HoldClause(h), releaseAdvice(p.Holds, st.Applied)
	case confirmed:
	case lowered && st.Applied.Spec.Protect:
		held = p.loweredCause(st) + "; protected"
	case lowered:
		settled = true
	case dirErr != nil:
		held, advice = dirErr.Error(), "bring it back or "+advice
	case p.hostRenamed(st) != "":
		held, advice = p.hostRenamed(st), "set it right or "+advice
	case cmp.Or(p.MassHeld[st.Name], massive) != "":
		held = cmp.Or(p.MassHeld[st.Name], massive)
		if settled {
			// When some of a mass removal is confirmed, the rest is no mass any more. It stays
			// held all the same, until it is confirmed or declared again.
			p.plan.Found.MassHeld[st.Name] = held
		}
	case st.Applied.Spec.Protect:
		held = "protected"
	}
	if held != "" {
		a.Verb, a.Waiting, a.Cause = Hold, Remove, held+"; "+advice
		p.plan.Held = append(p.plan.Held, a)
		return
	}
	if a.Verb, a.Cause = Remove, p.goneCause(st, dir); lowered {
		a.Cause = p.loweredCause(st)
	}
	if confirmed {
		a.Cause += ", confirmed"
	}
	if settled {
		p.drop(a.Subject)
		p.do(a)
		return
	}
	if st.Exit != nil && (st.Exit.Reason == status.ReasonStopped || st.Exit.Reason == status.ReasonUnknown) {
		p.drop(a.Subject) // its removal had begun, or may have, and was interrupted: it must not run once more
	}
	p.plan.wait(Wait{Subject: a.Subject, Verb: Remove, Until: until, Why: a.Cause})
}

// drop deletes the planned action of a subject that is to be removed.
func (p *planner) drop(s Subject) {
	p.plan.Actions = slices.DeleteFunc(p.plan.Actions, func(a Action) bool { return a.Subject == s })
}

// settled reports whether a manifest has been absent for long enough, and if not when it
// will have been.
func (p *planner) settled(name string) (time.Time, bool) {
	if p.Prompt || p.Settle <= 0 || p.plan.Found.Confirmed[name] {
		return time.Time{}, true
	}
	until := p.absentSince(name).Add(p.Settle)
	return until, !p.now.Before(until)
}

// massRemoval says why removing absent of total containers at once looks like an accident,
// "" if it does not.
func massRemoval(absent, total int) string {
	switch {
	case absent == total && total >= 2:
		return fmt.Sprintf("would remove all %d containers", total)
	case absent > 3 && 2*absent > total:
		return fmt.Sprintf("would remove %d of %d containers", absent, total)
	}
	return ""
}

// hostRenamed says why a container that is not for this host any more has to stay: its hosts
// matched when it was applied, and if those very patterns don't match now, it is this host's
// name that changed, by accident more often than not. The applied manifest is the durable
// fact of that. "" if that is not so.
func (p *planner) hostRenamed(st *status.Status) string {
	if _, declared := p.Elsewhere[st.Name]; !declared || spec.MatchHost(st.Applied.Spec.Hosts, p.Host) {
		return ""
	}
	return fmt.Sprintf("this host's name is %s now, which its hosts don't match", p.Host)
}

// goneCause says why a container is not declared any more.
func (p *planner) goneCause(st *status.Status, dir string) string {
	if from, declared := p.Elsewhere[st.Name]; declared {
		return "hosts of " + shortName(from) + " leave this host out"
	}
	return "manifest gone from " + cmp.Or(dir, filepath.Dir(st.From.File))
}
