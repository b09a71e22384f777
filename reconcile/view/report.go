package view

import (
	"cmp"
	"slices"
	"time"

	"stead/reconcile/plan"
	"stead/runtime/status"
)

// Report is how this host stands: the daemon's own facts, and every container.
type Report struct {
	Since      time.Time            `json:"since,omitzero"`    // the daemon runs; zero without one
	LastPass   time.Time            `json:"lastPass,omitzero"` // it looked at everything
	Host       string               `json:"host"`              // this host's name, for hosts:
	Sources    []Source             `json:"sources"`
	Watching   string               `json:"watching,omitempty"` // why changes are noticed by the resync tick only
	Faults     []status.Fault       `json:"faults,omitempty"`   // of stead itself on this host
	Hold       *status.Hold         `json:"hold,omitempty"`     // of the whole host
	Held       []HeldAction         `json:"held,omitempty"`
	Broken     []BrokenFile         `json:"broken,omitempty"`
	Notes      []string             `json:"notes,omitempty"`   // on this host, and on manifests: no fault, and hardly meant
	Differs    []Difference         `json:"differs,omitempty"` // what is not as declared, and why
	Failed     []Difference         `json:"failed,omitempty"`  // jobs that failed and are not run again: as declared
	Images     []Image              `json:"images,omitempty"`  // declared images that are not here as declared
	Busy       map[string]plan.Verb `json:"busy,omitempty"`
	Containers []Container          `json:"containers"`
}

// Source is a manifest directory. One of several that is just not there, and from which no
// container came, is healthy and missing.
type Source struct {
	Path    string `json:"path"`
	Healthy bool   `json:"healthy"`
	Missing bool   `json:"missing,omitempty"`
	Error   string `json:"error,omitempty"`
	Files   int    `json:"files"`
}

// HeldAction is what waits for a person's word.
type HeldAction struct {
	Name   string `json:"name"`
	Why    string `json:"why"`
	Reason string `json:"reason"` // RemovalHeld, OnHold or ImageRefused
}

// BrokenFile is a file with errors.
type BrokenFile struct {
	File   string   `json:"file"`
	Errors []string `json:"errors"`
}

// Difference is a container that is not as declared.
type Difference struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	Sync  Sync   `json:"sync"`
	Why   string `json:"why"`
}

// NewReport returns how this host stands. unwatched is why changes of the manifests are not
// noticed at once, nil if they are.
func NewReport(d *plan.Desired, observed []*status.Status, m plan.Memory, now time.Time, unwatched error) Report {
	r := Report{Host: d.Host, Hold: m.Holds.Of(""), Sources: []Source{}, Notes: slices.Clone(d.Notes), Containers: Containers(d, observed, m, now), Images: newImages(d, m, now)}
	for s, verb := range m.Busy {
		if r.Busy == nil {
			r.Busy = map[string]plan.Verb{}
		}
		r.Busy[s.String()] = verb
	}
	for _, dir := range d.Dirs {
		source := Source{Path: dir.Path, Healthy: !dir.Matters, Missing: dir.Missing, Files: dir.Files}
		if dir.Matters {
			source.Error = dir.Err.Error()
		}
		r.Sources = append(r.Sources, source)
	}
	if unwatched != nil {
		r.Watching = unwatched.Error()
	}
	for _, f := range d.Broken {
		broken := BrokenFile{File: f.File}
		for _, err := range f.Errs {
			broken.Errors = append(broken.Errors, err.Error())
		}
		r.Broken = append(r.Broken, broken)
	}
	for i := range r.Containers {
		c := &r.Containers[i]
		if c.Reason == ReasonProcessOOMKilled || c.Reason == ReasonSourceReplaced || c.Reason == ReasonSourceChanged {
			r.Notes = append(r.Notes, c.Name+": "+c.Why)
		}
		if c.Sync == Held {
			r.Held = append(r.Held, HeldAction{Name: c.Name, Why: c.Why, Reason: c.Reason})
		}
		if c.NeedsAttention() || c.Sync != Synced {
			r.Differs = append(r.Differs, Difference{Name: c.Name, State: c.State, Sync: c.Sync, Why: c.Why})
		} else if c.Over {
			r.Failed = append(r.Failed, Difference{Name: c.Name, State: c.State, Sync: c.Sync, Why: c.Why})
		}
	}
	return r
}

// Image is a declared image that is missing, or that was made for another source or digest.
type Image struct {
	Name     string `json:"name"`
	Sync     Sync   `json:"sync"`
	Why      string `json:"why"`
	Manifest string `json:"manifest"`
}

// newImages returns the declared images that are not here as declared, by name.
func newImages(d *plan.Desired, m plan.Memory, now time.Time) (list []Image) {
	if m.Stored == nil {
		return nil
	}
	v := viewer{Desired: d, Memory: m, now: now}
	for name, w := range d.Images {
		if plan.IsStored(m.Stored, w) {
			continue
		}
		i := Image{Name: name, Sync: OutOfSync, Why: plan.ImageProgress(m, name, w.Verb()), Manifest: plan.ManifestName(w.From)}
		if f, failed := m.Failures[plan.ImageNamed(name)]; failed {
			i.Sync, i.Why = SyncError, v.failure(f)
		}
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b Image) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// NeedsAttention reports whether a person should look at the container.
func (c *Container) NeedsAttention() bool {
	return c.State == BackOff || c.State == Failed && !c.Over || c.State == Invalid || c.Sync == SyncError || c.Sync == Held ||
		c.Reason == ReasonWaitingForWriter
}
