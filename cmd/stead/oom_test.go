package main

import (
	"strings"
	"testing"

	"stead/reconcile/view"
)

// A process that is killed at the memory limit while the command goes on is shown by ps, status
// and events.
func TestOOMKillOfAChild(t *testing.T) {
	h := newHost(t)
	h.write("web.yaml", strings.Replace(manifest("web", "  resources: {memory: 32Mi, swap: 0}\n"), "echo", "tail /dev/zero; echo", 1))
	h.startDaemon()
	h.untilLogged("web", "I am web")
	h.ok("reload") // a look at the kernel, which the daemon has once a minute
	const clause = "1 process was killed for lack of memory since its start, its limit is 32Mi"
	v := h.until("web", "shown", func(v view.Container) bool { return v.Reason == view.ReasonProcessOOMKilled })
	if v.Why != clause || v.State != view.Running || v.Sync != view.Synced {
		t.Errorf("ps: %+v", v)
	}
	if c := h.stead("status"); c.code != 0 || !strings.Contains(c.out, "web: "+clause) {
		t.Errorf("status: %+v", c)
	}
	for told := false; !told; {
		told = strings.Contains(h.ok("events", "web"), clause)
		if t.Context().Err() != nil {
			t.Fatal(h.ok("events", "web"))
		}
	}
	h.ok("restart", "web")
	h.untilLogged("web", "I am web\nKilled\nI am web")
	h.ok("reload")
	for twice := false; !twice; {
		twice = strings.Count(h.ok("events", "web"), clause) == 2
	}
}
