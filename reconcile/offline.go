package reconcile

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"stead/reconcile/desired"
	"stead/reconcile/plan"
	"stead/reconcile/source"
	"stead/runtime/status"
)

// Offline returns the plan of a host on which all that old declares runs, and which then
// reads new: what a change of manifests would do there. The directories of one stand for
// those of the other in their order, old's last ones for new's last. What is wrong with old
// is returned as notes: what it keeps from being declared counts as not there. uncompared are the
// contents that only that host can tell.
func Offline(old, new *source.Reading) (p plan.Plan, notes, uncompared []string) {
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
	for i := range p.Actions {
		if a := &p.Actions[i]; choosesDigest(a) {
			a.Cause += "; digest chosen on the host"
		}
	}
	return p, before.ErrorLines(), uncomparedOf(after, observed)
}

// choosesDigest reports whether an action takes an image into use that the manifest names without a
// digest.
func choosesDigest(a *plan.Action) bool {
	if a.Spec == nil || a.Spec.Spec.Rootfs.Image == "" || strings.Contains(a.Spec.Spec.Rootfs.Image, "@") {
		return false
	}
	return a.Verb == plan.Create || slices.ContainsFunc(a.Changes, func(c plan.Change) bool { return c.Path == "spec.rootfs.image" })
}

// uncomparedOf names the sources of containers that are on the host: what they hold is not compared.
func uncomparedOf(want *plan.Desired, observed []*status.Status) (all []string) {
	for _, st := range observed {
		w := want.Lookup(st.Name)
		if w == nil {
			continue
		}
		for _, s := range w.Sources {
			all = append(all, st.Name+"  "+s.Field+" (not compared)")
		}
	}
	return all
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
