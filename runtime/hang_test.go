package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stead/runtime/keeper"
	"stead/runtime/logs"
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

// A log whose disk does not answer loses lines after a while, counted and shown. Nothing else
// waits: not its container, no other log, no start, exec or stop.
func TestStalledLogDisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := w.LogDir("web")
	w.must(os.MkdirAll(dir, 0o700))
	fifo := filepath.Join(dir, logs.File)
	w.must(unix.Mkfifo(fifo, 0o600)) // its open waits for a reader, as a dead disk does
	release := func() *os.File {
		r, err := os.OpenFile(fifo, os.O_RDONLY|unix.O_NONBLOCK, 0)
		w.must(err)
		return r
	}
	t.Cleanup(func() { release().Close() })
	w.create("web", script(`i=0; while [ $i -lt 20000 ]; do echo "line $i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"; i=$((i+1)); done; mkdir /done; sleep 1000`))
	finished := filepath.Join(w.root(w.byName["web"].facts.Manifest), "done")
	for end := time.Now().Add(roottest.Patience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(finished); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the container waits for its log")
		}
	}
	for end := time.Now().Add(roottest.Patience); ; time.Sleep(10 * time.Millisecond) {
		if f := w.Faults(); len(f) == 1 && f[0].Reason == status.ReasonLogLoses && strings.Contains(f[0].Message, "the log of web has lost ") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("faults %v", w.Faults())
		}
	}
	soon := func(what string, do func()) {
		began := time.Now()
		if do(); time.Since(began) > 10*time.Second {
			t.Errorf("%s took %s", what, time.Since(began))
		}
	}
	soon("a start", func() { w.create("other", script(forever)) })
	soon("output", func() { w.awaitOutput("other", "up") })
	soon("exec", func() {
		if code, _, _, err := w.exec("other", "", ExecOptions{Argv: []string{"true"}}); code != 0 || err != nil {
			t.Error(code, err)
		}
	})
	soon("a stop of another", func() { w.must(w.Stop(ctx, "other", status.StopOptions{})) })
	soon("its own stop", func() { w.must(w.Stop(ctx, "web", status.StopOptions{})) })
	if s := w.await("web", status.Exited); s.Exit.Reason != status.ReasonStopped {
		t.Errorf("%+v", s.Exit)
	}
}
