package reconcile

import (
	"cmp"
	"slices"
	"time"

	"stead/reconcile/source"
	"stead/runtime/status"
)

// Offline is the plan of a host on which all that old declares runs, and which
// then reads new: what a change of manifests would do there. The directories of
// one stand for those of the other in their order, old's last ones for new's last.
// What is wrong with old is returned as notes: what it keeps from being declared
// counts as not there.
func Offline(old, new *source.Reading) (p Plan, notes []string) {
	before := Declare(old).Combine(nil)
	var observed []*status.Status
	before.coming(func(name string, w *Want) {
		st := &status.Status{Name: name, Applied: w.Spec, From: moved(w.From, w.claim.file, new), State: status.Running}
		if w.Spec.Spec.Suspend {
			st.State = status.Created
		}
		observed = append(observed, st)
	})
	slices.SortFunc(observed, func(a, b *status.Status) int { return cmp.Compare(a.Name, b.Name) })
	after := Declare(new).Combine(observed)
	p = Diff(after, observed, Memory{Prompt: true}, time.Now())
	p.Errors = after.errorLines()
	return p, before.errorLines()
}

// moved is where a manifest of an old directory would stand in a new one.
func moved(from Origin, f *source.File, new *source.Reading) Origin {
	i := f.Dir
	if i >= len(new.Dirs) {
		i = len(new.Dirs) - 1
	}
	from.DropIns = nil // read or not, they are merged
	from.File = new.Dirs[i].Path + "/" + f.Rel
	return from
}
