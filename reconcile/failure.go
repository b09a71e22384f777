package reconcile

import (
	"time"

	"stead/runtime/status"
	"stead/spec"
)

// Failure is an action that did not succeed, and how often in a row.
type Failure struct {
	Verb    Verb
	Message string
	Count   int
	At      time.Time
	began   time.Time
	spec    *spec.Container // that was to be applied
}

const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
)

// Retry is when the action is tried again.
func (f Failure) Retry() time.Time {
	return f.At.Add(doubled(firstRetry, lastRetry, f.Count))
}

// concerns tells whether an action is the one that failed. One with another
// manifest is not: it is tried at once.
func (f Failure) concerns(a Action) bool {
	return f.Verb == a.Verb && (a.Spec == nil || a.Spec == f.spec)
}

// recorded tells whether the container's own record holds this failure.
func (f Failure) recorded(st *status.Status) bool {
	starts := f.Verb == Create || f.Verb == Start || f.Verb == Restart
	return starts && st.State == status.Exited && st.Exit != nil && startFailed(st.Exit) && !st.FinishedAt.Before(f.began)
}
