package reconcile

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"stead/runtime/status"
	"stead/spec"
)

// viewer is the work of one Views.
type viewer struct {
	*Desired
	Memory
	now     time.Time
	planned map[string]Action // held removals too
	waits   map[string]Wait
}

// container views one that is there: its processes first, then whether it is as
// declared, which has the last word on why.
func (v *viewer) container(st *status.Status) ContainerView {
	c := ContainerView{
		Name: st.Name, Sync: Synced, Pid: st.Pid, Restarts: st.Restarts,
		Manifest: ManifestName(st.From), Labels: st.Applied.Metadata.Labels,
		CreatedAt: st.CreatedAt.UTC(), StartedAt: st.StartedAt.UTC(), FinishedAt: st.FinishedAt.UTC(),
	}
	if st.Exit != nil {
		code := st.Exit.Code
		c.ExitCode, c.Reason, c.Message = &code, st.Exit.Reason, st.Exit.Message
	}
	c.DropIns = v.dropIns(st.Name)
	v.state(&c, st)
	v.sync(&c, st)
	return c
}

// state says what the processes do.
func (v *viewer) state(c *ContainerView, st *status.Status) {
	busy, isBusy := v.Busy[st.Name]
	switch {
	case isBusy && busy == Remove:
		c.State = Removing
	case st.State == status.Running:
		c.State, c.Ready = Running, true
	case st.State == status.Stopping:
		c.State = Stopping
	case st.State == status.Starting || isBusy && (busy == Start || busy == Restart || busy == Create):
		c.State = Pending
	case st.StoppedAt != nil:
		c.State, c.Reason = Stopped, ReasonStoppedByAdmin
		c.Why = "stopped by admin since " + st.StoppedAt.UTC().Format(time.RFC3339)
	case st.Applied.Spec.Suspend:
		c.State, c.Reason, c.Why = Stopped, ReasonSuspended, "suspended"
	default:
		v.ended(c, st)
	}
}

// ended says what becomes of a container whose processes are gone.
func (v *viewer) ended(c *ContainerView, st *status.Status) {
	verdict := judge(st, st.Applied.Spec.Restart, v.now)
	c.Why = verdict.cause
	switch verdict.next {
	case startNow:
		c.State = Pending
	case waitUntil:
		c.State = BackOff
		c.Why += ", next start in " + v.until(verdict.at)
	case giveUp:
		c.State = Failed
	case complete:
		c.State = Completed
	}
}

// until is the time left, as a person says it.
func (v *viewer) until(at time.Time) string {
	left := at.Sub(v.now)
	if left > time.Second {
		return left.Round(time.Second).String()
	}
	return max(left, 0).Round(100 * time.Millisecond).String()
}

// sync says whether a container is as declared, the worst first.
func (v *viewer) sync(c *ContainerView, st *status.Status) {
	w := v.Lookup(st.Name)
	planned, isPlanned := v.planned[st.Name]
	wait, isWaiting := v.waits[st.Name]
	failure, failed := v.Failures[st.Name]
	_, busy := v.Busy[st.Name]
	switch {
	case w != nil && w.Err != nil:
		c.Sync = SyncError
		c.Reason, c.Why, c.Message = reasonOf(w.Err), v.short(w.Err), w.Err.Error()
		v.patient(c, w.Err)
	case failed:
		c.Sync = SyncError
		c.Reason, c.Message = ReasonActionFailed, failure.Message
		c.Why = v.failure(failure)
	case isPlanned && planned.Verb == Hold:
		c.Sync, c.Reason, c.Why, c.Message = Held, planned.heldReason(), planned.Cause, planned.Cause
	case len(st.Unapplied) > 0:
		c.Sync, c.Reason, c.Why = SyncError, ReasonUnapplied, unappliedCause(st.Unapplied)
		c.Message = c.Why
	case len(st.Lost) > 0 && st.State == status.Running && !isPlanned && !busy && v.Holds.Of(st.Name) == nil:
		c.Sync, c.Reason, c.Why = SyncError, ReasonChangedByHand, lostCause(st)+"; stead restart "+st.Name+" puts it right"
		c.Message = c.Why
	case isWaiting && wait.Verb == Remove:
		c.Sync, c.Reason, c.Why = OutOfSync, ReasonRemovalPending, wait.Why+", removed in "+v.until(wait.Until)
	case busy:
		c.Sync, c.Why = OutOfSync, cmp.Or(c.Why, planned.Cause)
	case isPlanned:
		c.Sync = OutOfSync
		if c.Why == "" || planned.Verb != Start {
			c.Why = planned.Cause
		}
	case w != nil && !w.Waiting.IsZero() && v.now.Sub(w.Waiting) >= waitNoted:
		c.Sync, c.Reason, c.Why = OutOfSync, ReasonWaitingForWriter, "waiting for the writer of "+v.shortPath(w.Writer)
		c.Message = c.Why
	default:
		if h := v.Holds.Of(st.Name); h != nil && c.Why == "" {
			c.Why = HoldClause(h)
		}
	}
}

