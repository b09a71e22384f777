package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stead/runtime/cgroup"
	"stead/runtime/roottest"
	"stead/runtime/status"

	"golang.org/x/sys/unix"
)

// clock says something now and then, and ends as it is asked to.
const clock = `trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; echo on; done`

// v2Group is the container's directory below the cgroup2 mount, whose parent is that
// of all.
func (w *world) v2Group(name string) string {
	w.t.Helper()
	_, rec := w.snapshot(w.byName[name])
	_, into := w.host.Group(rec.ID()).Join()
	return into
}

func newFreezableWorld(t *testing.T) *world {
	w := newWorld(t)
	if w.host.Mode == cgroup.V1 {
		t.Skip("no cgroup2 mount")
	}
	return w
}

// freeze stops all in a group, as somebody might by hand, and waits until it stands.
func (w *world) freeze(dir string) {
	w.t.Helper()
	w.must(os.WriteFile(dir+"/cgroup.freeze", []byte("1"), 0))
	w.t.Cleanup(func() { os.WriteFile(dir+"/cgroup.freeze", []byte("0"), 0) }) // before the world is taken down
	for end := time.Now().Add(roottest.Patience); !isFrozen(dir); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatal("it does not freeze")
		}
	}
}

func isFrozen(dir string) bool {
	b, _ := os.ReadFile(dir + "/cgroup.events")
	return strings.Contains(string(b), "frozen 1")
}

// goesOn waits until the clock says one thing more.
func (w *world) goesOn(name string) {
	w.t.Helper()
	before := strings.Count(w.output(name), "on\n")
	for end := time.Now().Add(roottest.Patience); strings.Count(w.output(name), "on\n") <= before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("%s stands still", name)
		}
	}
}

// A container that somebody froze goes on after the next look, its process the same.
func TestFrozenByHand(t *testing.T) {
	t.Parallel()
	w := newFreezableWorld(t)
	body := script(clock)
	before := w.create("web", body)
	w.awaitOutput("web", "up")
	w.freeze(w.v2Group("web"))
	w.must(w.Check(ctx, true))
	if s, _ := w.Get("web"); s.Drift.String() != "cgroup frozen" {
		t.Errorf("drift %v", s.Drift)
	}
	w.must(w.Update(ctx, parse(t, "web", body), origin))
	w.goesOn("web")
	w.must(w.Check(ctx, true))
	if s, _ := w.Get("web"); len(s.Drift) > 0 || s.Pid != before.Pid {
		t.Errorf("after: %v, pid %d", s.Drift, s.Pid)
	}
}

// So does the keeper, which is in a group beside the containers', for the daemon that
// knows it and for one that is just starting; but not while the host is on hold.
func TestFrozenKeeper(t *testing.T) {
	t.Parallel()
	w := newFreezableWorld(t)
	w.create("web", script(clock))
	w.awaitOutput("web", "up")
	all := filepath.Dir(w.v2Group("web"))
	own := all + "/" + w.Runtime.keeper.group().Name()
	for what, dir := range map[string]string{"with all": all, "alone": own} {
		for who, look := range map[string]func(){"a check": func() { w.must(w.Check(ctx, true)) }, "another daemon": w.reopen} {
			w.freeze(dir)
			look()
			if isFrozen(dir) {
				t.Errorf("%s: it is still frozen after %s", what, who)
			}
			w.goesOn("web")
		}
	}
	w.must(w.Holds.Hold(nil, ""))
	w.freeze(all)
	if err := w.Check(ctx, true); err == nil || !strings.Contains(err.Error(), "is frozen, and this host is on hold") {
		t.Error(err)
	}
	w.Close()
	if r, err := Open(ctx, w.o); err == nil || !strings.Contains(err.Error(), "is frozen, and this host is on hold") {
		t.Error(err)
		r.Close()
	}
	w.must(os.WriteFile(all+"/cgroup.freeze", []byte("0"), 0))
	w.open()
	w.goesOn("web")
}

