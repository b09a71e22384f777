package runtime

import (
	"context"
	"fmt"
	"slices"

	"stead/runtime/cgroup"
	"stead/runtime/fault"
	"stead/runtime/record"
	"stead/runtime/specconv"
	"stead/runtime/status"
	"stead/runtime/store"
	"stead/spec"
)

// Update applies m where only live fields differ. A field that the kernel refuses keeps
// its old value, and the status lists it.
func (r *Runtime) Update(ctx context.Context, m *spec.Container, from status.Origin) error {
	c, err := r.find(m.Metadata.Name)
	if err != nil {
		return err
	}
	defer r.mark(&c.updating)()
	f, rec := r.snapshot(c)
	var refused []status.Unapplied
	if rec != nil && rec.State == record.Running {
		have := specconv.Limits(f.Manifest)
		found, err := r.repair(c, f, rec)
		if err != nil {
			return fmt.Errorf("update %s: %w", c.name, err)
		}
		for _, d := range found {
			specconv.Forget(&have, d.Field)
		}
		refused = r.updateLive(ctx, rec, have, f.Manifest, m, f.Unapplied)
		next := *f
		next.Manifest = m
		if err := r.updateFiles(ctx, c, rec, r.filled(&next)); err != nil {
			return fmt.Errorf("update %s: %w", c.name, err)
		}
	}
	fault.Point("update-limits-set")
	return r.save(c, func(f *store.Facts) { f.Manifest, f.From, f.Unapplied = m, from, refused })
}

// updateLive changes limits from what the kernel has to what m says. Where an earlier
// change was refused the kernel has an older value than old says.
func (r *Runtime) updateLive(ctx context.Context, rec *record.Record, have cgroup.Limits, old, m *spec.Container, pending []status.Unapplied) []status.Unapplied {
	want := specconv.Limits(m)
	for _, u := range pending {
		specconv.Forget(&have, u.Path)
	}
	var refused []status.Unapplied
	for _, x := range r.host.Group(rec.ID()).Update(have, want) {
		path := "spec.resources." + x.Field
		refused = append(refused, unapplied(path, x.Message, old, m, pending))
	}
	if old.Spec.Logs.MaxSize != m.Spec.Logs.MaxSize || specconv.LogKeep(old) != specconv.LogKeep(m) {
		if err := r.keeper.LimitLog(ctx, rec.ID(), int64(m.Spec.Logs.MaxSize), specconv.LogKeep(m)); err != nil {
			refused = append(refused, status.Unapplied{Path: "spec.logs", Message: err.Error()})
		}
	}
	return refused
}

// unapplied describes a refused change. The container still has the value of an earlier
// refusal, or that of old.
func unapplied(path, message string, old, m *spec.Container, pending []status.Unapplied) status.Unapplied {
	u := status.Unapplied{Path: path, Message: message}
	for _, d := range spec.Diff(old, m) {
		if d.Path == path {
			u.Have, u.Wanted = d.Before, d.After
		}
	}
	if i := slices.IndexFunc(pending, func(p status.Unapplied) bool { return p.Path == path }); i >= 0 {
		u.Have = pending[i].Have
		if u.Wanted == "" {
			u.Wanted = pending[i].Wanted
		}
	}
	return u
}
