package reconcile

import (
	"context"
	"maps"
	"slices"
	"time"

	"stead/runtime"
	"stead/runtime/status"
	"stead/spec"
)

// Report is how this host stands: the daemon's own facts, and every container.
type Report struct {
	Since      time.Time       `json:"since,omitzero"`    // the daemon runs; zero without one
	LastPass   time.Time       `json:"lastPass,omitzero"` // it looked at everything
	Host       string          `json:"host"`              // this host's name, for hosts:
	Sources    []SourceView    `json:"sources"`
	Watching   string          `json:"watching,omitempty"` // why changes are noticed by the resync tick only
	Hold       *status.Hold    `json:"hold,omitempty"`     // of the whole host
	Held       []HeldView      `json:"held,omitempty"`
	Broken     []BrokenView    `json:"broken,omitempty"`
	Notes      []string        `json:"notes,omitempty"`   // on the manifests: no fault, and hardly meant
	Differs    []DiffersView   `json:"differs,omitempty"` // what is not as declared, and why
	Busy       map[string]Verb `json:"busy,omitempty"`
	Containers []ContainerView `json:"containers"`
}

// SourceView is a manifest directory. One of several that is just not there, and
// from which no container came, is healthy and missing.
type SourceView struct {
	Path    string `json:"path"`
	Healthy bool   `json:"healthy"`
	Missing bool   `json:"missing,omitempty"`
	Error   string `json:"error,omitempty"`
	Files   int    `json:"files"`
}

// HeldView is what waits for a person's word.
type HeldView struct {
	Name   string `json:"name"`
	Why    string `json:"why"`
	Reason string `json:"reason"` // RemovalHeld or OnHold
}

// BrokenView is a file with errors.
type BrokenView struct {
	File   string   `json:"file"`
	Errors []string `json:"errors"`
}

// DiffersView is a container that is not as declared.
type DiffersView struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	Sync  Sync   `json:"sync"`
	Why   string `json:"why"`
}

// Status says how this host stands. In a daemon it is what the last pass read,
// held against the containers as they are now.
func (e *Engine) Status(context.Context) (Report, error) {
	r, observed := e.standing()
	for i := range observed {
		r.Notes = append(r.Notes, runtime.Exposed(observed[i].Applied)...)
	}
	return r, nil
}

// Summary is Status without what can only be said after a look at each container's
// directories.
func (e *Engine) Summary() Report {
	r, _ := e.standing()
	return r
}

func (e *Engine) standing() (Report, []*status.Status) {
	e.init()
	desired, observed, m, now := e.current()
	r := Report{Busy: m.Busy, Hold: m.Holds.Of(""), Sources: []SourceView{}, Containers: Views(desired, observed, m, now)}
	e.mu.Lock()
	r.Since = e.since.UTC()
	if e.last != nil {
		r.LastPass = e.last.at.UTC()
	}
	e.mu.Unlock()
	r.Host = desired.Reading.Host
	for i, dir := range desired.Reading.Dirs {
		view := SourceView{Path: dir.Path, Healthy: !desired.missed[i], Missing: dir.Missing()}
		if desired.missed[i] {
			view.Error = dir.Err.Error()
		}
		for _, f := range desired.Reading.Files {
			if f.Dir == i {
				view.Files++
			}
		}
		r.Sources = append(r.Sources, view)
	}
	r.Notes = slices.Clone(desired.notes)
	if err := desired.Reading.Unwatched; err != nil {
		r.Watching = err.Error()
	}
	for _, f := range desired.Broken() {
		view := BrokenView{File: f.File}
		for _, err := range f.Errs {
			view.Errors = append(view.Errors, err.Error())
		}
		r.Broken = append(r.Broken, view)
	}
	for i := range r.Containers {
		v := &r.Containers[i]
		if v.Sync == Held {
			r.Held = append(r.Held, HeldView{Name: v.Name, Why: v.Why, Reason: v.Reason})
		}
		if v.notAsDeclared() || v.Sync != Synced {
			r.Differs = append(r.Differs, DiffersView{Name: v.Name, State: v.State, Sync: v.Sync, Why: v.Why})
		}
	}
	return r, observed
}

// views are the containers as they are now.
func (e *Engine) views() []ContainerView {
	desired, observed, m, now := e.current()
	return Views(desired, observed, m, now)
}

// current is what the last pass read, held against the containers as they are
// now; without a pass it reads.
func (e *Engine) current() (*Desired, []*status.Status, Memory, time.Time) {
	e.mu.Lock()
	passed := e.last != nil
	e.mu.Unlock()
	if !passed {
		return e.look(false)
	}
	jobs := e.exec.jobs()
	observed := e.Runtime.List()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.declared.Combine(observed), observed, e.lent(false, jobs), time.Now()
}

// look reads and observes, and changes nothing but the memory of files.
func (e *Engine) look(prompt bool) (*Desired, []*status.Status, Memory, time.Time) {
	e.pass.Lock()
	defer e.pass.Unlock()
	return e.lookLocked(prompt)
}

func (e *Engine) lookLocked(prompt bool) (*Desired, []*status.Status, Memory, time.Time) {
	jobs := e.exec.jobs()
	reading := e.Source.Read()
	observed := e.Runtime.List()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.declare(reading)
	return e.declared.Combine(observed), observed, e.lent(prompt, jobs), time.Now()
}

// lent is the memory for use without the lock.
func (e *Engine) lent(prompt bool, jobs map[string]*job) Memory {
	m := e.input(prompt, jobs)
	m.Absent, m.Confirmed = maps.Clone(m.Absent), maps.Clone(m.Confirmed)
	m.Massive, m.Failures = maps.Clone(m.Massive), maps.Clone(m.Failures)
	compare := m.Compare
	m.Compare = func(old, new *spec.Container) []Change {
		e.mu.Lock()
		defer e.mu.Unlock()
		return compare(old, new)
	}
	return m
}
