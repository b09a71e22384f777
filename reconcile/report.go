package reconcile

import (
	"context"

	"stead/reconcile/view"
)

// Status says how this host stands. In a daemon it is what the last pass read, held against
// the containers as they are now.
func (e *Engine) Status(ctx context.Context) (view.Report, error) {
	e.init()
	s := e.current()
	r := e.reportOf(s)
	if e.HostNotes != nil {
		r.Notes = append(e.HostNotes(ctx), r.Notes...)
	}
	if e.Warnings != nil {
		for _, st := range s.observed {
			r.Notes = append(r.Notes, e.Warnings(st.Applied)...)
		}
	}
	return r, nil
}

// Summary is Status without what can only be said after a look at each container's
// directories.
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
