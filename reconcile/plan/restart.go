package plan

import (
	"fmt"
	"time"

	"stead/runtime/status"
	"stead/spec"
)

// Decision is what the restart policy decides about a container that does not run.
type Decision string

const (
	StartNow  Decision = "start"     // the delay is over, or there is none
	WaitUntil Decision = "wait"      // in back-off
	GiveUp    Decision = "give up"   // failed, and not started again
	Complete  Decision = "completed" // ended as it should, and not started again
)

// Verdict is a Decision and why.
type Verdict struct {
	Next     Decision
	At       time.Time // of the start, for WaitUntil
	Cause    string    // one clause: why it does not run, or is started
	byPolicy bool      // the start counts as a restart
}

// AfterExit applies the restart policy to a container that does not run and should.
//
// The delay before a start is min(initial·2^(failures-1), max) after the end of
// the last run. A run that lasted max or longer resets the failures; under
// `always` it is started again after initial, however it ended, so that a
// command that always ends at once can't spin. A start that failed never ran and
// is tried again with the same delays under every policy.
func AfterExit(st *status.Status, r spec.Restart, now time.Time) Verdict {
	if st.Exit == nil {
		return Verdict{Next: StartNow, Cause: "not started on this boot"}
	}
	why := ExitClause(st.Exit)
	if st.Exit.Reason == status.ReasonStopped {
		return Verdict{Next: StartNow, Cause: "was stopped"}
	}
	if v, over := final(st.Exit, r.Policy, why); over {
		return v
	}
	if r.MaxRetries != nil && int64(st.Failures) > *r.MaxRetries {
		return Verdict{Next: GiveUp, Cause: fmt.Sprintf("%s, given up after %s", why, retries(*r.MaxRetries))}
	}
	if st.State == status.Created && !StartFailed(st.Exit) {
		return Verdict{Next: StartNow, Cause: "host rebooted"}
	}
	at := st.FinishedAt.Add(backoff(r.Backoff, st.Failures))
	if now.Before(at) && !now.Before(st.FinishedAt) { // not if the clock was set back
		return Verdict{Next: WaitUntil, At: at, Cause: why}
	}
	return Verdict{Next: StartNow, Cause: fmt.Sprintf("%s, restart %d", why, st.Restarts+1), byPolicy: true}
}

// final reports whether a run that ended so was the last one under a policy. An end that
// nobody saw (a power cut, a keeper that died) is a failure like another: on-failure runs
// it again, never does not.
func final(exit *status.Exit, policy, why string) (Verdict, bool) {
	if policy == "always" {
		return Verdict{}, false
	}
	if exit.Reason == status.ReasonCompleted {
		return Verdict{Next: Complete, Cause: why}, true
	}
	if policy == "never" && !StartFailed(exit) {
		if exit.Reason == status.ReasonUnknown {
			return Verdict{Next: GiveUp, Cause: why + ", not run again"}, true // it may have done its work
		}
		return Verdict{Next: GiveUp, Cause: why + ", restart policy never"}, true
	}
	return Verdict{}, false
}

// IsJob reports whether a container with this restart policy has done what is declared once its
// command has run, however that ended. Others should run all the time.
func IsJob(policy string) bool { return policy != "always" }

// backoff returns the delay after that many failures in a row.
func backoff(b spec.Backoff, failures int) time.Duration {
	return doubled(time.Duration(b.Initial), time.Duration(b.Max), failures)
}

// doubled returns initial, doubled for each failure after the first, at most limit.
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

// StartFailed reports whether the command never ran.
func StartFailed(e *status.Exit) bool {
	switch e.Reason {
	case status.ReasonCompleted, status.ReasonError, status.ReasonSignalled, status.ReasonOOMKilled,
		status.ReasonUnknown, status.ReasonStopped:
		return false
	}
	return true
}

// ExitClause says in a few words how a run ended.
func ExitClause(e *status.Exit) string {
	switch {
	case StartFailed(e) && e.Message != "":
		return e.Message
	case StartFailed(e):
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

// OOMClause says how many processes of a container that runs were killed for lack of memory.
func OOMClause(st *status.Status) string {
	text := "1 process was"
	if st.OOMKills > 1 {
		text = fmt.Sprintf("%d processes were", st.OOMKills)
	}
	text += " killed for lack of memory since its start"
	if m := st.Applied.Spec.Resources.Memory; m != nil {
		text += ", its limit is " + m.String()
	}
	return text
}

func retries(n int64) string {
	if n == 1 {
		return "1 retry"
	}
	return fmt.Sprintf("%d retries", n)
}
