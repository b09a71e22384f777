package cgroup

import (
	"encoding/binary"
	"os/exec"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// What others write to cgroups is known afterwards, and what we write is not held
// against anybody.
func TestWatch(t *testing.T) {
	h := newHost(t)
	web, other := h.Group("web.1"), h.Group("other.1")
	for _, g := range []*Group{web, other} {
		if _, err := g.Create(NoLimits()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { g.Remove() }) // after the process in it is gone
	}
	w, err := h.Watch()
	if err != nil {
		t.Skip("this kernel does not tell of writes to cgroups (Linux 6.6): ", err)
	}
	defer w.Close()
	limit := web.unifiedFile("pids.max")
	if h.Mode != V2 {
		limit = web.v1File("pids", "pids.max")
	}
	parent := h.parentGroup().Dirs()[0]
	process := sleeper(t, web)
	pid, home := strconv.Itoa(process), map[int]string{process: "web.1"}
	w.Changes(home)
	above := "cpu.weight" // no harm is done
	if h.Mode != V2 {
		above, parent = "cpu.shares", h.v1["cpu"]+h.Parent
	}
	for _, tt := range []struct {
		summary string
		script  string
		want    Changes
	}{
		{"nothing", "true", Changes{}},
		{"a limit", "echo 9 >" + limit, Changes{Groups: map[string]bool{"web.1": true}}},
		{"nothing since", "true", Changes{}},
		{"a limit, many times", "for i in 1 2 3 4 5; do echo $i >" + limit + "; done", Changes{Groups: map[string]bool{"web.1": true}}},
		{"a read", "cat " + limit, Changes{}},
		{"a process moves that is nobody's", "echo $$ >" + other.Dirs()[0] + "/cgroup.procs", Changes{}},
		{"a process moves", "echo " + pid + " >" + other.Dirs()[0] + "/cgroup.procs", Changes{Groups: map[string]bool{"web.1": true}}},
		{"the parent's own", "echo 100 >" + parent + "/" + above, Changes{All: true}},
	} {
		if out, err := exec.Command("sh", "-c", tt.script).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v %s", tt.summary, err, out)
		}
		got := w.Changes(home)
		if got.All != tt.want.All || got.Moved != tt.want.Moved || len(got.Groups) != len(tt.want.Groups) || len(got.Groups) > 0 && !got.Groups["web.1"] {
			t.Errorf("%s: %+v, want %+v", tt.summary, got, tt.want)
		}
	}
	old, l := NoLimits(), NoLimits()
	l.Pids = 7
	if refused := web.Update(old, l); len(refused) > 0 {
		t.Fatal(refused)
	}
	if got := w.Changes(home); len(got.Groups) > 0 {
		t.Errorf("our own: %+v", got)
	}
	// More than the kernel keeps is any change.
	event := make([]byte, eventSize)
	binary.NativeEndian.PutUint32(event, eventSize)
	binary.NativeEndian.PutUint64(event[8:], unix.FAN_Q_OVERFLOW)
	var n eventNotes
	if n.add(event); !n.All {
		t.Error("an overflow is nothing")
	}
}
