package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"stead/reconcile/view"
	"stead/runtime/keeper"
	"stead/runtime/roottest"
)

// faultReported is how long it may take until status reports a keeper that does not answer.
const faultReported = 10 * time.Second

// awaitFaults waits until status reports faults, or none, and returns how long that took.
func (h *testHost) awaitFaults(want bool) time.Duration {
	h.t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		var r view.Report
		if err := json.Unmarshal([]byte(h.stead("status", "-o", "json").out), &r); err != nil {
			h.t.Fatal(err)
		}
		if len(r.Faults) > 0 == want {
			return time.Since(began)
		}
		if time.Since(began) > roottest.Patience {
			h.t.Fatalf("status reports %v after %s\n%s", r.Faults, time.Since(began), h.log.String())
		}
	}
}

// A keeper that lives and does not answer is reported, with what to do; verbs that need no
// keeper go on; a daemon and doctor that start meanwhile don't hang; and afterwards everything
// goes on where it was.
func TestSilentKeeper(t *testing.T) {
	h := newHost(t)
	h.write("web.yaml", manifest("web", ""))
	h.startDaemon()
	h.ok("apply")
	before := h.until("web", "running", running)
	pid, _, err := keeper.Client{Run: h.run}.Ping(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stop := func(signal syscall.Signal) {
		if err := syscall.Kill(pid, signal); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { stop(syscall.SIGCONT) })
	stop(syscall.SIGSTOP)
	if took := h.awaitFaults(true); took > faultReported {
		t.Errorf("status reported the fault after %s", took)
	} else {
		t.Logf("status reported the fault after %s", took)
	}
	c := h.stead("status")
	if want := "kill -CONT "; c.code != exitDiffers || !strings.Contains(c.out, want) || strings.Contains(c.out, "all is as declared") {
		t.Errorf("status: code %d\n%s", c.code, c.out)
	}

	h.write("new.yaml", manifest("new", ""))
	for _, verb := range [][]string{{"ps"}, {"logs", "web"}, {"events"}, {"validate", h.manifests}, {"inspect", "web"}} {
		h.inTime(0, verb...)
	}
	h.inTime(exitDiffers, "plan")
	if c := h.inTime(exitFailure, "apply"); !strings.Contains(c.err, "kill -CONT ") {
		t.Errorf("apply: %s", c.err)
	}
	if c := h.inTime(125, "exec", "web", "--", "true"); !strings.Contains(c.err, "kill -CONT ") {
		t.Errorf("exec: %s", c.err)
	}
	if c := h.inTime(exitFailure, "doctor"); !strings.Contains(c.out, "kill -CONT ") {
		t.Errorf("doctor: %s", c.out)
	}

	h.endDaemon(syscall.SIGTERM)
	if c := h.inTime(exitDiffers, "status"); !strings.Contains(c.out, "kill -CONT ") {
		t.Errorf("status without a daemon: %s", c.out)
	}
	began := time.Now()
	h.startDaemon()
	if took := time.Since(began); took > faultReported {
		t.Errorf("the daemon was ready after %s", took)
	}
	h.awaitFaults(true)

	stop(syscall.SIGCONT)
	h.awaitFaults(false)
	h.ok("apply")
	if after := h.until("web", "running", running); after.Pid != before.Pid {
		t.Errorf("after: %+v, before: %+v", after, before)
	}
	h.until("new", "running", running)
	if got := h.ok("exec", "new", "--", "echo", "on"); got != "on\n" {
		t.Errorf("exec: %q", got)
	}
}

// inTime runs a verb that must come back soon, with a code.
func (h *testHost) inTime(code int, args ...string) call {
	h.t.Helper()
	began := time.Now()
	c := h.stead(args...)
	if took := time.Since(began); c.code != code || took > 15*time.Second {
		h.t.Errorf("stead %s: code %d after %s, want %d\n%s%s", strings.Join(args, " "), c.code, took, code, c.out, c.err)
	}
	return c
}

// A manifest directory on a file system that does not answer is one that can't be read: its containers
// run on, status and ps say where it hangs, the other directories are followed, and the daemon
// can be ended and started.
func TestHungManifestDirectory(t *testing.T) {
	h := newHost(t)
	hung := h.dir + "/hung"
	if err := os.Mkdir(hung, 0o755); err != nil {
		t.Fatal(err)
	}
	fuse := roottest.MountFUSE(t, hung, map[string]string{"web.yaml": manifest("web", "")})
	t.Cleanup(fuse.Resume) // before anything is taken down
	h.env = append(h.env, "STEAD_MANIFESTS="+h.manifests+":"+hung)
	h.write("db.yaml", manifest("db", ""))
	h.startDaemon()
	before := h.until("web", "running", running)
	h.until("db", "running", running)
	fuse.Hang()
	h.inTime(0, "reload")
	want := "the file system at " + hung + " (fuse of hung) does not answer since "
	check := func() {
		t.Helper()
		if c := h.inTime(exitDiffers, "status"); !strings.Contains(c.out, want) || !strings.Contains(c.out, "umount -f -l "+hung) {
			t.Errorf("status: %s", c.out)
		}
		if c := h.inTime(0, "ps"); !strings.Contains(c.out+c.err, want) {
			t.Errorf("ps: %s%s", c.out, c.err)
		}
		if c := h.inTime(exitInvalid, "apply"); !strings.Contains(c.out+c.err, want) {
			t.Errorf("apply: %s%s", c.out, c.err)
		}
	}
	check()
	h.write("new.yaml", manifest("new", ""))
	h.until("new", "running", running)
	if err := os.Remove(h.manifests + "/db.yaml"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(roottest.Patience); slices.ContainsFunc(h.look(), func(c view.Container) bool { return c.Name == "db" }); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("db is not removed")
		}
	}
	began := time.Now()
	h.endDaemon(syscall.SIGTERM)
	h.startDaemon()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the daemon was ready again after %s", took)
	}
	check()
	if after := h.until("web", "running", running); after.Pid != before.Pid {
		t.Errorf("web while its directory hangs: %+v, before: %+v", after, before)
	}
	fuse.Resume()
	fuse.Write("web.yaml", manifest("web", "  env: {A: b}\n"))
	h.until("web", "restarted", func(c view.Container) bool { return running(c) && c.Pid != before.Pid })
	h.ok("status")
}
