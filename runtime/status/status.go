// Package status describes the containers of this host as plain data: their states, how they
// ended, which manifest was applied, what is on hold. The runtime fills it in, the reconciler
// decides by it, and neither imports the other for it. It imports spec, and no kernel package.
package status

import (
	"errors"
	"slices"
	"strings"
	"time"

	"stead/spec"
)

// ErrMissing is the error for a name that no container has.
var ErrMissing = errors.New("no such container")

// State is the state of a container's processes in the kernel. Package view derives from
// it the state that people see.
type State string

const (
	Created  State = "created"  // has a directory and was not started on this boot (or is suspended)
	Starting State = "starting" // a start is under way
	Running  State = "running"
	Stopping State = "stopping" // a stop is under way
	Exited   State = "exited"   // ended, or its start failed (Exit says which)
)

// Status describes one container of this host. It has facts and no decisions. A Status is
// never changed after it was made, so callers may keep it.
type Status struct {
	Name string
	// Applied is the manifest as it was last applied, normalised. Never nil.
	Applied *spec.Container
	// Fingerprint is the fingerprint of Applied.
	Fingerprint spec.Fingerprint
	// From is the last known origin of Applied.
	From Origin

	State      State
	Pid        int       // of the command, in the host's pid namespace; 0 unless Running or Stopping
	CreatedAt  time.Time // of the container's directory
	StartedAt  time.Time // of the current or last run; zero if it never ran
	FinishedAt time.Time // of the last run; zero while running or if it never ran
	Exit       *Exit     // of the last run; nil while running or if it never ran

	Restarts int // starts by the restart policy since the container was last created, changed or restarted by hand
	Failures int // runs in a row that ended sooner than backoff.max, or failed to start; 0 after a stable one

	// Files is what was written for its files in this run, by path inside; nil if it has none
	// or does not run. Never changed.
	Files map[string]FileState

	// OOMKills is how many processes of the current run the kernel killed for lack of memory
	// while the command went on; as of the last check.
	OOMKills int64

	// StoppedAt is when an admin stopped it; nil if none did. Durable.
	StoppedAt *time.Time
	// Image is the image of its root, and which one that is; nil if there is none, or it has
	// not been started yet.
	Image *ImageUse
	// Unapplied are live changes that the kernel refused; the old values are in effect.
	Unapplied []Unapplied
	// Drift lists changes made by hand that an update repairs (a limit, a cgroup).
	Drift Differences
	// Lost lists changes made by hand that only a restart repairs, such as a mount that is
	// gone: a mount attached from outside could be undone by the container.
	Lost Differences
	// Stale lists sources of mounts, and a root, that the host has replaced or deleted since the
	// start: the container has the earlier ones until it is restarted, which nobody does for it.
	Stale Differences
}

// FileState is what is known of the content of a file in a running container.
type FileState struct {
	Sum string // as of the same content of a source
	Dir bool
}

// StartOptions are the options of a start.
type StartOptions struct {
	Spec     *spec.Container // applied before the start; nil keeps the applied one
	From     Origin          // of Spec
	ByPolicy bool            // the restart policy asked: it counts as a restart
	ByAdmin  bool            // an admin asked: this clears StoppedAt
}

// StopOptions are the options of a stop.
type StopOptions struct {
	Spec    *spec.Container // suspended manifest that is applied after the stop; nil is none
	From    Origin          // of Spec
	ByAdmin bool            // an admin asked: this sets StoppedAt, and the container stays stopped
	// AtMost is the longest wait before it is killed; 0 is its own stop timeout.
	AtMost time.Duration
}

// Exit describes how a run ended.
type Exit struct {
	Code    int    `json:"code"`             // exit code, 128+N for signal N; 125–127 when the start failed, as in Podman; -1 unknown
	Signal  string `json:"signal,omitempty"` // "KILL", "SEGV", …
	Reason  string `json:"reason"`           // a stable code, see the Reason constants
	Message string `json:"message,omitempty"`
}

// Reasons of an Exit: stable codes that scripts may depend on.
const (
	ReasonCompleted          = "Completed"            // exit code 0
	ReasonError              = "Error"                // another exit code
	ReasonSignalled          = "Signalled"            // ended by a signal
	ReasonOOMKilled          = "OOMKilled"            // killed at its memory limit
	ReasonStopped            = "Stopped"              // asked to end by stead
	ReasonUnknown            = "ExitUnknown"          // ended while no keeper watched, and the kernel does not tell
	ReasonStartFailed        = "StartFailed"          // some step of the launch failed; the message names it
	ReasonCommandNotFound    = "CommandNotFound"      // the command is not in the root, or can't be executed
	ReasonRootfsMissing      = "RootfsMissing"        // the path root is not a directory
	ReasonImageMissing       = "ImageMissing"         // the image of the root is not in the store
	ReasonUserNotFound       = "UserNotFound"         // user or group is not in the root's passwd or group
	ReasonDeviceNotFound     = "DeviceNotFound"       // a source of devices is no device of the host
	ReasonMountSourceMissing = "MountSourceMissing"   // a bind's source is not there
	ReasonFileSystemHangs    = "FileSystemHangs"      // the file system of the root or of a source does not answer; the message says where
	ReasonMountTarget        = "MountTargetInvalid"   // a target leaves the root, or is no file or directory as its source
	ReasonFileSource         = "FileSourceUnreadable" // a source of files can't be read; the message says why
	ReasonVolumeInUse        = "VolumeInUse"          // another container writes the volume
	ReasonIdmapUnsupported   = "IdmapUnsupported"     // the file system can't map ids; the message says what to do
)

// Fault is something wrong with stead itself on this host, or with what it needs.
type Fault struct {
	Subject string    `json:"subject"` // "keeper"
	Reason  string    `json:"reason"`  // a stable code
	Message string    `json:"message"` // what happened, why, and what to do
	Since   time.Time `json:"since,omitzero"`
}

// Reasons of a Fault.
const (
	ReasonDiskFull     = "DiskFull"      // the disk of the state directory is full
	ReasonKeeperSilent = "KeeperSilent"  // the keeper lives and does not answer
	ReasonLogLoses     = "LogLosesLines" // the disk of a container's log is full or does not answer
)

// Unapplied is a live change that the kernel refused.
type Unapplied struct {
	Path    string `json:"path"` // field, as in "spec.resources.memory"
	Wanted  string `json:"wanted"`
	Have    string `json:"have"`
	Message string `json:"message"`
}

// Origin is the place of a manifest: an absolute file path and the number of the document
// in it, from 0.
type Origin struct {
	File     string `json:"file"`
	Document int    `json:"document"`
	// DropIns are the files that were merged over it, in their order. Never changed.
	DropIns []string `json:"dropIns,omitempty"`
}

// Equal reports whether two origins are the same place.
func (o Origin) Equal(other Origin) bool {
	return o.File == other.File && o.Document == other.Document && slices.Equal(o.DropIns, other.DropIns)
}

// Difference is a difference between a container as it was set up and as it was found.
type Difference struct {
	Field  string // a path of the manifest (spec.resources.memory), or what else differs: "cgroup", "mount /data"
	Wanted string // value of the field as it was set up; "" if Found alone says what differs
	Found  string // value of the field, or its condition: "is gone"
}

func (d Difference) String() string {
	if d.Wanted != "" {
		return d.Field + " is " + d.Found
	}
	return d.Field + " " + d.Found
}

// MarshalText returns the text of a Difference for JSON.
func (d Difference) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Differences are the differences found in one container.
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
