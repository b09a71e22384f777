package runtime

import (
	"slices"

	"stead/runtime/drift"
	"stead/runtime/record"
	"stead/runtime/status"
	"stead/runtime/store"
)

// driftView implements drift.Containers.
type driftView struct{ *Runtime }

func (o driftView) Running() []string {
	var names []string
	for _, c := range o.running() {
		names = append(names, c.name)
	}
	return names
}

func (o driftView) Run(name string) (drift.Run, bool) {
	c, err := o.find(name)
	if err != nil {
		return drift.Run{}, false
	}
	f, rec := o.snapshot(c)
	return o.runOf(c, f, rec), rec != nil && rec.State == record.Running
}

func (r *Runtime) runOf(c *container, f *store.Facts, rec *record.Record) drift.Run {
	return drift.Run{Name: c.name, Dir: r.dir(c.name), Root: r.root(f.Manifest), Facts: f, Record: rec}
}

func (o driftView) SetDrift(r drift.Run, found status.Differences) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.byName[r.Name]
	if c == nil || c.rec != r.Record || c.facts != r.Facts || c.updating {
		return false
	}
	o.foundDrift = o.foundDrift || len(found) > 0 && !slices.Equal(found, c.drift)
	c.drift = found
	return true
}

func (o driftView) SetLost(r drift.Run, lost, missingFiles, stale status.Differences) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.byName[r.Name]
	if c == nil || c.rec != r.Record || c.starting || c.stopping {
		return false
	}
	o.foundDrift = o.foundDrift || !slices.Equal(lost, c.lost) || !slices.Equal(missingFiles, c.missingFiles) || !slices.Equal(stale, c.stale)
	c.lost, c.missingFiles, c.stale = lost, missingFiles, stale
	return true
}

// inspect looks for drift, and sends to Wake if it found something new. A difference is in
// Status.Drift until an Update repairs it, or in Status.Lost until a restart does.
func (r *Runtime) inspect(all bool) {
	r.inspector.Inspect(all)
	r.mu.Lock()
	news := r.foundDrift
	r.foundDrift = false
	r.mu.Unlock()
	if news {
		r.changed()
	}
}

// repair repairs the drift of a run, and returns the differences that it found.
func (r *Runtime) repair(c *container, f *store.Facts, rec *record.Record) (status.Differences, error) {
	r.mu.Lock()
	found, missingFiles := c.drift, c.missingFiles
	c.missingFiles = nil
	r.mu.Unlock()
	if err := drift.Repair(r.runOf(c, f, rec), r.host, r.RunDir, found, missingFiles); err != nil {
		return nil, err
	}
	r.mu.Lock()
	c.drift = nil
	r.mu.Unlock()
	return found, nil
}
