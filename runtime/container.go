package runtime

import (
	"slices"
	"sync"
	"time"

	"stead/runtime/record"
	"stead/runtime/status"
	"stead/runtime/store"
	"stead/spec"
)

// container is one container in memory. Every change is saved on disk first.
type container struct {
	name  string
	facts *store.Facts
	rec   *record.Record // of the current or last start on this boot; nil if none. Changed by advance and beginRun only

	// Below here nothing is saved.
	starting, stopping, updating bool

	drift              status.Differences
	lost, missingFiles status.Differences // of the run: differences that only a restart repairs, and files that can be restored
	finishing          sync.Mutex         // the keeper and a stop report the end at the same time
	finished           string             // id of the last run whose end was recorded
	files              *runFiles          // of the current run; nil if it has none
	readAt             stamp              // of the record when resync last read it
	stale              status.Differences // of the run: sources that the host has replaced
	oomKills           int64              // of the run: processes killed for lack of memory, when that was last read
	cached             cachedStatus       // the last status
}

// The boot record on disk is the truth about a run, and several goroutines read it:
// the one that asked for a start or a stop, the watch on the keeper, the resync. They
// finish in any order, so advance and beginRun are the only ways into memory.

// advance takes rec as the record of the current run of c, unless memory has a later
// state: a run goes from creating to running to exited and never back. It ignores the
// record of another run. The caller holds Runtime.mu.
func (c *container) advance(rec *record.Record) {
	if c.rec == nil || c.rec.ID() != rec.ID() || phase(rec.State) < phase(c.rec.State) {
		return
	}
	c.rec = rec
}

// beginRun makes rec, the record of a start that is about to happen, the current run of
// c. The caller holds Runtime.mu.
func (c *container) beginRun(rec *record.Record) { c.rec, c.readAt, c.oomKills = rec, stamp{}, 0 }

func phase(s record.State) int {
	switch s {
	case record.Running:
		return 1
	case record.Exited:
		return 2
	}
	return 0
}

// cachedStatus is a Status with the inputs that it was derived from.
type cachedStatus struct {
	facts                     *store.Facts
	rec                       *record.Record
	starting, stopping        bool
	files                     *runFiles
	drift, lost, missingFiles status.Differences
	stale                     status.Differences
	oomKills                  int64
	status                    *status.Status
}

// status returns the cached status, or a new one if an input changed. The caller holds
// Runtime.mu.
func (c *container) status() *status.Status {
	t := &c.cached
	if t.status == nil || t.facts != c.facts || t.rec != c.rec || t.starting != c.starting || t.stopping != c.stopping || t.files != c.files || t.oomKills != c.oomKills ||
		!slices.Equal(t.drift, c.drift) || !slices.Equal(t.lost, c.lost) || !slices.Equal(t.missingFiles, c.missingFiles) || !slices.Equal(t.stale, c.stale) {
		*t = cachedStatus{c.facts, c.rec, c.starting, c.stopping, c.files, c.drift, c.lost, c.missingFiles, c.stale, c.oomKills, c.derive()}
	}
	return t.status
}

func (c *container) derive() *status.Status {
	s := &status.Status{
		Name: c.name, Applied: c.facts.Manifest, From: c.facts.From, State: status.Created,
		CreatedAt: c.facts.CreatedAt, StoppedAt: c.facts.StoppedAt, Unapplied: c.facts.Unapplied, Drift: c.drift, Lost: c.lost,
	}
	if last := c.cached.status; last != nil && last.Applied == s.Applied {
		s.Fingerprint = last.Fingerprint
	} else {
		s.Fingerprint = s.Applied.Fingerprint()
	}
	if i := c.facts.Image; i != nil {
		s.Image = &status.ImageUse{Reference: i.Reference, Digest: i.Digest}
	}
	if len(c.missingFiles) > 0 {
		s.Drift = append(s.Drift[:len(s.Drift):len(s.Drift)], c.missingFiles...)
	}
	switch {
	case c.rec != nil:
		c.statusOfRecord(s)
	case c.facts.LastRun.Began():
		l := c.facts.LastRun
		s.StartedAt, s.FinishedAt, s.Exit = l.StartedAt, l.FinishedAt, l.Exit
		if l.BootID == record.BootID() { // else it was never started on this boot
			s.State = status.Exited
		}
		if s.Exit == nil {
			s.Exit = &status.Exit{Code: -1, Reason: status.ReasonUnknown, Message: "the host went down while the container ran"}
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
		s.State, s.Pid, s.OOMKills, s.Stale = status.Running, r.Pid, c.oomKills, c.stale
		if c.files != nil && c.files.id == r.ID() {
			s.Files = c.files.status
		}
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

// failedEarly reports whether a run counts for the back-off: it ended sooner than the
// longest delay, or never began.
func failedEarly(r *record.Record, c *spec.Container) bool {
	if r.Stopping {
		return false
	}
	if r.Ending != nil && r.Ending.Failed != "" {
		return true
	}
	return r.FinishedAt.Sub(r.StartedAt) < time.Duration(c.Spec.Restart.Backoff.Max)
}
