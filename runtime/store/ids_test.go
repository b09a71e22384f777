package store

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestIDRanges(t *testing.T) {
	const k = idsEach
	for _, tt := range []struct {
		summary      string
		first, count uint32
		taken        []uint32
		want         string // what the next three are
	}{
		{"the default pool", 0, 0, nil, "524288 589825 655362"},
		{"the default pool, after one that was taken before they were an id apart", 0, 0, []uint32{524288, 589824}, "655362 720899 786436"},
		{"a pool of one's own", 100_000, 3 * k, nil, "100000 165536 231072"},
		{"a gap", 100_000, 9 * k, []uint32{100_000, 100_000 + 2*k}, "165536 296608 362144"},
		{"one that is too small by then", 100_000, 2*k + 100, nil, "100000 165536 all 2 ranges of ids for user namespaces are taken"},
		{"of a pool before, off its steps", 2 * k, 9 * k, []uint32{2*k + 1}, "262144 327680 393216"},
		{"two of a pool before, with a gap that is too small", 2 * k, 9 * k, []uint32{2*k + 100, 4*k - 100}, "327680 393216 458752"},
		{"of a pool before, elsewhere", 10 * k, 9 * k, []uint32{k, 9*k + 1, 100 * k}, "720896 786432 851968"},
		{"the last ids that there are", 0xffff0000 - k, 2*k - 1, nil, "4294836224 all 1 ranges of ids for user namespaces are taken all 1 ranges of ids for user namespaces are taken"},
	} {
		r, err := NewIDRanges(tt.first, tt.count)
		if err != nil {
			t.Error(tt.summary, err)
		}
		for _, base := range tt.taken {
			if !r.Take(base) {
				t.Errorf("%s: %d can't be taken", tt.summary, base)
			}
		}
		var got []string
		for range 3 {
			base, err := r.Next()
			if err != nil {
				got = append(got, err.Error())
				continue
			}
			got = append(got, fmt.Sprint(base))
		}
		if joined := strings.Join(got, " "); joined != tt.want {
			t.Errorf("%s: got %s, want %s", tt.summary, joined, tt.want)
		}
	}
	for _, tt := range []struct {
		first, count uint32
		want         string
	}{
		{1000, k, "first id of containers is 1000, want 65536 or more"},
		{0, k, "first id of containers is 0, want 65536 or more"},
		{k, 0, "number of ids for containers is 0, want 65536 or more"},
		{0xffff0000, k, "are more than there are, want 65535 at most"},
	} {
		if _, err := NewIDRanges(tt.first, tt.count); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%d %d: %v, want %q", tt.first, tt.count, err, tt.want)
		}
	}
}

// The kernel keeps users in 128 lists: the roots of many containers are in all of
// them alike.
func TestIDRangesSpread(t *testing.T) {
	r, err := NewIDRanges(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	const each = 20
	var lists [128]int
	for range each * len(lists) {
		id, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		lists[(id>>7+id)%128]++
	}
	for i, n := range lists {
		if n > 2*each {
			t.Errorf("%d users are in list %d, want %d or so", n, i, each)
		}
	}
}

// Whatever is taken and given back, in whatever pools, no two ranges overlap.
func TestIDRangesNeverOverlap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	r := &IDRanges{}
	live := map[uint32]bool{}
	for i := range 5000 {
		if i%100 == 0 { // another pool, as after a change of the configuration
			used := r.used
			r, _ = NewIDRanges(idsEach+random.Uint32N(40*idsEach), idsEach+random.Uint32N(400*idsEach))
			r.used = used
		}
		if random.IntN(3) == 0 {
			for base := range live {
				r.Release(base)
				delete(live, base)
				break
			}
			continue
		}
		base, err := r.Next()
		if err != nil {
			continue
		}
		if base < r.first || uint64(base)+idsEach > uint64(r.first)+uint64(r.count) {
			t.Fatalf("%d is not in the pool %d+%d", base, r.first, r.count)
		}
		for other := range live {
			if base < other+idsEach && other < base+idsEach {
				t.Fatalf("%d overlaps %d", base, other)
			}
		}
		live[base] = true
	}
	if len(live) == 0 || len(live) != len(r.used) {
		t.Errorf("%d ranges live, %d are used", len(live), len(r.used))
	}
}
