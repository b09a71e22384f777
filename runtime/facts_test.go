package runtime

import (
	"context"
	"sync"
	"testing"
	"time"

	"stead/runtime/status"
	"stead/runtime/store"
)

// writeNow is writeLater without the wait.
func (w *world) writeNow(c *container) {
	w.pending.add(c)
	w.writePending(true)
}

// TestFactsTwoWriters: the end of a run is written at a time of its own; what an
// admin says in that moment is not lost.
func TestFactsTwoWriters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("job", script("true")+"\nrestart: {policy: never}")
	w.await("job", status.Exited)
	c, _ := w.find("job")
	for i := range 50 {
		stop := i%2 == 0
		var both sync.WaitGroup
		both.Go(func() { w.writeNow(c) })
		both.Go(func() {
			if _, err := w.saveAdminIntent(c, stop); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		f, err := store.ReadFacts(w.dir("job"))
		if err != nil {
			t.Fatal(err)
		}
		if s, _ := w.Get("job"); (f.StoppedAt != nil) != stop || (s.StoppedAt != nil) != stop {
			t.Fatalf("round %d: stopped at %v on disk and %v in memory, want stopped %v", i, f.StoppedAt, s.StoppedAt, stop)
		}
	}
}

// TestFactsOfRemoved: the end of a container that is removed is not written
// over the facts of the one that has its name now.
func TestFactsOfRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("job", script("true")+"\nrestart: {policy: never}")
	w.await("job", status.Exited)
	old, _ := w.find("job")
	if err := w.Remove(context.Background(), "job"); err != nil {
		t.Fatal(err)
	}
	w.create("job", script("echo new")+"\nrestart: {policy: never}")
	w.writeNow(old)
	f, err := store.ReadFacts(w.dir("job"))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Manifest.Spec.Command[2]; got != "echo new" {
		t.Errorf("the disk has %q, the command of the removed one", got)
	}
}

// TestFactsBroughtBack: a create that dies right after it took the directory of
// a removed container leaves that, not the container as it was once.
func TestFactsBroughtBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("web", script(forever))
	w.awaitOutput("web", "up")
	if _, err := w.saveAdminIntent(w.byName["web"], true); err != nil {
		t.Fatal(err)
	}
	if err := w.Remove(context.Background(), "web"); err != nil {
		t.Fatal(err)
	}
	other := w.create("other", script("sleep 100")) // gets its ids
	if _, err := w.makeDir("web"); err != nil {
		t.Fatal(err)
	}
	w.reopen()
	if s, ok := w.Get("web"); ok {
		t.Errorf("web is back as it was: %s, stopped at %v, besides %s", s.State, s.StoppedAt, other.Name)
	}
	w.create("web", script("sleep 100"))
	a, _ := w.Inspect("web")
	if b, _ := w.Inspect("other"); a.IDBase == b.IDBase {
		t.Errorf("web and other share the ids from %d", a.IDBase)
	}
}

// TestStartGivenUp: a daemon that is told to end in the middle of a start knows
// whether the container runs; else the next one would run it twice.
func TestStartGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("web", script("sleep 1000")+"\nstop: {signal: KILL}")
	for i := range 40 {
		if err := w.Stop(context.Background(), "web", status.StopOptions{}); err != nil {
			t.Fatal(err)
		}
		soon, cancel := context.WithTimeout(context.Background(), time.Duration(i)*200*time.Microsecond)
		err := w.Start(soon, "web", status.StartOptions{})
		cancel()
		s, _ := w.Get("web")
		_, live, e := w.keeper.Ping(context.Background())
		if e != nil || (live == 1) != (s.State == status.Running) {
			t.Fatalf("attempt %d (%v): it is %s, and the keeper holds %d (%v)", i, err, s.State, live, e)
		}
	}
}
