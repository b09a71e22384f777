package launch

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openDescriptors are the numbers that this process has in use.
func openDescriptors(t *testing.T) int {
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// However many children are on their way at once, each has a window to itself;
// afterwards none holds anything open, and no more are kept than before.
func TestWindows(t *testing.T) {
	b := newBench(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	before := openDescriptors(t)
	used := map[window]bool{}
	for range 2 * cap(b.windows) {
		at, err := b.fillWindow(fds{int(w.Fd()), int(w.Fd())})
		if err != nil {
			t.Fatal(err)
		}
		if at < windowSize {
			t.Errorf("a window at %d: the child moves its descriptors there", at)
		}
		for other := range used {
			if at > other-windowSize && at < other+windowSize {
				t.Errorf("windows at %d and %d", at, other)
			}
		}
		used[at] = true
	}
	w.Close()
	for at := range used {
		b.emptyWindow(at)
	}
	if len(b.windows) != len(b.reserved) {
		t.Errorf("%d of %d windows that were kept are back", len(b.windows), len(b.reserved))
	}
	reading := int(r.Fd())
	unix.SetNonblock(reading, true)
	if _, err := unix.Read(reading, make([]byte, 1)); err != nil {
		t.Errorf("a window holds a descriptor: %v", err)
	}
	if now := openDescriptors(t); now != before-1 {
		t.Errorf("%d descriptors are open, %d were before", now, before)
	}
}

// A child that dies while it still shares our descriptors is noticed, although we
// hold its end of the gate ourselves.
func TestDiesBeforeSeparate(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(pair[:])
	child, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	pidfd, err := unix.PidfdOpen(child.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	l := gateEnd{gate: pair[0], program: &program{pidfd: int32(pidfd)}}
	began := time.Now()
	if err := l.expectSeparate(); !errors.Is(err, errKilled) || time.Since(began) > execTimeout/2 {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	if err := unix.Send(pair[1], []byte("d"), 0); err != nil {
		t.Fatal(err)
	}
	if err := l.expectSeparate(); err != nil { // what it said before counts
		t.Error(err)
	}
}
