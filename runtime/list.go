package runtime

import (
	"slices"
	"strings"
	"time"

	"stead/runtime/record"
	"stead/runtime/status"
	"stead/runtime/store"
	"stead/spec"
)

// put makes a container known; the caller holds the lock.
func (r *Runtime) put(c *container) {
	i, _ := r.place(c.name)
	r.byName[c.name], r.ordered = c, slices.Insert(r.ordered, i, c)
}

// drop forgets a container; the caller holds the lock.
func (r *Runtime) drop(name string) {
	if i, there := r.place(name); there {
		delete(r.byName, name)
		r.ordered = slices.Delete(r.ordered, i, i+1)
	}
}

// place is where a name stands, or would stand, in the order.
func (r *Runtime) place(name string) (int, bool) {
	return slices.BinarySearchFunc(r.ordered, name, func(c *container, name string) int { return strings.Compare(c.name, name) })
}

// List is what is known about every container, by name. A Status is never changed
// and is made anew only when something is new of its container: among thousands,
// deriving and copying them all would be most of a pass.
func (r *Runtime) List() []*status.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*status.Status, len(r.ordered))
	for i, c := range r.ordered {
		all[i] = c.status()
	}
	return all
}

// Get is what is known about one container.
func (r *Runtime) Get(name string) (status.Status, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.byName[name]
	if !ok {
		return status.Status{}, false
	}
	return *c.status(), true
}

// told is a status and all that it was derived from.
type told struct {
	facts                *store.Facts
	rec                  *record.Record
	starting, stopping   bool
	drift, lost, strayed status.Differences
	status               *status.Status
}

// status is the last one if it still holds; the caller holds the lock.
func (c *container) status() *status.Status {
	t := &c.told
	if t.status == nil || t.facts != c.facts || t.rec != c.rec || t.starting != c.starting || t.stopping != c.stopping ||
		!slices.Equal(t.drift, c.drift) || !slices.Equal(t.lost, c.lost) || !slices.Equal(t.strayed, c.strayed) {
		*t = told{c.facts, c.rec, c.starting, c.stopping, c.drift, c.lost, c.strayed, c.derive()}
	}
	return t.status
}

func (c *container) derive() *status.Status {
	s := &status.Status{
		Name: c.name, Applied: c.facts.Manifest, From: c.facts.From, State: status.Created,
		CreatedAt: c.facts.CreatedAt, StoppedAt: c.facts.StoppedAt, Unapplied: c.facts.Unapplied, Drift: c.drift, Lost: c.lost,
	}
	if last := c.told.status; last != nil && last.Applied == s.Applied {
		s.Fingerprint = last.Fingerprint
	} else {
		s.Fingerprint = s.Applied.Fingerprint()
	}
	if len(c.strayed) > 0 {
		s.Drift = append(s.Drift[:len(s.Drift):len(s.Drift)], c.strayed...)
	}
	switch {
	case c.rec != nil:
		c.statusOfRecord(s)
	case c.facts.LastRun.Began():
		l := c.facts.LastRun
		s.State, s.StartedAt, s.FinishedAt, s.Exit = status.Exited, l.StartedAt, l.FinishedAt, l.Exit
		if s.Exit == nil {
			s.Exit = &status.Exit{Code: -1, Reason: status.ReasonUnknown, Message: "the host went down while it ran"}
		}
	}
	switch {
	case c.starting:
		s.State = status.Starting
	case c.stopping && s.State == status.Running:
		s.State = status.Stopping
	}
	return s
}

func (c *container) statusOfRecord(s *status.Status) {
	r := c.rec
	s.StartedAt, s.FinishedAt, s.Restarts, s.Failures = r.StartedAt, r.FinishedAt, r.Restarts, r.Failures
	switch r.State {
	case record.Running:
		s.State, s.Pid = status.Running, r.Pid
	case record.Exited:
		s.State, s.Exit = status.Exited, exitOf(r.Ending, r.Stopping)
		if failedEarly(r, c.facts.Manifest) {
			s.Failures++
		} else {
			s.Failures = 0
		}
	default:
		s.State = status.Starting
	}
}

// failedEarly says whether a run counts for the back-off: it ended sooner than
// the longest delay, or never began.
func failedEarly(r *record.Record, c *spec.Container) bool {
	if r.Stopping {
		return false
	}
	if r.Ending != nil && r.Ending.Failed != "" {
		return true
	}
	return r.FinishedAt.Sub(r.StartedAt) < time.Duration(c.Spec.Restart.Backoff.Max)
}
