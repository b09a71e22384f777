package runtime

import (
	"testing"
	"time"

	"stead/runtime/status"
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

// A handler that restores the default action before it cleans up gets its time all the same.
func TestStopHandlerThatRestoresTheDefault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("web", script(`trap 'trap - TERM; sleep 1; exit 9' TERM; echo up; while :; do sleep 1000 & wait; done`)+"\nstop: {timeout: 60s}")
	w.awaitOutput("web", "up")
	w.stopsWithin(20*time.Second, "web")
	if s := w.await("web", status.Exited); s.Exit.Code != 9 {
		t.Errorf("exit %+v, want 9", s.Exit)
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
