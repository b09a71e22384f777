// Package plan decides what has to be done for this host to be as its manifests declare.
//
// Diff compares what is desired with what is observed and returns a Plan; Next says what is
// remembered until the next one. Both are pure: no I/O, no clock, no logging, and none of
// their arguments is changed. The same functions serve the daemon, `stead plan` and the
// tests. The package knows the manifest language (spec) and what is known about containers
// (runtime/status); it must not know where either comes from.
package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"stead/runtime/status"
	"stead/spec"
)

// Verb names an action.
type Verb string

const (
	Create  Verb = "create"  // directory and first start
	Start   Verb = "start"   // it should run and does not
	Update  Verb = "update"  // live fields, in place
	Restart Verb = "restart" // fields that need one, or by an admin
	Stop    Verb = "stop"    // suspended, or by an admin
	Rename  Verb = "rename"  // the manifest has replicas now, or no more: its first container gets another name
	Reload  Verb = "reload"  // it reads its configuration again; by an admin
	Restore Verb = "restore" // the data of a backup takes the place of its own; by an admin
	Adopt   Verb = "adopt"   // the same manifest stands in another place; no change
	Remove  Verb = "remove"  // its manifest is gone
	Pull    Verb = "pull"    // an image is missing, and a registry has it
	Import  Verb = "import"  // an image is missing, and a file or directory of this host has it
	Hold    Verb = "hold"    // needs a person's word first; nothing is done
)

// Kind is the kind of a Subject.
type Kind string

// The kinds; networks and volumes follow.
const (
	Container Kind = "container"
	Image     Kind = "image"
)

// Subject is the thing that an action changes: `container web`, `image debian-12`.
type Subject struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
}

// ContainerNamed returns the subject of a container.
func ContainerNamed(name string) Subject { return Subject{Container, name} }

// ImageNamed returns the subject of an image.
func ImageNamed(name string) Subject { return Subject{Image, name} }

// String returns the name, with its kind unless it is a container.
func (s Subject) String() string {
	if s.Kind == Container {
		return s.Name
	}
	return string(s.Kind) + " " + s.Name
}

// Plan lists what has to be done for the host to be as declared. Its actions don't depend on
// each other: an action that can't be done yet is a Wait, and the next pass decides again.
type Plan struct {
	Actions []Action  `json:"actions"`           // to be done now, by name; at most one for a subject
	Held    []Action  `json:"held"`              // held until an admin confirms or releases them, by name
	Waits   []Wait    `json:"waits"`             // not due yet, by name
	Differs []Differs `json:"differs,omitempty"` // not as declared, and no action that is due changes that; by name
	Next    time.Time `json:"next,omitzero"`     // when the next pass is due without any event; zero if never
	Writing []string  `json:"writing,omitempty"` // files that are not read yet: another process has them open for writing
	Errors  []string  `json:"errors,omitzero"`   // errors of the manifests, a line each

	Adoptions []Action `json:"-"` // manifests that moved; not shown to people
	Found     Found    `json:"-"`
}

// Found is what Diff hands to Next.
type Found struct {
	Absent    map[string]time.Time // containers without a manifest, with the time since when
	Confirmed map[string]bool      // those of them whose removal is confirmed
	MassHeld  map[string]string    // removals held as part of a mass removal, with the reason
	NoEffect  map[Subject]Failure  // actions that succeeded without effect, and are not repeated yet
	Recorded  map[Subject]bool     // failed starts that the runtime has on record: the restart policy decides about them
	Unneeded  []string             // confirmed names for which there is no removal
}