// heldReason is the stable code of why an action is held.
func (a Action) heldReason() string {
	if a.byAdmin {
		return ReasonOnHold
	}
	return ReasonRemovalHeld
}

// patient takes back the error of a file that is merely being written, which
// most are for a moment.
func (v *viewer) patient(c *ContainerView, err error) {
	var waiting *WaitingError
	if errors.As(err, &waiting) && v.now.Sub(waiting.Since) < waitNoted {
		c.Sync = OutOfSync
	}
}

func (v *viewer) failure(f Failure) string {
	return fmt.Sprintf("%s failed: %s, next try in %s", f.Verb, f.Message, v.until(f.Retry()))
}

// coming views a container that is declared and not there yet.
func (v *viewer) coming(name string, s *spec.Container, from Origin) ContainerView {
	c := ContainerView{Name: name, State: Pending, Sync: OutOfSync, Manifest: ManifestName(from), Labels: s.Metadata.Labels, Why: "to be created"}
	if _, busy := v.Busy[name]; busy {
		c.Why = "being created"
	}
	if f, failed := v.Failures[name]; failed {
		c.State, c.Sync, c.Reason, c.Message, c.Why = BackOff, SyncError, ReasonActionFailed, f.Message, v.failure(f)
	}
	return c
}

// kept views a container that is declared, not there, and on hold.
func (v *viewer) kept(a Action) ContainerView {
	return ContainerView{
		Name: a.Name, State: Pending, Sync: Held, Manifest: ManifestName(a.From), Labels: a.Spec.Metadata.Labels,
		Reason: a.heldReason(), Why: a.Cause, Message: a.Cause,
	}
}

// invalid views the manifests that gave no container, one row a name.
func (v *viewer) invalid() []ContainerView {
	var views []ContainerView
	for _, i := range v.Invalid {
		if n := len(views); n > 0 && views[n-1].Name == i.Name {
			continue // the first error stands for all; `status` and `validate` list them
		}
		views = append(views, ContainerView{
			Name: i.Name, State: Invalid, Sync: SyncError, Reason: ReasonInvalidManifest,
			Message: i.Errs[0].Error(), Why: v.short(i.Errs[0]), Manifest: ManifestName(i.From),
		})
	}
	for _, f := range v.waiting {
		if len(f.Documents) == 0 && v.now.Sub(f.Waiting) >= waitNoted && !v.keeps(f) {
			views = append(views, ContainerView{
				Name: f.Path, State: Pending, Sync: OutOfSync, Reason: ReasonWaitingForWriter,
				Why: "waiting for the writer of " + v.shortPath(f.Writer), Manifest: f.Path,
			})
		}
	}
	return views
}

// reasonOf is the stable code of why a manifest can't be followed.
func reasonOf(err error) string {
	var waiting *WaitingError
	var manifest *spec.Error
	switch {
	case errors.As(err, &waiting):
		return ReasonWaitingForWriter
	case errors.As(err, &manifest):
		return ReasonInvalidManifest
	}
	return ReasonUnreadable
}

// short prints an error of a manifest with its path below the directory.
func (v *viewer) short(err error) string {
	var manifest *spec.Error
	if errors.As(err, &manifest) {
		e := *manifest
		e.File = v.shortPath(e.File)
		return e.Error()
	}
	var waiting *WaitingError
	if errors.As(err, &waiting) {
		return "waiting for the writer of " + v.shortPath(waiting.File)
	}
	return err.Error()
}

func (d *Declared) shortPath(path string) string {
	for _, dir := range d.Reading.Dirs {
		if rel, inside := strings.CutPrefix(path, dir.Path+"/"); inside {
			return rel
		}
	}
	return path
}
