package runtime

import (
	"fmt"
	"math"
	"slices"
)

// Host ids for containers, 65,536 each. The default pool is the one that systemd
// sets aside for containers (systemd.io/UIDS-GIDS), so no user of the host is in it.
const (
	defaultFirstID = 0x00080000
	defaultIDs     = 0x6fff0000 + idsEach - defaultFirstID
	idsEach        = 0x10000
)

// manyRanges is from how many ranges on a pool has them one id apart. Linux finds
// a user by (id>>7 + id) & 127 (kernel/user.c): with ranges that touch each other
// the roots of all containers are in one list, through which every start and exec
// goes; at a thousand that takes 0.1 ms. It costs the pool one range at the most.
const manyRanges = 128

// idRanges says which ranges are taken. Those of a pool that was another before
// are kept as they are, and the new one's don't overlap them.
type idRanges struct {
	first, count uint32   // of the pool
	used         []uint32 // the first id of each range, sorted
}

// newIDRanges checks a pool; 0 and 0 are the default one.
func newIDRanges(first, count uint32) (idRanges, error) {
	if first == 0 && count == 0 {
		first, count = defaultFirstID, defaultIDs
	}
	switch {
	case first < idsEach:
		return idRanges{}, fmt.Errorf("first id of containers is %d, want %d or more: those below are the host's", first, idsEach)
	case count < idsEach:
		return idRanges{}, fmt.Errorf("number of ids for containers is %d, want %d or more, which is one container's", count, idsEach)
	case uint64(first)+uint64(count) > math.MaxUint32: // the last one means "none"
		return idRanges{}, fmt.Errorf("%d ids for containers from %d on are more than there are, want %d at most", count, first, math.MaxUint32-first)
	}
	return idRanges{first: first, count: count}, nil
}

// SetIDs changes the pool of host ids that containers get from now on, as Options
// give it. What exists keeps its own.
func (r *Runtime) SetIDs(first, count uint32) error {
	pool, err := newIDRanges(first, count)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids.first, r.ids.count = pool.first, pool.count
	return nil
}

// take marks a range as used; false if it overlaps another.
func (r *idRanges) take(base uint32) bool {
	i, _ := slices.BinarySearch(r.used, base)
	if base == 0 || i > 0 && base-r.used[i-1] < idsEach || i < len(r.used) && r.used[i]-base < idsEach {
		return false
	}
	r.used = slices.Insert(r.used, i, base)
	return true
}

func (r *idRanges) release(base uint32) {
	if i, ok := slices.BinarySearch(r.used, base); ok {
		r.used = slices.Delete(r.used, i, i+1)
	}
}

// step is how far the ranges are from each other.
func (r *idRanges) step() uint64 {
	if r.count/idsEach > manyRanges {
		return idsEach + 1
	}
	return idsEach
}

// next takes the lowest free range of the pool.
func (r *idRanges) next() (uint32, error) {
	slot, step := uint64(r.first), r.step()
	for _, base := range r.used {
		if base := uint64(base); base+idsEach > slot {
			if base >= slot+idsEach {
				break // it fits below
			}
			past := base + idsEach - uint64(r.first)
			slot = uint64(r.first) + (past+step-1)/step*step
		}
	}
	if slot+idsEach > uint64(r.first)+uint64(r.count) {
		return 0, fmt.Errorf("all %d ranges of ids for user namespaces are taken", (uint64(r.count)-idsEach)/step+1)
	}
	r.take(uint32(slot))
	return uint32(slot), nil
}
