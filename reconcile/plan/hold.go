package plan

import (
	"fmt"
	"time"

	"stead/runtime/status"
	"stead/spec"
)

// A hold pauses reconciliation: the applied manifest is kept up, including its restart policy,
// and nothing else is done.

// onHold plans for a container on hold: the applied manifest stays in force, and changes are
// held.
func (p *planner) onHold(st *status.Status, w *Want, h *status.Hold) {
	if !same(st, w) {
		if changes := Changes(st.Applied, w.Spec); len(changes) > 0 {
			verb := Update
			if needsRestart(changes) {
				verb = Restart
			}
			p.hold(Action{Verb: verb, Subject: ContainerNamed(st.Name), Changes: changes, From: w.From}, st.Applied, h)
		}
	}
	now := withoutRun(st) // what was changed by hand may be why it is on hold
	p.container(now, &Want{Spec: st.Applied, Fingerprint: st.Fingerprint, From: st.From})
}

// hold adds an action on a container that is held until the release.
func (p *planner) hold(a Action, c *spec.Container, h *status.Hold) {
	a.Verb, a.Waiting, a.OnHold = Hold, a.Verb, true
	a.Cause = fmt.Sprintf("%s waits; %s; %s", a.Waiting, HoldClause(h), releaseAdvice(p.Holds, c))
	p.plan.Held = append(p.plan.Held, a)
}

// HoldClause prints since when a hold is in force, and its reason.
func HoldClause(h *status.Hold) string {
	clause := "on hold since " + h.Since.UTC().Format(time.RFC3339)
	if h.Reason != "" {
		clause += ": " + h.Reason
	}
	return clause
}

func releaseAdvice(h *status.Holds, c *spec.Container) string {
	for _, name := range []string{c.Metadata.Name, c.Group()} {
		if _, held := h.Containers[name]; held {
			return "end it with stead release " + name
		}
	}
	return "end it with stead release"
}
