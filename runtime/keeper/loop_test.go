package keeper

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stead/runtime/record"
	"stead/runtime/roottest"

	"golang.org/x/sys/unix"
)

// newTestLoop has one container that runs, with pipes. It needs no root.
func newTestLoop(t *testing.T) (*loop, *entry) {
	t.Helper()
	run := t.TempDir()
	if err := os.Mkdir(filepath.Join(run, "containers"), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := newLoop(run, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.logs.Settle(roottest.Patience) }) // before the directory is removed
	r := &record.Record{Name: "web", Nonce: "1", BootID: record.BootID(), State: record.Running, Pid: os.Getpid(), LogDir: filepath.Join(run, "log"), LogSize: 1 << 20, LogKeep: 1}
	for _, p := range []string{record.StdoutPath(run, r.ID()), record.StderrPath(run, r.ID())} {
		if err := unix.Mkfifo(p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := &entry{rec: r, log: l.logs.Log(r.LogDir, r.LogSize, r.LogKeep), pidfd: -1}
	if err := e.openPipes(run); err != nil {
		t.Fatal(err)
	}
	return l, e
}

// TestFinishWhileWritten: a container that gave its stdout to somebody else, who
// writes on, ends all the same.
func TestFinishWhileWritten(t *testing.T) {
	l, e := newTestLoop(t)
	stop := make(chan struct{})
	defer close(stop)
	for range 4 {
		out, err := unix.Open(record.StdoutPath(l.run, e.rec.ID()), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer unix.Close(out)
			lines := bytes.Repeat([]byte{'\n'}, 4096) // which take the longest to log
			for {
				select {
				case <-stop:
					return
				default:
					unix.Write(out, lines)
				}
			}
		}()
	}
	done := make(chan struct{})
	go func() {
		l.do(func() { l.finish(e, &record.Ending{}) })
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(roottest.Patience):
		t.Fatal("the keeper reads the output of a container that ended, and does nothing else")
	}
}

// TestAdoptWithoutPipes: a container whose pipes somebody removed is held as the
// others are; it must not keep the keeper from starting.
func TestAdoptWithoutPipes(t *testing.T) {
	l, e := newTestLoop(t)
	e.closePipes()
	e.rec.StartTime, _ = record.StartTime(e.rec.Pid)
	if err := e.rec.Write(l.run); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(record.StderrPath(l.run, e.rec.ID())); err != nil {
		t.Fatal(err)
	}
	if err := l.adopt(nil); err != nil {
		t.Fatal(err)
	}
	held := l.byID[e.rec.ID()]
	if held == nil {
		t.Fatal("it is not held")
	}
	l.finish(held, &record.Ending{})
	if now, err := record.Read(l.run, e.rec.ID()); err != nil || now.State != record.Exited {
		t.Errorf("its end is not on record: %+v %v", now, err)
	}
}

// TestEndedBeforeItRan: the keeper died in the middle of a launch, and the next
// was there before the child had gone. Its exit code is no command's.
func TestEndedBeforeItRan(t *testing.T) {
	l, e := newTestLoop(t)
	if err := os.WriteFile(record.RanPath(l.run, e.rec.ID()), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l.do(func() { l.handleAdoptedExit(e) })
	now, err := record.Read(l.run, e.rec.ID())
	if err != nil || now.Ending == nil || now.Ending.Failed == "" {
		t.Errorf("got %+v %v, want a start that failed", now.Ending, err)
	}
}

// TestEndNotOnRecord: an end that can't be put on record, for want of space or of a
// descriptor, is told when it can: what is told is read from there.
func TestEndNotOnRecord(t *testing.T) {
	l, e := newTestLoop(t)
	told := make(chan *record.Ending, 1)
	e.waiters = append(e.waiters, told)
	l.byID[e.rec.ID()] = e
	inTheWay := record.Path(l.run, e.rec.ID()) + "~"
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	l.finish(e, &record.Ending{Code: 7})
	l.handleEvents(nil, now.Add(2*reapDelay))
	if len(told) != 0 || l.byID[e.rec.ID()] != e || l.epollTimeout() < 0 {
		t.Errorf("told %d times, held %v, looks again in %d ms; want it kept", len(told), l.byID, l.epollTimeout())
	}
	os.Remove(inTheWay)
	l.handleEvents(nil, now.Add(4*reapDelay))
	onDisk, err := record.Read(l.run, e.rec.ID())
	if err != nil || onDisk.State != record.Exited || onDisk.Ending.Code != 7 || onDisk.FinishedAt.After(now.Add(reapDelay)) {
		t.Errorf("on record: %+v %v", onDisk, err)
	}
	if len(told) != 1 || len(l.byID)+len(l.unrecorded) != 0 || l.epollTimeout() != -1 {
		t.Errorf("told %d times, held %v, looks again in %d ms", len(told), l.byID, l.epollTimeout())
	}
}

// TestTooManyToAdopt: a keeper with few files does not begin with what it can't hold.
func TestTooManyToAdopt(t *testing.T) {
	l, e := newTestLoop(t)
	e.rec.StartTime, _ = record.StartTime(e.rec.Pid)
	if err := e.rec.Write(l.run); err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := uint64(filesOfKeeper + 2) // not one's
	unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: few, Max: limit.Max})
	err := l.adopt(nil)
	unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	if want := fmt.Sprintf("1 containers run, and the limit of %d open files is too low", few); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	if err := l.adopt(nil); err != nil || len(l.byID) != 1 {
		t.Errorf("with enough: %v, held %v", err, l.byID)
	}
}
