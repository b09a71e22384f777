// Package view says how this host stands in the form that people and scripts see: one row
// for each container, and the report of `stead status`. It is pure: it compares desired with
// observed state, and knows neither files nor kernel.
package view

import (
	"cmp"
	"slices"
	"time"

	"stead/reconcile/plan"
	"stead/runtime/status"
)

// State is the state of a container's processes, as people see it.
type State string

const (
	Pending   State = "Pending"   // about to be started
	Running   State = "Running"   // the command runs
	Completed State = "Completed" // ended as it should, and not started again
	Failed    State = "Failed"    // ended otherwise, and not started again
	BackOff   State = "BackOff"   // will be started again after a delay
	Stopping  State = "Stopping"  // asked to end
	Stopped   State = "Stopped"   // suspended, or stopped by an admin
	Removing  State = "Removing"  // being removed
	Invalid   State = "Invalid"   // a manifest that never gave a container
)

// Sync says whether a container is as declared.
type Sync string

const (
	Synced    Sync = "synced"
	OutOfSync Sync = "pending" // an action is due and will be done
	Held      Sync = "held"    // an action waits for a confirmation or a release
	SyncError Sync = "error"   // the manifest is invalid, or could not be applied
)

// Reasons that are not those of an exit: stable codes that scripts may depend on.
const (
	ReasonInvalidManifest  = "InvalidManifest"  // the manifest has errors
	ReasonWaitingForWriter = "WaitingForWriter" // somebody has the file open for writing
	ReasonUnreadable       = "SourceUnreadable" // the manifest's directory can't be read
	ReasonSuspended        = "Suspended"        // spec.suspend
	ReasonStoppedByAdmin   = "StoppedByAdmin"   // stead stop
	ReasonRemovalHeld      = "RemovalHeld"      // the removal waits for a confirmation
	ReasonRemovalPending   = "RemovalPending"   // the manifest is gone, the settle time is not over
	ReasonOnHold           = "OnHold"           // an admin has put it, or the host, on hold
	ReasonActionFailed     = "ActionFailed"     // what was to be done failed and will be tried again
	ReasonChangedByHand    = "ChangedByHand"    // only a restart puts it right, and it may not run twice
	ReasonWaitingForImage  = "WaitingForImage"  // the image of its root is being pulled or imported, or is not here
	ReasonWaitingForVolume = "WaitingForVolume" // another container writes a volume of it
	ReasonImageFailed      = "ImageFailed"      // the image of its root could not be pulled or imported, and will be tried again
	ReasonImageRefused     = "ImageRefused"     // its image changes, and onImageChange is refuse
	ReasonSourceChanged    = "SourceChanged"    // it runs with the old content of a source, until its next start
	ReasonSourceReplaced   = "SourceReplaced"   // it runs with a mount or a root that the host has replaced since
	ReasonProcessOOMKilled = "ProcessOOMKilled" // it runs, and processes in it were killed for lack of memory
	ReasonUnapplied        = "Unapplied"        // the kernel refused a live change; the old value holds
)

// Container is a container as people and scripts see it. The JSON form only ever grows fields.
type Container struct {
	Name       string            `json:"name"`
	Group      string            `json:"group,omitempty"` // the manifest that it is a replica of
	State      State             `json:"state"`
	Sync       Sync              `json:"sync"`
	Ready      bool              `json:"ready"`
	Pid        int               `json:"pid"`
	Restarts   int               `json:"restarts"`
	ExitCode   *int              `json:"exitCode"`
	Reason     string            `json:"reason"`
	Message    string            `json:"message"`
	Why        string            `json:"why"`
	Manifest   string            `json:"manifest"`
	DropIns    []string          `json:"dropIns,omitempty"` // files that are merged over the manifest, in their order
	CreatedAt  time.Time         `json:"createdAt,omitzero"`
	StartedAt  time.Time         `json:"startedAt,omitzero"`
	FinishedAt time.Time         `json:"finishedAt,omitzero"`
	Labels     map[string]string `json:"labels,omitempty"`
	Over       bool              `json:"over,omitempty"` // a job that failed and is not run again: as declared, and maybe not as meant
}

// WriterNoted is how long a file may be open for writing before that is worth a word.
const WriterNoted = 3 * time.Second

// Containers returns how every container, and every manifest that gave none, stands, by name.
// With the zero Memory it serves a `ps` without a daemon.
func Containers(d *plan.Desired, observed []*status.Status, m plan.Memory, now time.Time) []Container {
	v := viewer{Desired: d, Memory: m, now: now, planned: map[string]plan.Action{}, waits: map[string]plan.Wait{}}
	idle := m
	idle.Busy = nil // so that the actions under way are planned too, and shown
	p := plan.Diff(d, observed, idle, now)
	for _, list := range [][]plan.Action{p.Actions, p.Held} {
		for _, a := range list {
			if a.Kind != plan.Container {
				continue
			}
			v.planned[cmp.Or(a.Old, a.Name)] = a
		}
	}
	for _, w := range p.Waits {
		if w.Kind == plan.Container {
			v.waits[w.Name] = w
		}
	}
	views := make([]Container, 0, len(observed))
	for _, st := range observed {
		views = append(views, v.container(st))
	}
	for _, a := range p.Actions {
		if a.Verb == plan.Create {
			views = append(views, v.coming(a.Name, a.Spec, a.From))
		}
	}
	for _, a := range p.Held {
		if a.Waiting == plan.Create {
			views = append(views, v.held(a))
		}
	}
	for _, w := range p.Waits {
		if w.Verb == plan.Create {
			want := d.Lookup(w.Name)
			c := v.coming(w.Name, want.Spec, want.From)
			v.awaits(&c, w)
			views = append(views, c)
		}
	}
	views = append(views, v.invalid()...)
	slices.SortStableFunc(views, func(a, b Container) int { return cmp.Compare(a.Name, b.Name) })
	return views
}