// Action is one thing to do to one subject, and why.
type Action struct {
	Verb Verb `json:"action"`
	Subject
	Old     string          `json:"old,omitempty"`     // of a rename: the name until now
	Data    string          `json:"-"`                 // of a restore: the directory that has the data
	Cause   string          `json:"cause"`             // one clause
	Changes []Change        `json:"changes,omitempty"` // fields that differ from the applied manifest
	Spec    *spec.Container `json:"-"`                 // to be applied; nil if nothing is
	Image   *spec.Image     `json:"-"`                 // that declares the image; nil if only containers name it
	From    status.Origin   `json:"from"`              // where the manifest stands

	ByPolicy bool   `json:"-"` // a start that the restart policy asked for
	ByAdmin  bool   `json:"-"` // asked for by name: the durable note of a stop is set or taken back
	Note     string `json:"-"` // for the admin who asked for the action

	content string // of the sources that changed, as sums

	Waiting Verb `json:"-"` // of a held action: the verb that is held
	OnHold  bool `json:"-"` // of a held action: an admin has put it on hold
}

// Change is one field that differs, as spec.Diff reports it.
type Change struct {
	Path   string      `json:"path"`
	Before string      `json:"before"`
	After  string      `json:"after"`
	Effect spec.Effect `json:"effect"`
}

func (c Change) String() string { return spec.Change(c).String() }

// Changes returns what differs between two manifests, by meaning.
func Changes(old, new *spec.Container) []Change {
	var changes []Change
	for _, c := range spec.Diff(old, new) {
		changes = append(changes, Change(c))
	}
	return changes
}

// Differs is a container that is not as declared, and why.
type Differs struct {
	Subject
	Why string `json:"why"`
}

func (p *Plan) differs(s Subject, why string) { p.Differs = append(p.Differs, Differs{s, why}) }

// Wait is an action that will be done later.
type Wait struct {
	Subject
	Verb  Verb      `json:"action"`
	Until time.Time `json:"until,omitzero"` // zero if nobody knows
	Why   string    `json:"why"`
	Image string    `json:"image,omitempty"` // for which a container waits

	Volume string `json:"volume,omitempty"` // for which a container waits
}

// String prints a plan: a line for each action, then one for each that is held.
func (p Plan) String() string {
	var b strings.Builder
	for _, list := range [][]Action{p.Actions, p.Held} {
		for _, a := range list {
			b.WriteString(a.String())
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// String prints the verb, the changes and the cause:
//
//	update web  spec.resources.memory 128Mi → 256Mi  (live)
func (a Action) String() string {
	var line strings.Builder
	line.WriteString(string(a.Verb) + " ")
	if a.Old != "" {
		line.WriteString(a.Old + " to ")
	}
	line.WriteString(a.Subject.String())
	if len(a.Changes) > 0 {
		line.WriteString("  " + ChangesText(a.Changes))
	}
	if a.Cause != "" {
		line.WriteString("  (" + a.Cause + ")")
	}
	return line.String()
}

// MaxChanges is how many changed fields are named: a manifest may have thousands, in its env.
const MaxChanges = 50

// ChangesText prints changes in one line.
func ChangesText(changes []Change) string {
	var text strings.Builder
	for i, c := range changes {
		if i == MaxChanges {
			fmt.Fprintf(&text, ", and %d more", len(changes)-i)
			break
		}
		if i > 0 {
			text.WriteString(", ")
		}
		text.WriteString(c.String())
	}
	return text.String()
}

// Empty reports whether nothing is to be done and nothing held.
func (p Plan) Empty() bool { return len(p.Actions)+len(p.Held) == 0 }

// AddUnderWay adds an action that has begun and not ended: until it has ended, the host is not
// as declared. The note of a manifest that moved is left out, as in Actions.
func (p *Plan) AddUnderWay(a Action) {
	if a.Verb == Adopt {
		return
	}
	a.Cause = strings.TrimPrefix(a.Cause+"; under way", "; ")
	at, _ := slices.BinarySearchFunc(p.Actions, a, byName)
	p.Actions = slices.Insert(p.Actions, at, a)
}

func byName(a, b Action) int { return cmp.Compare(a.Name, b.Name) }

// wait adds something that is due at a time.
func (p *Plan) wait(w Wait) {
	p.Waits = append(p.Waits, w)
	if w.Until.IsZero() {
		return
	}
	if p.Next.IsZero() || w.Until.Before(p.Next) {
		p.Next = w.Until
	}
}
