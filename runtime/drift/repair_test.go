package drift

import (
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"stead/runtime/record"
	"stead/runtime/roottest"
)

// Only processes of the run are moved, even if its pid belongs to another process by now.
func TestEachMember(t *testing.T) {
	roottest.Need(t)
	inside := exec.Command("sh", "-c", "sleep 1000 & wait")
	inside.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	outside := exec.Command("sleep", "1000")
	for _, cmd := range []*exec.Cmd{inside, outside} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
	of := func(pid int, later uint64) *record.Record {
		started, ok := record.StartTime(pid)
		if !ok {
			t.Fatalf("process %d is gone", pid)
		}
		return &record.Record{BootID: record.BootID(), Pid: pid, StartTime: started + later}
	}
	for _, row := range []struct {
		summary string
		run     *record.Record
		want    bool
	}{
		{"the run's process", of(inside.Process.Pid, 0), true},
		{"another container has its pid", of(inside.Process.Pid, 1), false},
		{"a process of the host has its pid", of(outside.Process.Pid, 1), false},
		{"a run in the host's namespace", of(outside.Process.Pid, 0), false},
		{"a run of an earlier boot", &record.Record{BootID: "earlier", Pid: inside.Process.Pid, StartTime: of(inside.Process.Pid, 0).StartTime}, false},
	} {
		var moved []int
		if err := eachMember(row.run, func(pid int) error { moved = append(moved, pid); return nil }); err != nil {
			t.Errorf("%s: %v", row.summary, err)
		}
		if (len(moved) > 0) != row.want || row.want && !slices.Contains(moved, inside.Process.Pid) || slices.Contains(moved, outside.Process.Pid) {
			t.Errorf("%s: moves %v", row.summary, moved)
		}
	}
}
