package runtime

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// What somebody changes by hand is seen and put right.
func TestDrift(t *testing.T) {
	w := newWorld(t)
	body := script(forever) + "\nresources: {memory: 64Mi, swap: 0, cpu: 500m, pids: 50}"
	before := w.create("web", body)
	w.awaitOutput("web", "up")
	check := func() Status {
		t.Helper()
		if err := w.Check(ctx); err != nil {
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
	found := strings.Join(s.Drift, "; ")
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
