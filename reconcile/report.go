package reconcile

import (
	"context"
	"time"

	"stead/reconcile/view"
	"stead/spec"
)

// Status says how this host stands. In a daemon it is what the last pass read, held against
// the containers as they are now. It looks at no directory of a container: what is exposed is
// that of the last Examine.
func (e *Engine) Status(ctx context.Context) (view.Report, error) {
	e.init()
	s := e.current()
	r := e.reportOf(s)
	if e.HostNotes != nil {
		r.Notes = append(e.HostNotes(ctx), r.Notes...)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	exposed := map[string][]string{}
	for _, st := range s.observed {
		if dirs := e.exposed[st.Applied]; len(dirs) > 0 {
			exposed[st.Name] = dirs
		}
	}
	r.Notes = append(r.Notes, view.ExposedNotes(exposed)...)
	return r, nil
}

// Examine looks at the directories of all containers for what an admin should know.
func (e *Engine) Examine() {
	e.init()
	if e.Exposed == nil {
		return
	}
	e.examining.Lock()
	defer e.examining.Unlock()
	exposed := map[*spec.Container][]string{}
	for _, st := range e.Observer.List() {
		exposed[st.Applied] = e.Exposed(st.Applied)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.exposed = exposed
}

// examine is Examine for a manifest that was just applied.
func (e *Engine) examine(c *spec.Container) {
	if e.Exposed == nil || c == nil {
		return
	}
	list := e.Exposed(c)
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(list) > 0 {
		if e.exposed == nil {
			e.exposed = map[*spec.Container][]string{}
		}
		e.exposed[c] = list // until the next Examine, even if it is replaced before
	}
}

// Summary is Status without the notes.
func (e *Engine) Summary() view.Report {
	e.init()
	return e.reportOf(e.current())
}

func (e *Engine) reportOf(s state) view.Report {
	r := view.NewReport(s.desired, s.observed, s.memory, s.now, s.reading.Unwatched)
	r.Faults = e.Observer.Faults()
	e.mu.Lock()
	defer e.mu.Unlock()
	r.Since = e.since.UTC().Truncate(time.Second)
	if e.last != nil {
		r.LastPass = e.last.at.UTC().Truncate(time.Millisecond)
	}
	return r
}

// views returns the containers as they are now.
func (e *Engine) views() []view.Container {
	s := e.current()
	return view.Containers(s.desired, s.observed, s.memory, s.now)
}