// A frozen container that is stopped, restarted or removed ends as it would otherwise.
func TestEndOfFrozen(t *testing.T) {
	t.Parallel()
	w := newFreezableWorld(t)
	body := script(clock) + "\nstop: {timeout: 10m}"
	ends := map[string]func(){
		"stop":    func() { w.must(w.Stop(ctx, "web", status.StopOptions{})) },
		"restart": func() { w.must(w.Restart(ctx, parse(t, "web", body), origin, false)) },
		"remove":  func() { w.must(w.Remove(ctx, "web")) },
	}
	for what, end := range ends {
		for _, all := range []bool{false, true} {
			w.create("web", body)
			w.awaitOutput("web", "up")
			log := filepath.Join(w.StateDir, "log") // Remove moves the directory
			w.must(os.Link(w.LogDir("web")+"/output.log", log))
			dir := w.v2Group("web")
			if all {
				dir = filepath.Dir(dir)
			}
			w.freeze(dir)
			began := time.Now()
			end()
			b, _ := os.ReadFile(log)
			if took := time.Since(began); !strings.Contains(string(b), "bye\n") || took > roottest.Patience {
				t.Errorf("%s, all frozen %v: after %v it had written\n%s", what, all, took, b)
			}
			w.must(w.Remove(ctx, "web"))
			w.must(os.Remove(log))
			if _, err := w.Removed.Purge(ctx, "web"); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A frozen container is killed when it does not end, whoever freezes it again.
func TestKillOfFrozen(t *testing.T) {
	t.Parallel()
	w := newFreezableWorld(t)
	w.create("web", script(`trap "" TERM; echo up; while :; do sleep 1; done`)+"\nstop: {timeout: 1s}")
	w.awaitOutput("web", "up")
	dir := w.v2Group("web")
	w.freeze(dir)
	over := make(chan error)
	go func() { over <- w.Stop(ctx, "web", status.StopOptions{}) }()
	for {
		select {
		case err := <-over:
			w.must(err)
			return
		default:
			os.WriteFile(dir+"/cgroup.freeze", []byte("1"), 0)
		}
	}
}

// Nothing is run in a frozen container, and that is said at once. A keeper that does
// not answer is not waited for for ever.
func TestExecInFrozen(t *testing.T) {
	t.Parallel()
	w := newFreezableWorld(t)
	w.create("web", script(clock))
	w.awaitOutput("web", "up")
	own := w.v2Group("web")
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for dir, want := range map[string]string{own: "the cgroup of the container is frozen", filepath.Dir(own): "does not answer"} {
		w.freeze(dir)
		for _, user := range []string{"", "0"} { // as prepared, and not
			began := time.Now()
			_, err := w.Exec(ctx, "web", ExecOptions{Argv: []string{"true"}, User: user}, null, null, null)
			if took := time.Since(began); err == nil || !strings.Contains(err.Error(), want) || dir == own && took > 5*time.Second {
				t.Error(err, took)
			}
			if dir != own {
				break // patience takes its time
			}
		}
		w.must(os.WriteFile(dir+"/cgroup.freeze", []byte("0"), 0))
	}
	x, err := w.Exec(ctx, "web", ExecOptions{Argv: []string{"true"}}, null, null, null)
	w.must(err)
	if code, err := x.Wait(); code != 0 || err != nil {
		t.Error(code, err)
	}
}

// What a change of limits held still when its process died goes on with the next
// process, on hold or not; what somebody froze by hand waits for the look.
func TestFrozenByTheDead(t *testing.T) {
	t.Parallel()
	w := newFreezableWorld(t)
	w.create("web", script(clock))
	w.awaitOutput("web", "up")
	dir := w.v2Group("web")
	w.must(w.Holds.Hold(nil, ""))
	w.freeze(dir)
	w.reopen()
	if !isFrozen(dir) {
		t.Error("what was frozen by hand was thawed by recovery, on hold")
	}
	w.must(unix.Setxattr(dir, "trusted.stead.freeze", nil, 0))
	w.reopen()
	w.goesOn("web")
	if n, err := unix.Getxattr(dir, "trusted.stead.freeze", nil); err == nil {
		t.Error("the mark is left", n)
	}
}

// A start where all containers are frozen has them go on, unless the host is on hold.
func TestStartAmongFrozen(t *testing.T) {
	t.Parallel()
	w := newFreezableWorld(t)
	w.create("web", script(clock))
	w.awaitOutput("web", "up")
	all := filepath.Dir(w.v2Group("web"))
	w.freeze(all)
	w.must(w.Holds.Hold(nil, ""))
	if _, err := w.Create(ctx, parse(t, "other", script(clock)), origin); err == nil || !strings.Contains(err.Error(), "is frozen, and this host is on hold") {
		t.Error(err)
	}
	if !isFrozen(all) {
		t.Error("they were thawed")
	}
	w.must(w.Holds.Release(nil))
	w.must(w.Start(ctx, "other", status.StartOptions{}))
	w.goesOn("other")
	w.goesOn("web")
}
