package plan

import (
	"fmt"

	"stead/runtime/status"
	"stead/spec"
)

// findRenames finds the containers that take over another name: when a manifest gets replicas,
// web becomes web-0, and when it has none any more, web-0 becomes web.
func (p *planner) findRenames(observed []*status.Status) {
	add := func(old, new string) {
		if p.Declared[new] == nil || p.Lookup(old) != nil || Find(observed, new) != nil {
			return
		}
		if p.renames == nil {
			p.renames, p.renamed = map[string]string{}, map[string]bool{}
		}
		p.renames[old], p.renamed[new] = new, true
	}
	for name := range p.Groups {
		if Find(observed, name) != nil {
			add(name, spec.ReplicaName(name, 0))
		}
	}
	for _, st := range observed {
		if r := st.Applied.Replica; r != nil && r.Index == 0 {
			add(st.Name, r.Of)
		}
	}
}

// rename plans for a container that takes over another name.
func (p *planner) rename(st *status.Status, to string) {
	w := p.Declared[to]
	a := Action{Verb: Rename, Subject: ContainerNamed(to), Old: st.Name, Changes: Changes(st.Applied, w.Spec), Spec: w.Spec, From: w.From}
	a.Cause = "replicas in " + shortName(w.From)
	if w.Spec.Replica == nil {
		a.Cause = "no replicas in " + shortName(w.From)
	}
	if st.State == status.Running {
		a.Cause += ", needs a restart"
	}
	switch h := p.Holds.OfContainer(st.Applied); {
	case h != nil:
		p.hold(a, st.Applied, h)
	case st.State != status.Starting && st.State != status.Stopping: // else it will report
		p.do(a)
	}
}

// isLowered reports whether a container is a replica that its manifest, which is here and
// valid, has no more. That was said explicitly, unlike the absence of a manifest.
func (p *planner) isLowered(st *status.Status) bool {
	name := st.Applied.Group()
	if name == "" {
		return false
	}
	_, err := p.DirOf(st.From.File)
	_, group := p.Groups[name]
	return err == nil && (group || p.Declared[name] != nil)
}

// loweredCause says why a replica is removed.
func (p *planner) loweredCause(st *status.Status) string {
	name := st.Applied.Group()
	if g, replicated := p.Groups[name]; replicated {
		return fmt.Sprintf("replicas lowered to %d in %s", g.Replicas, shortName(g.From))
	}
	return "no replicas in " + shortName(p.Declared[name].From)
}
