package main

import (
	"os"
	"strings"
	"testing"
)

// On a terminal an apply shows what it is doing while it does it, a line for
// each container, and leaves the lines of what was done.
func TestApplyShowsItsProgress(t *testing.T) {
	h := newHost(t)
	h.startDaemon()
	stubborn := strings.Replace(manifest("stubborn", "  stop: {timeout: 2s}\n"), `trap "exit 0" TERM`, `trap "" TERM`, 1)
	h.write("stubborn.yaml", stubborn)
	h.untilLogged("stubborn", "I am stubborn") // deaf from here on
	os.Remove(h.manifests + "/stubborn.yaml")
	p := newAdmin(t, 24, 30)
	p.runs(h.command("apply", "--confirm-removal=stubborn"))
	p.sees("    0s  remove stubborn  (ma…\r\n") // what would wrap is cut
	p.sees("\x1b[1A\r\x1b[J    ")               // and redrawn in place
	p.ends(0)
	last := "\x1b[Jremove stubborn  (manifest gone from " + h.manifests + ", confirmed)\r\n"
	p.sees(last) // what it wrote may come after its end
	if got := p.screen(); !strings.HasSuffix(got, last) {
		t.Errorf("left on the screen: %q, want %q at the end", got, last)
	}
}

func TestLinesFitTheTerminal(t *testing.T) {
	for _, test := range []struct {
		width int
		want  string
	}{{10, "0123456"}, {7, "01234…"}, {2, "…"}, {1, "…"}} {
		if got := fit("0123456", test.width); got != test.want {
			t.Errorf("%d columns: %q, want %q", test.width, got, test.want)
		}
	}
}
