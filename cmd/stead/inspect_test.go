package main

import (
	"encoding/json"
	"strings"
	"testing"

	"stead/reconcile/view"
)

// What a container uses is in inspect while it runs; one that was killed for
// lack of memory names its limit everywhere.
func TestInspectUsage(t *testing.T) {
	h := newHost(t)
	h.write("a.yaml", manifest("a", "  resources: {memory: 64Mi}\n"))
	h.write("greedy.yaml", strings.Replace(manifest("greedy", "  resources: {memory: 16Mi, swap: 0}\n  restart: {policy: never}\n"),
		"command: [sh, -c, '", "command: [tail, /dev/zero] # ['", 1))
	h.startDaemon()
	h.until("a", "running", running)
	failed := h.until("greedy", "failed", func(v view.Container) bool { return v.State == view.Failed })
	if want := "killed at its memory limit of 16Mi"; failed.Reason != "OOMKilled" || !strings.Contains(failed.Message, want) {
		t.Errorf("ps tells %q, %q; want %q", failed.Reason, failed.Message, want)
	}
	var view struct {
		Usage *struct {
			Memory, MemoryPeak, Pids, OOMKills int64
			CPU                                float64
			Pressure                           map[string]struct {
				Some *struct{ Avg10, Total float64 }
			}
		}
	}
	out := h.ok("inspect", "a")
	if err := json.Unmarshal([]byte(out), &view); err != nil {
		t.Fatal(err)
	}
	u := view.Usage
	if u == nil || u.Memory <= 0 || u.Memory > 64<<20 || u.MemoryPeak < u.Memory || u.Pids < 1 || u.OOMKills != 0 || u.CPU <= 0 || u.CPU > 60 {
		t.Errorf("usage of a: %+v\n%s", u, out)
	}
	if out = h.ok("inspect", "greedy"); strings.Contains(out, `"usage"`) || !strings.Contains(out, "killed at its memory limit of 16Mi") {
		t.Errorf("inspect of one that has ended:\n%s", out)
	}
}
