package reconcile

import (
	"cmp"
	"slices"
	"time"

	"stead/reconcile/desired"
	"stead/reconcile/plan"
	"stead/reconcile/source"
	"stead/runtime/status"
)

// Offline returns the plan of a host on which all that old declares runs, and which then
// reads new: what a change of manifests would do there. The directories of one stand for
// those of the other in their order, old's last ones for new's last. What is wrong with old
// is returned as notes: what it keeps from being declared counts as not there.
func Offline(old, new *source.Reading) (p plan.Plan, notes []string) {
	declared := desired.Declare(old)
	before := declared.Combine(nil)
	var observed []*status.Status
	before.Missing(nil, func(name string, w *plan.Want) {
		st := &status.Status{Name: name, Applied: w.Spec, Fingerprint: w.Fingerprint, From: moved(w.From, declared.Claims(name), new), State: status.Running}
		if w.Spec.Spec.Suspend {
			st.State = status.Created
		}
		observed = append(observed, st)
	})
	slices.SortFunc(observed, func(a, b *status.Status) int { return cmp.Compare(a.Name, b.Name) })
	after := desired.Declare(new).Combine(observed)
	p = plan.Diff(after, observed, plan.Memory{Prompt: true}, time.Now())
	p.Errors = after.ErrorLines()
	return p, before.ErrorLines()
}

// moved returns where a manifest of an old directory would stand in a new one.
func moved(from status.Origin, f *source.File, new *source.Reading) status.Origin {
	i := f.Dir
	if i >= len(new.Dirs) {
		i = len(new.Dirs) - 1
	}
	from.DropIns = nil // read or not, they are merged
	from.File = new.Dirs[i].Path + "/" + f.Rel
	return from
}
