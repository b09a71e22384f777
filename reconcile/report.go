package reconcile

import (
	"context"

	"stead/reconcile/view"
	"stead/spec"
)

// Status says how this host stands. In a daemon it is what the last pass read, held against
// the containers as they are now. It looks at no directory of a container: its warnings are
// those of the last Examine.
func (e *Engine) Status(ctx context.Context) (view.Report, error) {
	e.init()
	s := e.current()
	r := e.reportOf(s)
	if e.HostNotes != nil {
		r.Notes = append(e.HostNotes(ctx), r.Notes...)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, st := range s.observed {
		r.Notes = append(r.Notes, e.warned[st.Applied]...)
	}
	return r, nil
}

// Examine looks at the directories of all containers for what an admin should know.
func (e *Engine) Examine() {
	e.init()
	if e.Warnings == nil {
		return
	}
	e.examining.Lock()
	defer e.examining.Unlock()
	warned := map[*spec.Container][]string{}
	for _, st := range e.Observer.List() {
		warned[st.Applied] = e.Warnings(st.Applied)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.warned = warned
}

// examine is Examine for a manifest that was just applied.
func (e *Engine) examine(c *spec.Container) {
	if e.Warnings == nil || c == nil {
		return
	}
	list := e.Warnings(c)
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(list) > 0 {
		if e.warned == nil {
			e.warned = map[*spec.Container][]string{}
		}
		e.warned[c] = list // until the next Examine, even if it is replaced before
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
	r.Since = e.since.UTC()
	if e.last != nil {
		r.LastPass = e.last.at.UTC()
	}
	return r
}

// views returns the containers as they are now.
func (e *Engine) views() []view.Container {
	s := e.current()
	return view.Containers(s.desired, s.observed, s.memory, s.now)
}
