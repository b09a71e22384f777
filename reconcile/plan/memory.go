package plan

import (
	"errors"
	"maps"
	"time"

	"stead/runtime/status"
	"stead/spec"
)

// Memory is the input of Diff besides the desired and the observed state. Its zero value is
// that of a host that no pass has seen.
type Memory struct {
	// Settle is how long a manifest must have been absent, in readings that follow each
	// other, before its container is removed.
	Settle time.Duration
	// Prompt is set for an explicit apply: it waits for no settle time.
	Prompt bool
	// Retry has failed actions retried now.
	Retry bool
	// Confirm names removals that are confirmed now; "all" is all that no manifest declares.
	Confirm []string
	// Busy are the actions under way.
	Busy map[Subject]Verb
	// Progress is how far some of them have come, in percent.
	Progress map[Subject]int
	// Stored are the images of this host that are complete; nil if they are not known.
	Stored *status.Images
	// Left are the images of containers that were removed, where a manifest that declares such a
	// container again has one that Stored has not.
	Left map[string]status.ImageUse
	// Holds are what an admin has put on hold; nil is nothing.
	Holds *status.Holds

	// The fields below are carried from one plan to the next by Next.

	// Absent is since when manifests have been absent, by container.
	Absent map[string]time.Time
	// Confirmed are removals that an admin has confirmed, by container.
	Confirmed map[string]bool
	// MassHeld are removals that were part of a mass removal, with the reason, by container.
	// They stay held when others of it are confirmed.
	MassHeld map[string]string
	// Failures are actions that did not succeed.
	Failures map[Subject]Failure
	// Done are the last successful actions of subjects for which something is still to be done.
	Done map[Subject]Done
}

// Failure is an action that did not succeed, and how often in a row.
type Failure struct {
	Verb    Verb
	Message string
	Count   int
	At      time.Time
	began   time.Time
	after   time.Duration   // what was asked said when to try again; 0 if it did not
	spec    *spec.Container // that was to be applied
	content string          // of Action
	image   *spec.Image     // that was to be imported
}

// Done is an action that succeeded, and how often in a row the very same one did.
type Done struct {
	line  string
	times int
	at    time.Time
	spec  *spec.Container

	content string // of Action
}

// Result is an action that has ended.
type Result struct {
	Action
	Began, Ended time.Time
	Err          error
}

const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
	// longestRetry is the longest time for which another host, a registry, can put off a retry.
	longestRetry = time.Hour
)

// Retry returns when the action is tried again.
func (f Failure) Retry() time.Time {
	return f.At.Add(max(f.after, doubled(firstRetry, lastRetry, f.Count)))
}

// concerns reports whether an action is the one that failed. One with another manifest is
// not: it is tried at once.
func (f Failure) concerns(a Action) bool {
	sameImage := a.Image == nil || f.image != nil && a.Image.Spec.Source == f.image.Spec.Source && a.Image.Spec.Digest == f.image.Spec.Digest
	return f.Verb == a.Verb && (a.Spec == nil || a.Spec == f.spec) && a.content == f.content && sameImage
}

// recorded reports whether the container's own record holds this failure.
func (f Failure) recorded(st *status.Status) bool {
	starts := f.Verb == Create || f.Verb == Start || f.Verb == Restart || f.Verb == Rename
	return starts && st.State == status.Exited && st.Exit != nil && StartFailed(st.Exit) && !st.FinishedAt.Before(f.began)
}

// Next returns the memory for the next plan: m is the memory that p was made with, results are
// those of actions that have ended since. Neither m nor p is changed.
func Next(m Memory, p Plan, results []Result) Memory {
	n := m
	n.Prompt, n.Retry, n.Confirm = false, false, nil
	n.Absent, n.Confirmed, n.MassHeld = p.Found.Absent, p.Found.Confirmed, p.Found.MassHeld
	n.Failures, n.Done = map[Subject]Failure{}, map[Subject]Done{}
	if !m.Retry {
		open := m.open(p)
		maps.Copy(n.Failures, m.Failures)
		maps.DeleteFunc(n.Failures, func(s Subject, _ Failure) bool { return !open[s] || p.Found.Recorded[s] })
		maps.Copy(n.Done, m.Done)
		maps.DeleteFunc(n.Done, func(s Subject, _ Done) bool { return !open[s] })
	}
	maps.Copy(n.Failures, p.Found.NoEffect)
	for _, r := range results {
		n.note(r)
	}
	return n
}

// open returns the subjects for which an action is planned, waits or is under way; nil if no
// failure and no done action is remembered.
func (m *Memory) open(p Plan) map[Subject]bool {
	if len(m.Failures)+len(m.Done) == 0 {
		return nil
	}
	open := make(map[Subject]bool, len(p.Actions)+len(p.Waits)+len(m.Busy))
	for _, list := range [][]Action{p.Actions, p.Adoptions} {
		for _, a := range list {
			open[a.Subject] = true
		}
	}
	for _, w := range p.Waits {
		open[w.Subject] = true
	}
	for s := range m.Busy {
		open[s] = true
	}
	return open
}

// note remembers one result. A failed action that an admin asked for is reported to the admin
// and not retried.
func (m *Memory) note(r Result) {
	switch {
	case r.Err == nil:
		times := 1
		if before := m.Done[r.Subject]; before.line == r.Action.String() && before.spec == r.Spec && before.content == r.content {
			times = before.times + 1
		}
		m.Done[r.Subject] = Done{line: r.Action.String(), times: times, at: r.Ended, spec: r.Spec, content: r.content}
		delete(m.Failures, r.Subject)
	case !r.ByAdmin:
		count := 1
		if f := m.Failures[r.Subject]; f.concerns(r.Action) {
			count = f.Count + 1
		}
		f := Failure{Verb: r.Verb, Message: r.Err.Error(), Count: count, At: r.Ended, began: r.Began, spec: r.Spec, content: r.content, image: r.Image}
		var wait interface{ RetryAfter() time.Duration }
		if errors.As(r.Err, &wait) {
			f.after = min(wait.RetryAfter(), longestRetry)
		}
		m.Failures[r.Subject] = f
	}
}
