package keeper

import (
	"os/exec"
	"testing"
	"time"

	"stead/runtime/record"

	"golang.org/x/sys/unix"
)

// child is a process that ends when it is told to.
func child(t *testing.T) (pid int, end func()) {
	t.Helper()
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	return cmd.Process.Pid, func() {
		in.Close()
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// register has a loop hold a container whose first process is a child.
func (l *loop) testRegister(t *testing.T, name string, pid int) *entry {
	t.Helper()
	r := &record.Record{Name: name, Nonce: "1", State: record.Running, Pid: pid, LogDir: l.run + "/log-" + name, LogSize: 1 << 20, LogKeep: 1}
	e := &entry{rec: r, log: l.logs.Log(r.LogDir, r.LogSize, r.LogKeep), out: [2]int{-1, -1}, child: true, pidfd: -1}
	if err := l.register(e); err != nil {
		t.Fatal(err)
	}
	return e
}

// TestReap: a child's end is told by its pidfd alone; by SIGCHLD where descriptors
// are too few for pidfds.
func TestReap(t *testing.T) {
	l, _ := newTestLoop(t)
	events := make([]unix.EpollEvent, 8)
	one, endOne := child(t)
	two, endTwo := child(t)
	first, second := l.testRegister(t, "one", one), l.testRegister(t, "two", two)
	l.handleSIGCHLD(time.Now())
	endOne()
	n, err := unix.EpollWait(l.epoll, events, 5000)
	if err != nil {
		t.Fatal(err)
	}
	l.handleEvents(events[:n], time.Now())
	if first.rec.State != record.Exited || first.rec.Ending.Code != 0 || second.rec.State != record.Running {
		t.Fatalf("got %+v and %+v, want the first ended by itself", first.rec, second.rec)
	}
	three, endThree := child(t)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: limit.Max})
	third := l.testRegister(t, "three", three)
	unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	if l.withoutPidfd != 1 || second.pidfd < 0 || third.pidfd >= 0 {
		t.Fatalf("%d without a pidfd (%d, %d), want the second alone", l.withoutPidfd, second.pidfd, third.pidfd)
	}
	endTwo()
	endThree()
	l.handleSIGCHLD(time.Now())
	if second.rec.State != record.Exited || third.rec.State != record.Exited || l.withoutPidfd != 0 {
		t.Errorf("SIGCHLD did not count: %+v, %+v, %d without a pidfd", second.rec, third.rec, l.withoutPidfd)
	}
}

// TestReapUnregistered: nothing tells of such a child but SIGCHLD. It does not stay
// a zombie, and who registers it later hears of its end.
func TestReapUnregistered(t *testing.T) {
	l, _ := newTestLoop(t)
	pid, end := child(t)
	end()
	now := time.Now()
	l.handleSIGCHLD(now)
	if wait := l.epollTimeout(); wait <= 0 || wait > 1001 {
		t.Errorf("waits %d ms to look, want about 1000", wait)
	}
	l.handleEvents(nil, now.Add(reapDelay))
	e := l.testRegister(t, "late", pid)
	if e.rec.State != record.Exited || l.epollTimeout() != -1 || len(l.unclaimed) != 0 {
		t.Errorf("got %+v, timeout %d, unclaimed %v", e.rec, l.epollTimeout(), l.unclaimed)
	}
}
