package main

import (
	"strings"
	"syscall"
	"testing"
)

// A verb with another state or run directory than the daemon's says so: half of its answers
// would be about another instance.
func TestOtherDirectories(t *testing.T) {
	h := newHost(t)
	h.startDaemon()
	refused := func(when string, verbs ...string) {
		t.Helper()
		for _, flag := range []string{"--state-dir", "--run-dir"} {
			for _, line := range verbs {
				want := exitUsage
				if strings.HasPrefix(line, "exec") {
					want = exitExec
				}
				args := strings.Fields(line)
				c := h.stead(append([]string{args[0], flag, h.dir + "/other"}, args[1:]...)...)
				if c.code != want || !strings.Contains(c.err, "use "+flag+" ") {
					t.Errorf("%s: %s with another %s: %+v", when, line, flag, c)
				}
			}
		}
	}
	refused("nothing runs but the daemon", "ps", "status", "plan", "apply")
	h.write("a.yaml", manifest("a", ""))
	h.until("a", "running", running)
	all := []string{"ps", "status", "plan", "apply", "logs a", "exec a true", "inspect a", "stop a", "hold a", "wait a"}
	refused("with a daemon", all...)
	h.endDaemon(syscall.SIGTERM)
	refused("without a daemon", all...)
	h.ok("ps", "--state-dir", h.dir+"/../"+h.dir[strings.LastIndex(h.dir, "/")+1:]+"/state") // the same by another name
}
