package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stead/runtime/roottest"
)

// filesV2 is a cgroup2 hierarchy of plain files, with a group web.1.
func filesV2(t *testing.T, files map[string]string) (*Group, func(name string) string) {
	t.Helper()
	roottest.Need(t)
	dir := roottest.TempDir(t, "/var/tmp") // has trusted attributes
	h := &Host{Mode: V2, Parent: "/stead", unified: dir}
	g := h.Group("web.1")
	if err := os.MkdirAll(g.unifiedFile(""), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return g, func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err.Error()
		}
		return strings.TrimSpace(string(b))
	}
}

// A memory.high that was lowered for a shrink is put back, whoever dies in between: by the next
// shrink before it lowers it again, or by recovery.
func TestLoweredHighIsRestored(t *testing.T) {
	g, file := filesV2(t, map[string]string{"stead/web.1/memory.high": "max\n"})
	high := func(want string) {
		t.Helper()
		if got := file("stead/web.1/memory.high"); !strings.HasPrefix(got, want) { // a write to a plain file leaves the rest
			t.Errorf("memory.high is %q, want %q", got, want)
		}
	}
	for _, limit := range []int64{1 << 20, 2 << 20} { // both die
		if err := g.lowerHigh(limit); err != nil {
			t.Fatal(err)
		}
	}
	high("2097152")
	for range 2 { // recovery, and again
		if err := g.RestoreHigh(); err != nil {
			t.Fatal(err)
		}
		high("max")
	}
	if err := os.WriteFile(g.unifiedFile("memory.high"), []byte("4096"), 0o644); err != nil { // by hand
		t.Fatal(err)
	}
	if err := g.RestoreHigh(); err != nil {
		t.Fatal(err)
	}
	high("4096")
}

// A controller that somebody took away from the parent group is drift of the limits that are set,
// and the next write of a limit gets it back.
func TestControllerTakenAway(t *testing.T) {
	g, file := filesV2(t, map[string]string{
		"cgroup.controllers": "memory pids", "cgroup.subtree_control": "memory pids",
		"stead/cgroup.controllers": "memory pids", "stead/cgroup.subtree_control": "pids", "stead/web.1/pids.max": "64\n",
		"stead/web.1/cgroup.procs": "",
	})
	l := NoLimits()
	l.Memory, l.Pids = 64<<20, 64
	found := g.Drift(l)
	if len(found) != 1 || found[0].Field != "memory" || !strings.Contains(found[0].Have, "controller memory") {
		t.Errorf("drift %+v", found)
	}
	_ = g.setFile("memory.max", "67108864")
	if got := file("stead/cgroup.subtree_control"); got != "+memory" { // what the kernel takes as a command
		t.Errorf("subtree_control is %q", got)
	}
	if found := g.Drift(NoLimits()); len(found) != 1 || found[0].Field != "pids" {
		t.Errorf("drift without limits %+v", found)
	}
}

// A weight for block devices that was changed by hand is drift.
func TestWeightChangedByHand(t *testing.T) {
	g, _ := filesV2(t, map[string]string{"stead/web.1/io.weight": "default 50\n8:0 70\n"})
	l := NoLimits()
	for weight, want := range map[int64]int{None: 0, 50: 0, 200: 1} {
		if l.IOWeight = weight; len(g.Drift(l)) != want {
			t.Errorf("%d: drift %+v", weight, g.Drift(l))
		}
	}
}
