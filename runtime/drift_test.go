package runtime

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"stead/runtime/status"
)

// What somebody changes by hand is seen and put right.
func TestDrift(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	body := script(forever) + "\nresources: {memory: 64Mi, swap: 0, cpu: 500m, pids: 50}"
	before := w.create("web", body)
	w.awaitOutput("web", "up")
	check := func() status.Status {
		t.Helper()
		if err := w.Check(ctx, true); err != nil {
			t.Fatal(err)
		}
		s, _ := w.Get("web")
		return s
	}
	if s := check(); len(s.Drift) > 0 {
		t.Fatalf("nothing was changed: %v", s.Drift)
	}
	group := w.host.Group("web." + w.byName["web"].rec.Nonce)
	dirs := group.Dirs()
	for _, d := range dirs { // whichever of the files this host has
		os.WriteFile(d+"/pids.max", []byte("9"), 0)
		os.WriteFile(d+"/cpu.cfs_quota_us", []byte("10000"), 0)
		os.WriteFile(d+"/cpu.max", []byte("10000"), 0)
		parent := d[:strings.LastIndexByte(d, '/')]
		if w.host.Mode != "v2" { // there a group with children takes no process
			os.WriteFile(parent+"/cgroup.procs", []byte(strconv.Itoa(before.Pid)), 0)
		}
	}
	s := check()
	found := s.Drift.String()
	for _, want := range []string{"spec.resources.pids is 9", "spec.resources.cpu is 10000"} {
		if !strings.Contains(found, want) {
			t.Errorf("drift %q lacks %q", found, want)
		}
	}
	if w.host.Mode != "v2" && !strings.Contains(found, "cgroup left") {
		t.Errorf("drift %q lacks the cgroup", found)
	}
	if err := w.Update(ctx, parse(t, "web", body), origin); err != nil {
		t.Fatal(err)
	}
	if s := check(); len(s.Drift) > 0 || s.Pid != before.Pid {
		t.Errorf("after: %v, pid %d", s.Drift, s.Pid)
	}
	if !group.Holds(before.Pid) {
		t.Error("the process is not back in its cgroup")
	}
}

// What somebody writes to a cgroup, and which mounts are there, is known of all
// containers at each look, not only of those whose turn it is.
func TestToldDrift(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Close()
	w.o.Watch = true
	w.open()
	if !w.inspector.IsWatching() {
		t.Skip("this kernel does not tell (Linux 6.11)")
	}
	w.inspector.Turn = 0
	body := script(forever) + "\nresources: {pids: 50}\nmounts: {/data: {tmpfs: {}}}"
	before := w.create("web", body)
	w.awaitOutput("web", "up")
	group := w.host.Group("web." + w.byName["web"].rec.Nonce)
	w.must(w.Check(ctx, true))
	sh := func(script string) func() {
		return func() {
			t.Helper()
			if out, err := exec.Command("sh", "-ec", "for d in "+strings.Join(group.Dirs(), " ")+"; do "+script+"; done").CombinedOutput(); err != nil {
				t.Errorf("%v %s", err, out)
			}
		}
	}
	changes := []struct {
		do   func()
		want string // of Drift and Lost
	}{
		{sh("true"), ""},
		{sh("[ ! -e $d/pids.max ] || echo 9 >$d/pids.max"), "spec.resources.pids is 9"},
		{sh("[ ! -e $d/cgroup.freeze ] || echo 1 >$d/cgroup.freeze"), "cgroup frozen"},
		{sh("echo " + strconv.Itoa(before.Pid) + " >$d/../cgroup.procs"), "cgroup left"},
		{func() { w.must(os.Remove(w.dir("web") + "/upper/data")) }, "mount /data is gone"},
	}
	for _, change := range changes {
		if change.want == "cgroup left" && w.v2() || change.want == "cgroup frozen" && w.host.Mode == "v1" {
			continue // there a group with children takes no process; none can be frozen
		}
		change.do()
		w.must(w.Check(ctx, false))
		s, _ := w.Get("web")
		if found := append(s.Drift, s.Lost...).String(); found != change.want {
			t.Errorf("found %q, want %q", found, change.want)
		}
		w.must(w.Update(ctx, parse(t, "web", body), origin))
		w.must(w.Check(ctx, false))
		if s, _ := w.Get("web"); len(s.Drift) > 0 {
			t.Errorf("after the update: %v", s.Drift)
		}
	}
}
