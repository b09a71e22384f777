package runtime

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"stead/runtime/status"

	"golang.org/x/sys/unix"
)

// TestStopRightAfterStart: a shell that is stopped before it has set its trap never gets the
// signal. Nobody waits until the stop timeout for it.
func TestStopRightAfterStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("job", script(`trap "exit 0" TERM; echo up; while :; do sleep 1000 & wait; done`)+"\nstop: {timeout: 60s}")
	for n := range 30 {
		w.stopsWithin(10*time.Second, "job")
		if err := w.Start(ctx, "job", status.StartOptions{}); err != nil {
			t.Fatalf("start %d: %v", n, err)
		}
	}
}

// TestStopWhileBlocked: a process blocks the stop signal for a moment, and the signal is lost. It
// is killed if it would never get one, and gets another one if it has set a handler by then.
func TestStopWhileBlocked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, tt := range []struct {
		name, body string
		code       int
	}{
		{"no-handler", evilManifest("blocked-default", "", ""), 137},
		{"late-handler", evilManifest("blocked-handled", "", ""), 7},
		{"handler-restores-default", script(`trap 'trap - TERM; sleep 1; exit 9' TERM; echo up; while :; do sleep 1000 & wait; done`), 9},
	} {
		w.create(tt.name, tt.body+"\nstop: {timeout: 60s}")
		w.awaitOutput(tt.name, "up")
		w.stopsWithin(20*time.Second, tt.name)
		if s := w.await(tt.name, status.Exited); s.Exit.Code != tt.code {
			t.Errorf("%s: exit %+v, want %d", tt.name, s.Exit, tt.code)
		}
	}
}

func (w *world) stopsWithin(limit time.Duration, name string) {
	w.t.Helper()
	began := time.Now()
	if err := w.Stop(ctx, name, status.StopOptions{}); err != nil {
		w.t.Errorf("stop %s: %v", name, err)
	}
	if took := time.Since(began); took > limit {
		w.t.Errorf("stop %s took %v", name, took)
	}
}

func init() {
	if strings.HasPrefix(os.Getenv("INSIDE"), "blocked-") {
		runtime.LockOSThread() // the kernel asks for what the first thread blocks
	}
	insiders["blocked-default"] = func() { blockTerm(false) }
	insiders["blocked-handled"] = func() { blockTerm(true) }
}

// blockTerm gives SIGTERM its default action and blocks it in the first thread, so that it seems
// to wait. The kernel drops it all the same, as the other threads of Go don't block it. Then it
// unblocks the signal, or handles it.
func blockTerm(handle bool) {
	got := make(chan os.Signal, 1)
	signal.Notify(got, unix.SIGTERM)
	var defaultAction, handler [4]uintptr
	handleTerm(&defaultAction, &handler)
	var term unix.Sigset_t
	term.Val[0] = 1 << (unix.SIGTERM - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &term, nil); err != nil {
		panic(err)
	}
	fmt.Println("up")
	time.Sleep(300 * time.Millisecond) // a dropped signal can't be waited for
	if handle {
		handleTerm(&handler, nil)
	}
	if err := unix.PthreadSigmask(unix.SIG_UNBLOCK, &term, nil); err != nil {
		panic(err)
	}
	<-got
	os.Exit(7)
}

// handleTerm is sigaction(2) for SIGTERM, with the kernel's struct.
func handleTerm(next, old *[4]uintptr) {
	if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGTERM), uintptr(unsafe.Pointer(next)), uintptr(unsafe.Pointer(old)), 8, 0, 0); e != 0 {
		panic(e)
	}
}
