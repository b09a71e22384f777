package launch

import (
	"slices"
	"strings"
	"testing"
)

// What a child must not have is found wherever Go puts it and whatever it is
// called; static data, without which the child can do nothing, is not among it.
func TestOwn(t *testing.T) {
	const binary = `00400000-004ab000 r-xp 00000000 fe:00 9986066    /memfd:stead-keeper (deleted)
0058e000-00599000 rw-p 0018e000 fe:00 9986066    /memfd:stead-keeper (deleted)
00599000-005cf000 rw-p 00000000 00:00 0 
`
	for _, tt := range []struct {
		summary, maps string
		want          []span
	}{
		{"heap and a stack", "c000000000-c000400000 rw-p 00000000 00:00 0 \n7f17e4da0000-7f17e4f00000 rw-p 00000000 00:00 0 \n",
			[]span{{0xc000000000, 0xc000400000}, {0x7f17e4da0000, 0x7f17e4f00000}}},
		{"with names", "c000000000-c000400000 rw-p 00000000 00:00 0                    [anon: Go: heap]\n",
			[]span{{0xc000000000, 0xc000400000}}},
		{"at a low random address", "1b62400000-1b62800000 rw-p 00000000 00:00 0 \n", []span{{0x1b62400000, 0x1b62800000}}},
		{"what is the kernel's, shared or not to be written", `c000400000-c000800000 ---p 00000000 00:00 0 
7f17e4da0000-7f17e4f00000 rw-s 00000000 00:01 77    /memfd:x (deleted)
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0     [stack]
`, nil},
	} {
		if got := slices.Collect(heapMappings(strings.NewReader(binary + tt.maps))); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %x, want %x", tt.summary, got, tt.want)
		}
	}
}
