package reconcile

import (
	"fmt"
	"strings"
	"time"

	"stead/spec"
)

// Verb is what is done to a container.
type Verb string

const (
	Create  Verb = "create"  // directory and first start
	Start   Verb = "start"   // it should run and does not
	Update  Verb = "update"  // live fields, in place
	Restart Verb = "restart" // fields that need one, or by an admin
	Stop    Verb = "stop"    // suspended, or by an admin
	Adopt   Verb = "adopt"   // the same manifest in another place is noted; no change
	Remove  Verb = "remove"  // its manifest is gone
	Hold    Verb = "hold"    // what needs a person's word first; nothing is done
)

// Plan is what has to be done for the host to be as declared.
type Plan struct {
	Actions []Action  `json:"actions"`           // by name; one for a container, at most
	Held    []Action  `json:"held"`              // what waits for a person's word, by name
	Waits   []Wait    `json:"waits"`             // what is not due yet, by name
	Next    time.Time `json:"next,omitzero"`     // when to look again without any event; zero if never
	Writing []string  `json:"writing,omitempty"` // files that are not read yet, as somebody writes to them; by Engine.Plan
	Errors  []string  `json:"errors,omitzero"`   // what is wrong with the manifests; filled by Engine.Plan, not by Diff

	adoptions []Action // manifests that moved: nothing that a person has to know of
}

// Action is one thing to do to one container, and why.
type Action struct {
	Verb    Verb            `json:"action"`
	Name    string          `json:"name"`
	Cause   string          `json:"cause"`             // one clause
	Changes []Change        `json:"changes,omitempty"` // what differs from what is applied
	Spec    *spec.Container `json:"-"`                 // to apply; nil where nothing is
	From    Origin          `json:"from"`              // where the manifest stands

	ByPolicy bool `json:"-"` // a start that the restart policy asked for
	ByAdmin  bool `json:"-"` // asked for by name: the durable note of a stop is set or taken back
	Suspend  bool `json:"-"` // Spec is suspended: a restart applies it and starts nothing

	note    string // what whoever asked for it has to know
	held    Verb   // what is held, for Hold
	byAdmin bool   // it is held by an admin's word
	massive string // why it is held, if it is part of a mass removal that has settled
}

// Change is one field that differs, as spec tells it.
type Change struct {
	Path   string      `json:"path"`
	Before string      `json:"before"`
	After  string      `json:"after"`
	Effect spec.Effect `json:"effect"`
}

func (c Change) String() string { return spec.Change(c).String() }

// Wait is something that will be done later by itself.
type Wait struct {
	Name  string    `json:"name"`
	Verb  Verb      `json:"action"`
	Until time.Time `json:"until"`
	Why   string    `json:"why"`
}

// String prints a plan: a line for each action, then for each that is held.
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

// String prints what is done, what changes and why:
//
//	update web  spec.resources.memory 128Mi → 256Mi  (live)
func (a Action) String() string {
	var line strings.Builder
	line.WriteString(string(a.Verb) + " " + a.Name)
	if len(a.Changes) > 0 {
		line.WriteString("  " + changesText(a.Changes))
	}
	if a.Cause != "" {
		line.WriteString("  (" + a.Cause + ")")
	}
	return line.String()
}

// toldChanges is how many fields are named: one may have thousands, of its env.
const toldChanges = 50

func changesText(changes []Change) string {
	var text strings.Builder
	for i, c := range changes {
		if i == toldChanges {
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

// Empty tells that nothing is to be done and nothing held.
func (p Plan) Empty() bool { return len(p.Actions)+len(p.Held) == 0 }

// later notes that something is due at a time.
func (p *Plan) later(w Wait) {
	p.Waits = append(p.Waits, w)
	if p.Next.IsZero() || w.Until.Before(p.Next) {
		p.Next = w.Until
	}
}
