package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

// A log directory on a file system that does not answer costs its container the lines, and nothing
// else, from its start on: it starts and stops, others log, and the keeper is not replaced while a
// write waits.
func TestHungLogDirectory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := w.LogDir("web")
	w.must(os.MkdirAll(dir, 0o700))
	fuse := roottest.MountFUSE(t, dir, map[string]string{"nothing": ""})
	fuse.Hang()
	soon := func(what string, do func()) {
		began := time.Now()
		if do(); time.Since(began) > 10*time.Second {
			t.Errorf("%s took %s", what, time.Since(began))
		}
	}
	soon("its start", func() {
		w.create("web", script(`i=0; while [ $i -lt 20000 ]; do echo "line $i"; i=$((i+1)); done; mkdir /done; sleep 1000`))
	})
	finished := filepath.Join(w.root(w.byName["web"].facts.Manifest), "done")
	for end := time.Now().Add(roottest.Patience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(finished); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the container waits for its log")
		}
	}
	soon("a start of another", func() { w.create("other", script(forever)) })
	soon("output of another", func() { w.awaitOutput("other", "up") })
	for end := time.Now().Add(roottest.Patience); ; time.Sleep(10 * time.Millisecond) {
		if f := w.Faults(); len(f) == 1 && f[0].Reason == status.ReasonLogLoses && strings.Contains(f[0].Message, "the log of web has lost ") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("faults %v", w.Faults())
		}
	}
	soon("its stop", func() { w.must(w.Stop(ctx, "web", status.StopOptions{})) })
	soon("its next start", func() { w.must(w.Start(ctx, "web", status.StartOptions{})) })
	soon("its next stop", func() { w.must(w.Stop(ctx, "web", status.StopOptions{})) })
	if s, _ := w.Get("other"); s.State != status.Running {
		t.Errorf("other: %+v", s)
	}
}

// A start whose root, source or file is on a file system that does not answer fails in time, with
// the path; the next one is refused at once; and others start and stop as always. A running
// container is not stopped for such a manifest.
func TestHungFileSystem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hung := filepath.Join(w.o.RunDir, "hung")
	w.must(os.Mkdir(hung, 0o755))
	w.create("steady", script(forever))
	steady, _ := w.Get("steady")
	roottest.HungFUSE(t, hung)
	bodies := map[string]string{
		"root":   "command: [sh]\nrootfs: {path: " + hung + "/root}\nsecurity: {userns: host}",
		"source": script(forever) + "\nmounts: {/data: {source: " + hung + "/data}}",
		"create": script(forever) + "\nmounts: {/data: {source: " + hung + "/data, create: true}}",
		"link":   script(forever) + "\nmounts: {/data: {source: " + w.o.RunDir + "/link}}",
	}
	w.must(os.Symlink(hung+"/there", w.o.RunDir+"/link"))
	failed := make(chan error)
	began := time.Now()
	for name, body := range bodies {
		go func() {
			_, err := w.Create(ctx, parse(t, name, body), origin)
			failed <- err
		}()
	}
	go func() {
		failed <- w.Restart(ctx, parse(t, "steady", bodies["source"]), origin, false)
	}()
	others := 0
	for left := len(bodies) + 1; left > 0; {
		select {
		case err := <-failed:
			if left--; err == nil || !strings.Contains(err.Error(), "does not answer since") || !strings.Contains(err.Error(), "the file system at "+hung+" (fuse of hung)") {
				t.Errorf("error %v", err)
			}
		default:
			w.create("other", script("exec sleep 1000")+"\nstop: {signal: KILL}")
			w.must(w.Remove(ctx, "other"))
			others++
		}
	}
	took := time.Since(began)
	if t.Logf("%.0f starts and removals of others per second while file systems hang, for %s", float64(others)/took.Seconds(), took); took > 25*time.Second || others < 20 {
		t.Errorf("%d starts of others in %s", others, took)
	}
	for name := range bodies {
		if s, _ := w.Get(name); s.Exit == nil || s.Exit.Reason != status.ReasonFileSystemHangs {
			t.Errorf("%s: %+v", name, s.Exit)
		}
	}
	if s, _ := w.Get("steady"); s.Pid != steady.Pid || s.State != status.Running {
		t.Errorf("steady: %+v", s)
	}
	began = time.Now()
	if err := w.Start(ctx, "root", status.StartOptions{}); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("the next start: %v after %s", err, time.Since(began))
	}
}

// A command that can't be read from a file system that hangs keeps no other container from
// starting, and its start fails in time.
func TestHungCommand(t *testing.T) {
	if testing.Short() {
		t.Skip("a start may take 30 s to read its command")
	}
	t.Parallel()
	w := newWorld(t)
	point := roottest.TempDir(t, "/var/tmp") + "/hung"
	w.must(os.Mkdir(point, 0o755))
	fuse := roottest.MountFUSE(t, point, map[string]string{"run": "#!/bin/sh\nexec sleep 1000\n"})
	w.create("steady", script(forever))
	fuse.HangReads()
	failed := make(chan error)
	const hung = 4 // more than the keeper has threads
	began := time.Now()
	for i := range hung {
		go func() {
			_, err := w.Create(ctx, parse(t, fmt.Sprint("hung-", i), "command: [/data/run]\nmounts: {/data: {source: "+point+"}}\nsecurity: {userns: host}"), origin)
			failed <- err
		}()
	}
	others := 0
	for left := hung; left > 0; {
		select {
		case err := <-failed:
			if left--; err == nil || !strings.Contains(err.Error(), "a file system that it needs hangs") {
				t.Errorf("error %v", err)
			}
		default:
			w.create("other", script("exec sleep 1000")+"\nstop: {signal: KILL}")
			w.must(w.Remove(ctx, "other"))
			others++
		}
	}
	took := time.Since(began)
	if t.Logf("%.0f starts and removals of others per second while commands hang, for %s", float64(others)/took.Seconds(), took); took > 70*time.Second || others < 20 {
		t.Errorf("%d starts of others in %s", others, took)
	}
	// Until they can die, their cgroups stay.
	fuse.End()
	groups := func() (busy []string) {
		all, _ := filepath.Glob("/sys/fs/cgroup/*/" + w.o.CgroupParent + "/hung-*/cgroup.procs")
		return slices.DeleteFunc(all, func(f string) bool { b, _ := os.ReadFile(f); return len(b) == 0 })
	}
	for end := time.Now().Add(roottest.Patience); len(groups()) > 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond) // no event tells of processes of another one
	}
	w.reopen()
}
