package view

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"stead/reconcile/plan"
	"stead/runtime/status"
	"stead/spec"
)

// viewer is the work of one Containers.
type viewer struct {
	*plan.Desired
	plan.Memory
	now     time.Time
	planned map[string]plan.Action // by container; what is held too
	waits   map[string]plan.Wait
}

// shownTime returns a time as JSON shows it, without what nobody needs.
func shownTime(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// container views a container that exists: first its processes, then whether it is as declared.
// The latter decides the text of Why.
func (v *viewer) container(st *status.Status) Container {
	c := Container{
		Name: st.Name, Group: st.Applied.Group(), Sync: Synced, Pid: st.Pid, Restarts: st.Restarts,
		Manifest: plan.ManifestName(st.From), Labels: st.Applied.Metadata.Labels,
		CreatedAt: shownTime(st.CreatedAt), StartedAt: shownTime(st.StartedAt), FinishedAt: shownTime(st.FinishedAt),
	}
	if st.Exit != nil {
		code := st.Exit.Code
		c.ExitCode, c.Reason, c.Message = &code, st.Exit.Reason, st.Exit.Message
	}
	if w := v.Lookup(st.Name); w != nil {
		c.DropIns = w.From.DropIns
	}
	v.state(&c, st)
	v.sync(&c, st)
	return c
}

// state fills in the state of the processes.
func (v *viewer) state(c *Container, st *status.Status) {
	busy, isBusy := v.Busy[plan.ContainerNamed(st.Name)]
	switch {
	case isBusy && busy == plan.Remove:
		c.State = Removing
	case st.State == status.Running:
		c.State, c.Ready = Running, true
	case st.State == status.Stopping:
		c.State = Stopping
	case st.State == status.Starting || isBusy && (busy == plan.Start || busy == plan.Restart || busy == plan.Rename || busy == plan.Create):
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

// ended fills in the state of a container whose processes are gone.
func (v *viewer) ended(c *Container, st *status.Status) {
	verdict := plan.AfterExit(st, st.Applied.Spec.Restart, v.now)
	c.Why = verdict.Cause
	switch verdict.Next {
	case plan.StartNow:
		c.State = Pending
	case plan.WaitUntil:
		c.State = BackOff
		c.Why += ", next start " + v.when(verdict.At)
	case plan.GiveUp:
		c.State, c.Over = Failed, plan.IsJob(st.Applied.Spec.Restart.Policy)
	case plan.Complete:
		c.State = Completed
	}
}

// when prints the time left until at: "in 5s", or "now".
func (v *viewer) when(at time.Time) string {
	left := at.Sub(v.now)
	if left > time.Second {
		return "in " + left.Round(time.Second).String()
	}
	if left = left.Round(100 * time.Millisecond); left <= 0 {
		return "now"
	}
	return "in " + left.String()
}

// sync fills in whether the container is as declared, the worst finding first.
func (v *viewer) sync(c *Container, st *status.Status) {
	w := v.Lookup(st.Name)
	planned, isPlanned := v.planned[st.Name]
	wait, isWaiting := v.waits[st.Name]
	failure, failed := v.Failures[plan.ContainerNamed(st.Name)]
	_, busy := v.Busy[plan.ContainerNamed(st.Name)]
	switch {
	case w != nil && w.Err != nil:
		c.Sync = SyncError
		c.Reason, c.Why, c.Message = reasonOf(w.Err), v.short(w.Err), w.Err.Error()
		v.patient(c, w.Err)
	case failed:
		c.Sync = SyncError
		c.Reason, c.Message = ReasonActionFailed, failure.Message
		c.Why = v.failure(failure)
	case isPlanned && planned.Verb == plan.Hold:
		c.Sync, c.Reason, c.Why, c.Message = Held, heldReason(planned), planned.Cause, planned.Cause
	case len(st.Unapplied) > 0:
		c.Sync, c.Reason, c.Why = SyncError, ReasonUnapplied, plan.UnappliedCause(st.Unapplied)
		c.Message = c.Why
	case len(st.Lost) > 0 && st.State == status.Running && !isPlanned && !busy && v.Holds.OfContainer(st.Applied) == nil:
		c.Sync, c.Reason, c.Why = SyncError, ReasonChangedByHand, plan.LostCause(st)+"; stead restart "+st.Name+" puts it right"
		c.Message = c.Why
	case isWaiting && wait.Verb == plan.Remove:
		c.Sync, c.Reason, c.Why = OutOfSync, ReasonRemovalPending, wait.Why+", removed "+v.when(wait.Until)
	case isWaiting && (wait.Image != "" || wait.Volume != ""):
		v.awaits(c, wait)
	case busy:
		c.Sync, c.Why = OutOfSync, cmp.Or(c.Why, planned.Cause)
	case isPlanned:
		c.Sync = OutOfSync
		if c.Why == "" || planned.Verb != plan.Start {
			c.Why = planned.Cause
		}
	case w != nil && !w.Waiting.IsZero() && v.now.Sub(w.Waiting) >= WriterNoted:
		c.Sync, c.Reason, c.Why = OutOfSync, ReasonWaitingForWriter, "waiting for the writer of "+v.ShortPath(w.Writer)
		c.Message = c.Why
	default:
		if h := v.Holds.OfContainer(st.Applied); h != nil && c.Why == "" {
			c.Why = plan.HoldClause(h)
		}
		if len(st.Stale) > 0 && st.State == status.Running && c.Why == "" {
			c.Reason, c.Why = ReasonSourceReplaced, st.Stale.String()+"; stead restart "+st.Name+" takes what is there now"
			c.Message = c.Why
		}
		if old := plan.OldContents(st, w); len(old) > 0 && c.Why == "" {
			c.Reason, c.Why = ReasonSourceChanged, "it runs with the old content of "+strings.Join(old, ", ")+"; stead restart "+st.Name+" takes the new one"
			c.Message = c.Why
		}
		if st.OOMKills > 0 && c.Why == "" {
			c.Reason, c.Why = ReasonProcessOOMKilled, plan.OOMClause(st)
			c.Message = c.Why
		}
	}
}

// awaits fills in that a container waits for the image of its root or for a volume.
func (v *viewer) awaits(c *Container, w plan.Wait) {
	if w.Volume != "" {
		c.Sync, c.Reason, c.Why, c.Message = OutOfSync, ReasonWaitingForVolume, w.Why, w.Why
		return
	}
	if w.Image == "" {
		return
	}
	c.Sync, c.Reason, c.Why, c.Message = OutOfSync, ReasonWaitingForImage, w.Why, ""
	if _, failed := v.Failures[plan.ImageNamed(w.Image)]; failed && !w.Until.IsZero() {
		c.Sync, c.Reason, c.Message = SyncError, ReasonImageFailed, w.Why
		c.Why += ", next try " + v.when(w.Until)
	}
}

// heldReason returns the stable code of why an action is held.
func heldReason(a plan.Action) string {
	switch {
	case a.OnHold:
		return ReasonOnHold
	case a.Waiting == plan.Restart:
		return ReasonImageRefused
	}
	return ReasonRemovalHeld
}

// patient turns the error about a file that is being written into a pending state for the first
// seconds: most writers need a moment only.
func (v *viewer) patient(c *Container, err error) {
	var waiting *plan.WaitingError
	if errors.As(err, &waiting) && v.now.Sub(waiting.Since) < WriterNoted {
		c.Sync = OutOfSync
	}
}

func (v *viewer) failure(f plan.Failure) string {
	return fmt.Sprintf("%s failed: %s, next try %s", f.Verb, f.Message, v.when(f.Retry()))
}

// coming views a container that is declared and does not exist yet.
func (v *viewer) coming(name string, s *spec.Container, from status.Origin) Container {
	c := Container{Name: name, Group: s.Group(), State: Pending, Sync: OutOfSync, Manifest: plan.ManifestName(from), Labels: s.Metadata.Labels, Why: "to be created"}
	if _, busy := v.Busy[plan.ContainerNamed(name)]; busy {
		c.Why = "being created"
	}
	if f, failed := v.Failures[plan.ContainerNamed(name)]; failed {
		c.State, c.Sync, c.Reason, c.Message, c.Why = BackOff, SyncError, ReasonActionFailed, f.Message, v.failure(f)
	}
	return c
}

// held views a container that is declared, does not exist, and is on hold.
func (v *viewer) held(a plan.Action) Container {
	return Container{
		Name: a.Name, Group: a.Spec.Group(), State: Pending, Sync: Held, Manifest: plan.ManifestName(a.From), Labels: a.Spec.Metadata.Labels,
		Reason: heldReason(a), Why: a.Cause, Message: a.Cause,
	}
}

// invalid views the manifests that gave no container, one row for each name.
func (v *viewer) invalid() []Container {
	var views []Container
	for _, i := range v.Invalid {
		if n := len(views); n > 0 && views[n-1].Name == i.Name {
			continue // the first error stands for all; `status` and `validate` list them
		}
		views = append(views, Container{
			Name: i.Name, State: Invalid, Sync: SyncError, Reason: ReasonInvalidManifest,
			Message: i.Errs[0].Error(), Why: v.short(i.Errs[0]), Manifest: plan.ManifestName(i.From),
		})
	}
	for _, f := range v.Writing {
		if f.New && v.now.Sub(f.Since) >= WriterNoted {
			views = append(views, Container{
				Name: f.Path, State: Pending, Sync: OutOfSync, Reason: ReasonWaitingForWriter,
				Why: "waiting for the writer of " + v.ShortPath(f.Writer), Manifest: f.Path,
			})
		}
	}
	return views
}

// reasonOf returns the stable code of why a manifest can't be applied.
func reasonOf(err error) string {
	var waiting *plan.WaitingError
	var manifest *spec.Error
	switch {
	case errors.As(err, &waiting):
		return ReasonWaitingForWriter
	case errors.As(err, &manifest):
		return ReasonInvalidManifest
	}
	return ReasonUnreadable
}

// short prints an error of a manifest with its path relative to the manifest directory.
func (v *viewer) short(err error) string {
	var manifest *spec.Error
	if errors.As(err, &manifest) {
		e := *manifest
		e.File = v.ShortPath(e.File)
		return e.Error()
	}
	var waiting *plan.WaitingError
	if errors.As(err, &waiting) {
		return "waiting for the writer of " + v.ShortPath(waiting.File)
	}
	return err.Error()
}
