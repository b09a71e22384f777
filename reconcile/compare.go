package reconcile

import (
	"stead/runtime/status"
	"stead/spec"
)

// Compare tells what differs between two manifests, by meaning.
func Compare(old, new *spec.Container) []Change {
	var changes []Change
	for _, c := range spec.Diff(old, new) {
		changes = append(changes, Change(c))
	}
	return changes
}

// comparer remembers what Compare said about two manifests, which never change:
// at ten thousand containers, comparing them all again would be most of a pass.
type comparer struct {
	by   map[string]comparison // that differ, by name
	same []comparison          // that don't, since they were asked for
}

type comparison struct {
	old, new *spec.Container
	changes  []Change
}

func (c *comparer) compare(old, new *spec.Container) []Change {
	known := c.by[new.Metadata.Name]
	if known.old == old && known.new == new {
		return known.changes
	}
	known = comparison{old, new, Compare(old, new)}
	if len(known.changes) == 0 {
		c.same = append(c.same, known)
	} else {
		c.by[new.Metadata.Name] = known
	}
	return known.changes
}

// recognise has what means the same be the same from now on, and forgets
// containers that are gone.
func (c *comparer) recognise(rt Runtime, observed []*status.Status) {
	for _, s := range c.same {
		rt.Recognise(s.old, s.new)
	}
	c.same = nil
	if len(c.by) > 2*len(observed)+64 {
		clear(c.by)
	}
}
