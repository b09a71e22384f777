package reconcile

import (
	"fmt"
	"time"

	"stead/runtime/status"
	"stead/spec"
)

// next is what the restart policy says of a container that does not run.
type next string

const (
	startNow  next = "start"     // the wait is over, or there is none
	waitUntil next = "wait"      // in back-off
	giveUp    next = "give up"   // failed, and not started again
	complete  next = "completed" // ended as it should, and not started again
)

// verdict is the restart policy's answer.
type verdict struct {
	next     next
	at       time.Time // of the start, for waitUntil
	cause    string    // one clause: why it does not run, or is started
	byPolicy bool      // the start counts as a restart
}

// judge applies the restart policy to a container that does not run and should.
//
// The delay before a start is min(initial·2^(failures-1), max) after the end of
// the last run. A run that lasted max or longer resets the failures; under
// `always` it is started again after initial, however it ended, so that a
// command that always ends at once can't spin. A start that failed never ran and
// is tried again with the same delays under every policy.
func judge(st *status.Status, r spec.Restart, now time.Time) verdict {
	if st.Exit == nil {
		return verdict{next: startNow, cause: "not started on this boot"}
	}
	why := exitClause(st.Exit)
	if st.Exit.Reason == status.ReasonStopped {
		return verdict{next: startNow, cause: "was stopped"}
	}
	if v, over := final(st.Exit, r.Policy, why); over {
		return v
	}
	if r.MaxRetries > 0 && int64(st.Failures) > r.MaxRetries {
		return verdict{next: giveUp, cause: fmt.Sprintf("%s, given up after %s", why, retries(r.MaxRetries))}
	}
	if st.State == status.Created && !startFailed(st.Exit) {
		return verdict{next: startNow, cause: "host rebooted"}
	}
	at := st.FinishedAt.Add(backoff(r.Backoff, st.Failures))
	if now.Before(at) && !now.Before(st.FinishedAt) { // not if the clock was set back
		return verdict{next: waitUntil, at: at, cause: why}
	}
	return verdict{next: startNow, cause: fmt.Sprintf("%s, restart %d", why, st.Restarts+1), byPolicy: true}
}

// final reports whether a run that ended so was the last one under a policy. An end that
// nobody saw (a power cut, a keeper that died) is a failure like another: on-failure runs
// it again, never does not.
func final(exit *status.Exit, policy, why string) (verdict, bool) {
	if policy == "always" {
		return verdict{}, false
	}
	if exit.Reason == status.ReasonCompleted {
		return verdict{next: complete, cause: why}, true
	}
	if policy == "never" && !startFailed(exit) {
		if exit.Reason == status.ReasonUnknown {
			return verdict{next: giveUp, cause: why + ", not run again"}, true // it may have done its work
		}
		return verdict{next: giveUp, cause: why + ", restart policy never"}, true
	}
	return verdict{}, false
}

// backoff is the delay after that many failures in a row.
func backoff(b spec.Backoff, failures int) time.Duration {
	return doubled(time.Duration(b.Initial), time.Duration(b.Max), failures)
}

// doubled is initial, doubled for each failure after the first, at most limit.
func doubled(initial, limit time.Duration, failures int) time.Duration {
	delay := min(initial, limit)
	for range failures - 1 {
		if delay > limit/2 {
			return limit
		}
		delay *= 2
		if delay == 0 {
			return 0
		}
	}
	return delay
}

// startFailed tells that the command never ran.
func startFailed(e *status.Exit) bool {
	switch e.Reason {
	case status.ReasonCompleted, status.ReasonError, status.ReasonSignalled, status.ReasonOOMKilled,
		status.ReasonUnknown, status.ReasonStopped:
		return false
	}
	return true
}

// exitClause says in a few words how a run ended.
func exitClause(e *status.Exit) string {
	switch {
	case startFailed(e) && e.Message != "":
		return e.Message
	case startFailed(e):
		return "start failed: " + e.Reason
	case e.Reason == status.ReasonOOMKilled && e.Message != "":
		return e.Message // names the limit
	case e.Reason == status.ReasonOOMKilled:
		return "killed at its memory limit"
	case e.Reason == status.ReasonSignalled && e.Signal != "":
		return "killed by SIG" + e.Signal
	case e.Reason == status.ReasonUnknown:
		return "exit code unknown"
	case e.Reason == status.ReasonStopped:
		return "stopped"
	}
	return fmt.Sprintf("exit code %d", e.Code)
}

func retries(n int64) string {
	if n == 1 {
		return "1 retry"
	}
	return fmt.Sprintf("%d retries", n)
}
