// Package status holds what is known about the containers of this host, as plain data: what
// they do, how they ended, what was applied, what is on hold. The runtime fills it, the
// reconciler decides by it, and neither needs the other to read it. It imports spec, and
// nothing of the kernel.
package status

import (
	"errors"
	"slices"
	"strings"
	"time"

	"stead/spec"
)

// ErrMissing says that there is no container of that name.
var ErrMissing = errors.New("no such container")

// State is what the processes of a container are doing, as a fact of the
// kernel; what it means for a person is reconcile's to say.
type State string

const (
	Created  State = "created"  // has a directory, was never started on this boot (or is suspended)
	Starting State = "starting" // a start is under way
	Running  State = "running"
	Stopping State = "stopping" // a stop is under way
	Exited   State = "exited"   // ended, or its start failed (Exit says which)
)

// Status is what is known about one container of this host: facts, no
// judgement. Nothing in it is ever changed; holders may keep it.
type Status struct {
	Name string
	// Applied is the manifest as it was last applied, normalised. Never nil.
	Applied *spec.Container
	// Fingerprint is that of Applied.
	Fingerprint spec.Fingerprint
	// From is where Applied was last seen.
	From Origin

	State      State
	Pid        int       // of the command, in the host's pid namespace; 0 unless Running or Stopping
	CreatedAt  time.Time // of the container's directory
	StartedAt  time.Time // of the current or last run; zero if it never ran
	FinishedAt time.Time // of the last run; zero while running or if it never ran
	Exit       *Exit     // of the last run; nil while running or if it never ran

	Restarts int // starts by the restart policy since the container was last created, changed or restarted by hand
	Failures int // runs in a row that ended sooner than backoff.max, or failed to start; 0 after a stable one

	// StoppedAt is when an admin stopped it; nil if none did. Durable.
	StoppedAt *time.Time
	// Unapplied are live changes that the kernel refused: the old values hold.
	Unapplied []Unapplied
	// Drift is what was found changed by hand since the last pass (a limit, a
	// cgroup, a mount); empty if nothing.
	Drift Differences
	// Lost is what was changed by hand and can only be put right by a restart: a
	// mount that is gone, say. Mounts can't be attached from outside so that the
	// container could not undo them.
	Lost Differences
}

// StartOptions say how a container is started.
type StartOptions struct {
	Spec     *spec.Container // is applied before the start; nil is the applied one
	From     Origin          // of Spec
	ByPolicy bool            // the restart policy asked: it counts as a restart
	ByAdmin  bool            // an admin asked: the durable note of a stop is taken back
}

// StopOptions say how a container is stopped.
type StopOptions struct {
	Spec    *spec.Container // suspended, and applied after the stop; nil is none
	From    Origin          // of Spec
	ByAdmin bool            // an admin asked: that is noted durably, and it stays stopped
}

// Exit is how a run ended.
type Exit struct {
	Code    int    `json:"code"`             // exit code, 128+N for signal N; 125–127 when the start failed, as in Podman; -1 unknown
	Signal  string `json:"signal,omitempty"` // "KILL", "SEGV", …
	Reason  string `json:"reason"`           // a stable code, see the Reason constants
	Message string `json:"message,omitempty"`
}

// Reasons of an Exit: stable codes that scripts may depend on.
const (
	ReasonCompleted          = "Completed"          // exit code 0
	ReasonError              = "Error"              // another exit code
	ReasonSignalled          = "Signalled"          // ended by a signal
	ReasonOOMKilled          = "OOMKilled"          // killed at its memory limit
	ReasonStopped            = "Stopped"            // asked to end by stead
	ReasonUnknown            = "ExitUnknown"        // ended while no keeper watched, and the kernel does not tell
	ReasonStartFailed        = "StartFailed"        // some step of the launch failed; the message names it
	ReasonCommandNotFound    = "CommandNotFound"    // the command is not in the root, or can't be executed
	ReasonRootfsMissing      = "RootfsMissing"      // the path root is not a directory
	ReasonUserNotFound       = "UserNotFound"       // user or group is not in the root's passwd or group
	ReasonDeviceNotFound     = "DeviceNotFound"     // a source of devices is no device of the host
	ReasonMountSourceMissing = "MountSourceMissing" // a bind's source is not there
	ReasonMountTarget        = "MountTargetInvalid" // a target leaves the root, or is no file or directory as its source
	ReasonIdmapUnsupported   = "IdmapUnsupported"   // the file system can't map ids; the message says what to do
)

// Unapplied is a live change that could not be had.
type Unapplied struct {
	Path    string `json:"path"` // field, as in "spec.resources.memory"
	Wanted  string `json:"wanted"`
	Have    string `json:"have"`
	Message string `json:"message"`
}

// Origin is where a manifest stands: an absolute file path and the number of
// the document in it, from 0.
type Origin struct {
	File     string `json:"file"`
	Document int    `json:"document"`
	// DropIns are the files that were merged over it, in their order. Never changed.
	DropIns []string `json:"dropIns,omitempty"`
}

// Equal tells whether two origins are the same place.
func (o Origin) Equal(other Origin) bool {
	return o.File == other.File && o.Document == other.Document && slices.Equal(o.DropIns, other.DropIns)
}

// Difference is something that was found to be other than it was set up.
type Difference struct {
	Field  string // a path of the manifest (spec.resources.memory), or what else differs: "cgroup", "mount /data"
	Wanted string // value of the field as it was set up; "" if Found alone says what differs
	Found  string // value of the field, or what has become of it: "is gone"
}

func (d Difference) String() string {
	if d.Wanted != "" {
		return d.Field + " is " + d.Found
	}
	return d.Field + " " + d.Found
}

// MarshalText has a Difference appear in JSON as its text.
func (d Difference) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Differences are what was found at one container.
type Differences []Difference

func (d Differences) String() string {
	texts := make([]string, len(d))
	for i := range d {
		texts[i] = d[i].String()
	}
	return strings.Join(texts, ", ")
}

// Sort sorts by text.
func (d Differences) Sort() {
	slices.SortFunc(d, func(a, b Difference) int { return strings.Compare(a.String(), b.String()) })
}
