package reconcile

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"stead/reconcile/source"
	"stead/runtime/status"
)

// Removals are patient: this file says when a container whose manifest is gone
// may be removed, and when that needs a person's word.

// removals plans for the containers that no manifest declares.
func (p *planner) removals() {
	gone := 0 // what is missing from a directory that can't be read is not taken away
	for _, st := range p.absent {
		if _, err := p.dirOf(st.From.File); err == nil {
			gone++
		}
	}
	massive := massRemoval(gone, p.total)
	for _, st := range p.absent {
		dir, dirErr := p.dirOf(st.From.File)
		a := Action{Name: st.Name, From: st.From}
		until, settled := p.settled(st.Name)
		var held string
		advice := "confirm with stead apply --confirm-removal=" + st.Name
		a.held = Remove
		switch h := p.Holds.Of(st.Name); {
		case h != nil:
			a.byAdmin, held, advice = true, "manifest gone; "+HoldClause(h), releaseAdvice(p.Holds, st.Name)
		case p.Confirmed[st.Name]:
		case dirErr != nil:
			held, advice = dirErr.Error(), "bring it back or "+advice
		case p.renamed(st) != "":
			held, advice = p.renamed(st), "set it right or "+advice
		case cmp.Or(p.Massive[st.Name], massive) != "":
			held = cmp.Or(p.Massive[st.Name], massive)
			if settled {
				a.massive = held
			}
		case st.Applied.Spec.Protect:
			held = "protected"
		}
		if held != "" {
			a.Verb, a.Cause = Hold, held+"; "+advice
			p.plan.Held = append(p.plan.Held, a)
			continue
		}
		a.Verb, a.held, a.Cause = Remove, "", p.goneCause(st, dir)
		if p.Confirmed[st.Name] {
			a.Cause += ", confirmed"
		}
		if !settled {
			if st.Exit != nil && (st.Exit.Reason == status.ReasonStopped || st.Exit.Reason == status.ReasonUnknown) {
				p.drop(st.Name) // its removal had begun, or may have, and was interrupted: it must not run once more
			}
			p.plan.later(Wait{Name: st.Name, Verb: Remove, Until: until, Why: a.Cause})
			continue
		}
		p.drop(st.Name)
		p.do(a)
	}
}

// drop takes back what is planned for a container that is to be removed.
func (p *planner) drop(name string) {
	for i, a := range p.plan.Actions {
		if a.Name == name {
			p.plan.Actions = append(p.plan.Actions[:i], p.plan.Actions[i+1:]...)
			return
		}
	}
}

// settled tells whether a manifest has been absent for long enough, and if not
// when it will have been.
func (p *planner) settled(name string) (time.Time, bool) {
	if p.Prompt || p.Settle <= 0 || p.Confirmed[name] {
		return time.Time{}, true
	}
	since, noted := p.Absent[name]
	if !noted {
		since = p.now // this is the first reading without it
	}
	until := since.Add(p.Settle)
	return until, !p.now.Before(until)
}

// massRemoval says why removing absent of total containers at once looks like an
// accident, "" if it does not.
func massRemoval(absent, total int) string {
	switch {
	case absent == total && total >= 2:
		return fmt.Sprintf("would remove all %d containers", total)
	case absent > 3 && 2*absent > total:
		return fmt.Sprintf("would remove %d of %d containers", absent, total)
	}
	return ""
}

// dirOf returns the manifest directory that a file came from, and why an
// absence from it proves nothing.
func (p *planner) dirOf(file string) (string, error) {
	for _, dir := range p.Reading.Dirs {
		if !strings.HasPrefix(file, dir.Path+"/") {
			continue
		}
		if dir.Missing() {
			return dir.Path, fmt.Errorf("directory %s is missing", dir.Path)
		}
		if refused := new(*source.Refused); errors.As(dir.Err, refused) {
			return dir.Path, fmt.Errorf("its absence is not trusted: %w", dir.Err)
		}
		if dir.Err != nil {
			return dir.Path, fmt.Errorf("directory %s can't be read: %w", dir.Path, dir.Err)
		}
		return dir.Path, nil
	}
	return "", fmt.Errorf("its manifest %s is in no directory that is read", file)
}

// absences brings the memory of absent manifests up to date with a reading: an
// absence counts from the first of the readings that follow each other, and only
// in a healthy directory. Confirmations of containers that are gone, or declared
// again, are forgotten.
func (m *Memory) absences(d *Desired, now time.Time) {
	absent := map[string]time.Time{}
	confirmed, massive := map[string]bool{}, map[string]string{}
	p := planner{Desired: d}
	for _, st := range d.absent {
		if m.Confirmed[st.Name] {
			confirmed[st.Name] = true
		}
		if why := m.Massive[st.Name]; why != "" {
			massive[st.Name] = why
		}
		if _, err := p.dirOf(st.From.File); err != nil {
			continue
		}
		absent[st.Name] = now
		if since, noted := m.Absent[st.Name]; noted && !since.After(now) {
			absent[st.Name] = since
		}
	}
	m.Absent, m.Confirmed, m.Massive = absent, confirmed, massive
}

// hold keeps a mass removal held until it is confirmed or the manifests are back:
// when some of it is confirmed, what is left is no mass any more, and would be
// removed unasked.
func (m *Memory) hold(p Plan) {
	for _, a := range p.Held {
		if a.massive != "" {
			m.Massive[a.Name] = a.massive
		}
	}
}
