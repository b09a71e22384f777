package runtime

import (
	"fmt"
	"time"

	"stead/runtime/record"
	"stead/runtime/store"
)

// previousRun returns the last run that began before a start: the run of the last record,
// an earlier one, or the run that the facts have from before a boot.
func previousRun(f *store.Facts, last *record.Record) *record.Run {
	switch {
	case last != nil && !last.StartedAt.IsZero():
		return &record.Run{StartedAt: last.StartedAt, FinishedAt: last.FinishedAt}
	case last != nil:
		return last.Previous // the start failed before there was a process
	case f.LastRun.Began():
		return &record.Run{StartedAt: f.LastRun.StartedAt, FinishedAt: f.LastRun.FinishedAt}
	}
	return nil
}

// PreviousRun returns when the run before a container's current or last run was. Output
// from `from` up to, but not at, `until` is of that run.
func (r *Runtime) PreviousRun(name string) (from, until time.Time, err error) {
	c, err := r.find(name)
	if err != nil {
		return from, until, err
	}
	_, rec := r.snapshot(c)
	if rec == nil || rec.Previous == nil {
		return from, until, fmt.Errorf("container %s: no run before its last one is known", name)
	}
	if p := rec.Previous; !p.FinishedAt.IsZero() {
		// The rest in its pipes is written with exactly the time of its end.
		return p.StartedAt, p.FinishedAt.Add(time.Nanosecond), nil
	}
	until = rec.StartedAt
	if until.IsZero() {
		until = rec.CreatedAt
	}
	return rec.Previous.StartedAt, until, nil
}
