package desired

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"stead/reconcile/plan"
	"stead/runtime/status"
	"stead/spec"
)

// loseTo notes that all claims of a name but one are lost.
func (c *combiner) loseTo(winner claim, name string, claims []claim) {
	for _, other := range claims {
		if other != winner {
			c.lost[other] = contestError(other, name, winner, "is taken by %s: one name, one manifest; rename or delete one")
		}
	}
}

// groupIncumbent finds the claim of a contested name whose replicas are here.
func groupIncumbent(name string, claims []claim, observed []*status.Status) (claim, bool) {
	for _, st := range observed {
		if st.Applied.Group() != name {
			continue
		}
		for _, c := range claims {
			if c.doc.Replicas != nil && c.file.Path == st.From.File && c.doc.Index == st.From.Document {
				return c, true
			}
		}
	}
	return claim{}, false
}

// withholdReplicas takes out the replicas that don't exist yet, where their manifest claims a
// name of another one: it is created as a whole or not at all.
func (c *combiner) withholdReplicas(observed []*status.Status) {
	cloned := false
	for lost := range c.lost {
		for _, one := range lost.doc.Replicas {
			name := one.Metadata.Name
			if c.claims[name] != lost || plan.Find(observed, name) != nil {
				continue
			}
			if !cloned {
				c.out.Declared, cloned = maps.Clone(c.out.Declared), true
			}
			delete(c.out.Declared, name)
		}
	}
}

// replicaDropIns returns an error for each drop-in that is for a single replica. All replicas
// of a manifest are alike.
func (d *Declared) replicaDropIns() (errs []*spec.Error) {
	for _, f := range d.Reading.Fragments {
		w := d.wants[f.Of]
		if w == nil || w.Spec.Replica == nil {
			continue
		}
		errs = append(errs, &spec.Error{File: f.Path, Message: fmt.Sprintf(
			"%s is a replica, and the replicas of a manifest are alike: a drop-in for all of them lies in %s.container.d/; for one of its own, write a manifest under another name", f.Of, w.Spec.Replica.Of)})
	}
	slices.SortFunc(errs, func(a, b *spec.Error) int { return cmp.Compare(a.File, b.File) })
	return errs
}
