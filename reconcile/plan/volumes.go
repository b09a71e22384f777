package plan

import (
	"slices"

	"stead/runtime/status"
	"stead/spec"
)

// Writers of a volume, by volume.
type volumeWriters map[string][]volumeWriter

type volumeWriter struct {
	name   string // of the container
	shared bool
}

// add notes the volumes that a container writes.
func (v volumeWriters) add(name string, c *spec.Container) {
	for _, m := range c.Spec.Mounts {
		if m.Volume != "" && !m.ReadOnly {
			v[m.Volume] = append(v[m.Volume], volumeWriter{name, m.Shared})
		}
	}
}

// taken returns a volume that a container can't have, and why; "" if it can have all.
func (v volumeWriters) taken(name string, c *spec.Container) (volume, why string) {
	for _, m := range c.Spec.Mounts {
		if m.Volume == "" || m.ReadOnly {
			continue
		}
		for _, w := range v[m.Volume] {
			if said := spec.VolumeTaken(m.Volume, w.name); w.name != name && !(w.shared && m.Shared) && (why == "" || said < why) {
				volume, why = m.Volume, said
			}
		}
	}
	return volume, why
}

// volumes has the starts of the plan wait that need a volume which another container writes.
// Who has it keeps it: what runs, then what is there and should run, then the first name. The
// actions of the plan are sorted.
func (p *planner) volumes() {
	begins := func(a Action) bool { return a.Spec == nil || !a.Spec.Spec.Suspend }
	writers := volumeWriters{}
	for _, st := range p.observed {
		if isLive(st) {
			writers.add(st.Name, st.Applied)
		}
	}
	for _, st := range p.observed {
		if _, why := writers.taken(st.Name, st.Applied); why == "" && !isLive(st) && p.returns(st) {
			writers.add(st.Name, st.Applied)
		}
	}
	for subject, verb := range p.Busy {
		if w := p.Lookup(subject.Name); w != nil && startVerb(verb) {
			writers.add(subject.Name, w.Spec)
		}
	}
	p.plan.Actions = slices.DeleteFunc(p.plan.Actions, func(a Action) bool {
		spec := a.Spec
		if st := Find(p.observed, a.Name); spec == nil && st != nil {
			spec = st.Applied
		}
		if !startVerb(a.Verb) || !begins(a) || spec == nil {
			return false
		}
		volume, why := writers.taken(a.Name, spec)
		if why == "" {
			writers.add(a.Name, spec)
			return false
		}
		p.plan.wait(Wait{Subject: a.Subject, Verb: a.Verb, Why: why, Volume: volume})
		p.plan.differs(a.Subject, why)
		return true
	})
}

// returns reports whether a container that ended is to be started again.
func (p *planner) returns(st *status.Status) bool {
	s := st.Applied.Spec
	return st.State == status.Exited && !s.Suspend && st.StoppedAt == nil && s.Restart.Policy == "always" && p.Lookup(st.Name) != nil
}

// isLive reports whether a container has processes.
func isLive(st *status.Status) bool {
	return st.State == status.Running || st.State == status.Starting || st.State == status.Stopping
}

func startVerb(v Verb) bool { return v == Create || v == Start || v == Restart || v == Rename }
