package store

import (
	"fmt"
	"math"
	"slices"
	"sync"
)

// Host ids for containers, 65,536 each. The default pool is the one that systemd
// sets aside for containers (systemd.io/UIDS-GIDS), so no user of the host is in it.
const (
	defaultFirstID = 0x00080000
	defaultIDs     = 0x6fff0000 + idsEach - defaultFirstID
	idsEach        = 0x10000
)

// manyRanges is the size, in ranges, above which a pool leaves one id free between them. Linux finds
// a user by (id>>7 + id) & 127 (kernel/user.c): with ranges that touch each other
// the roots of all containers are in one list, through which every start and exec
// goes; at a thousand that takes 0.1 ms. It costs the pool one range at the most.
const manyRanges = 128

// IDRanges assigns each container its range of ids. Ranges of an earlier pool stay
// assigned, and those of the new pool don't overlap them.
type IDRanges struct {
	mu           sync.Mutex // guards what follows
	first, count uint32     // of the pool
	used         []uint32   // the first id of each range, sorted
}

// NewIDRanges returns the ranges of a pool; 0 and 0 are the default pool.
func NewIDRanges(first, count uint32) (*IDRanges, error) {
	r := &IDRanges{}
	return r, r.SetPool(first, count)
}

// SetPool changes the pool that ranges are taken from. Ranges that are in use stay in use.
func (r *IDRanges) SetPool(first, count uint32) error {
	if first == 0 && count == 0 {
		first, count = defaultFirstID, defaultIDs
	}
	switch {
	case first < idsEach:
		return fmt.Errorf("first id of containers is %d, want %d or more: those below are the host's", first, idsEach)
	case count < idsEach:
		return fmt.Errorf("number of ids for containers is %d, want %d or more, which is one container's", count, idsEach)
	case uint64(first)+uint64(count) > math.MaxUint32: // the last one means "none"
		return fmt.Errorf("%d ids for containers from %d on are more than there are, want %d at most", count, first, math.MaxUint32-first)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.first, r.count = first, count
	return nil
}

// Take marks a range as used, and reports whether it overlaps no other.
func (r *IDRanges) Take(base uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.insert(base)
}

func (r *IDRanges) insert(base uint32) bool {
	i, _ := slices.BinarySearch(r.used, base)
	if base == 0 || i > 0 && base-r.used[i-1] < idsEach || i < len(r.used) && r.used[i]-base < idsEach {
		return false
	}
	r.used = slices.Insert(r.used, i, base)
	return true
}

// Release makes a range free again.
func (r *IDRanges) Release(base uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i, ok := slices.BinarySearch(r.used, base); ok {
		r.used = slices.Delete(r.used, i, i+1)
	}
}

// step returns the distance from one range to the next.
func (r *IDRanges) step() uint64 {
	if r.count/idsEach > manyRanges {
		return idsEach + 1
	}
	return idsEach
}

// Next takes the lowest free range of the pool.
func (r *IDRanges) Next() (uint32, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
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
	r.insert(uint32(slot))
	return uint32(slot), nil
}
