package runtime

import (
	"errors"
	"math/bits"
)

// Host ids for containers, 65,536 each. The range is the one that systemd sets
// aside for containers (systemd.io/UIDS-GIDS), so no user of the host is in it.
const (
	firstID = 0x00080000
	lastID  = 0x6fff0000
	idsEach = 0x10000
	ranges  = (lastID-firstID)/idsEach + 1
)

// idRanges says which ranges are taken.
type idRanges struct{ used [(ranges + 63) / 64]uint64 }

func index(base uint32) (int, bool) {
	i := (int(base) - firstID) / idsEach
	return i, base >= firstID && i < ranges && (base-firstID)%idsEach == 0
}

// take marks a range as used; false if it is none of ours or is used already.
func (r *idRanges) take(base uint32) bool {
	i, ok := index(base)
	if !ok || r.used[i/64]>>(i%64)&1 == 1 {
		return false
	}
	r.used[i/64] |= 1 << (i % 64)
	return true
}

func (r *idRanges) release(base uint32) {
	if i, ok := index(base); ok {
		r.used[i/64] &^= 1 << (i % 64)
	}
}

// next takes the lowest free range.
func (r *idRanges) next() (uint32, error) {
	for w, word := range r.used {
		if i := w*64 + bits.TrailingZeros64(^word); word != ^uint64(0) && i < ranges {
			r.used[w] |= 1 << (i % 64)
			return firstID + uint32(i)*idsEach, nil
		}
	}
	return 0, errors.New("all ranges of ids for user namespaces are taken")
}
