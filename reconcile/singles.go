package reconcile

import (
	"maps"
	"slices"
)

// singles are the names that one valid document claims, each with how its
// container should be. Every name has a slot and keeps it when others are made from
// these that share nearly all with them: so a pass finds again what it knows of
// thousands without looking any of them up.
type singles struct {
	lineage *int             // the same for all that share slots
	slots   map[string]int32 // by name; shared
	later   map[string]int32 // of names that came later
	list    []*Want          // by slot; nil: not declared

	shared, laterShared bool // slots, later are others' too
}

func makeSingles(n int) singles {
	return singles{lineage: new(int), slots: make(map[string]int32, n), list: make([]*Want, 0, n)}
}

// share returns singles that can be changed and leave s as they are.
func (s *singles) share() singles {
	return singles{lineage: s.lineage, slots: s.slots, later: s.later, list: slices.Clone(s.list), shared: true, laterShared: true}
}

// slot is where a name's want is, -1 if it never had one.
func (s *singles) slot(name string) int32 {
	if slot, there := s.slots[name]; there {
		return slot
	}
	if slot, there := s.later[name]; there {
		return slot
	}
	return -1
}

// single is how a container should be, nil if no single document claims its name.
func (s *singles) single(name string) *Want {
	if slot := s.slot(name); slot >= 0 {
		return s.list[slot]
	}
	return nil
}

// put says how a container should be; nil: it is not declared any more.
func (s *singles) put(name string, w *Want) {
	slot := s.slot(name)
	if slot >= 0 {
		s.list[slot] = w
		return
	}
	slot = int32(len(s.list))
	s.list = append(s.list, w)
	if !s.shared {
		s.slots[name] = slot
		return
	}
	if s.laterShared {
		s.later, s.laterShared = maps.Clone(s.later), false
	}
	if s.later == nil {
		s.later = map[string]int32{}
	}
	s.later[name] = slot
}

// crowded tells that making them anew costs less than going on.
func (s *singles) crowded() bool { return len(s.later) > 64+len(s.slots)/8 }
