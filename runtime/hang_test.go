package runtime

import (
	"errors"
	"testing"
	"time"

	"stead/runtime/keeper"
	"stead/runtime/roottest"
	"stead/runtime/status"

	"golang.org/x/sys/unix"
)

// stopKeeper stops the keeper's process, and returns what lets it go on.
func (w *world) stopKeeper() (resume func()) {
	w.t.Helper()
	pid, _, err := w.keeper.Ping(ctx)
	w.must(err)
	w.must(unix.Kill(pid, unix.SIGSTOP))
	resume = func() { w.must(unix.Kill(pid, unix.SIGCONT)) }
	w.t.Cleanup(resume)
	return resume
}

// A start, a stop and a restart that wait for a keeper when it stops answering end with an
// error. When it answers again each container has one process or none, and nothing is lost.
func TestSilentKeeperDuringActions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("ending", script(forever))
	steady := w.create("steady", script(forever))
	resume := w.stopKeeper()
	began := time.Now()
	failed := make(chan error, 2)
	go func() {
		_, err := w.Create(ctx, parse(t, "starting", script(forever)), origin)
		failed <- err
	}()
	go func() { failed <- w.Stop(ctx, "ending", status.StopOptions{}) }()
	for range 2 {
		if err := <-failed; !errors.Is(err, keeper.ErrSilent) {
			t.Errorf("error %v", err)
		}
	}
	if took := time.Since(began); took > 40*time.Second {
		t.Errorf("the actions ended after %s", took)
	}
	if f := w.Faults(); len(f) != 1 || f[0].Reason != status.ReasonKeeperSilent {
		t.Errorf("faults %v", f)
	}
	resume()
	for end := time.Now().Add(roottest.Patience); ; time.Sleep(10 * time.Millisecond) {
		s, _ := w.Get("starting")
		if len(w.Faults()) == 0 && (s.State == status.Running || s.State == status.Exited) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("starting is %+v, faults %v", s, w.Faults())
		}
	}
	w.must(w.Start(ctx, "starting", status.StartOptions{}))
	w.must(w.Stop(ctx, "ending", status.StopOptions{}))
	w.await("ending", status.Exited)
	for name, want := range map[string]int{"starting": 1, "steady": 1} {
		_, rec := w.snapshot(w.byName[name])
		if pids, err := w.host.Group(rec.ID()).Pids(); err != nil || len(pids) < want {
			t.Errorf("%s has processes %v, %v", name, pids, err)
		}
	}
	if s, _ := w.Get("steady"); s.Pid != steady.Pid {
		t.Errorf("steady: %+v", s)
	}
	w.must(w.Check(ctx, true))
	if strays, _ := w.host.Children(); len(strays) > 4 { // steady, starting, the keeper's
		t.Errorf("cgroups %v", strays)
	}
}
