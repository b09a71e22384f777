package reconcile

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stead/reconcile/source"
	"stead/reconcile/view"
	"stead/runtime/status"
)

// story runs an engine in a bubble of its own time, until tell returns.

func story(t *testing.T, files map[string]string, list []*status.Status, tell func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, rt := newShelf(files), newFake(list...)
		e := newEngine(s, rt)
		e.Workers = 2
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if err := e.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		pass()
		tell(t, s, rt, e)
		cancel()
		<-ended
	})
}

// pass lets the loop's quiet period pass and everything come to rest.

func pass() {
	time.Sleep(20 * time.Millisecond)
	synctest.Wait()
}

// acted are the calls to the runtime besides the looks at the kernel.

func acted(rt *fakeRuntime) []string {
	return slices.DeleteFunc(rt.said(), func(c string) bool { return c == "check" })
}

func wantActed(t *testing.T, rt *fakeRuntime, want ...string) {
	t.Helper()
	got := acted(rt)
	slices.Sort(got) // what begins together ends in any order
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Fatalf("done:\n%swant:\n%s", lines(got), lines(want))
	}
}

func viewOf(t *testing.T, e *Engine, name string) view.Container {
	t.Helper()
	r, err := e.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range r.Containers {
		if v.Name == name {
			return v
		}
	}
	return view.Container{Name: name, Why: "not listed"}
}

func TestManifestsBecomeContainers(t *testing.T) {
	story(t, map[string]string{"web.yaml": yaml("web")}, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		wantActed(t, rt, "create web")
		s.put("web.yaml", yaml("web", "resources: {memory: 64Mi}"))
		pass()
		wantActed(t, rt, "create web", "update web")
		s.put("web.yaml", strings.Replace(yaml("web"), "command:", "comand:", 1))
		pass()
		s.put("web.yaml", "")
		pass()
		time.Sleep(time.Hour)
		wantActed(t, rt, "create web", "update web")
		v := viewOf(t, e, "web")
		if v.State != view.Running || v.Sync != view.SyncError || !v.Ready || v.Why != "web.yaml:1: holds no manifest (the file is empty or has only comments)" {
			t.Errorf("broken file: %+v", v)
		}
		s.put("web.yaml", yaml("web", "resources: {memory: 64Mi}"))
		pass()
		wantActed(t, rt, "create web", "update web")
		s.remove("web.yaml")
		pass()
		if v := viewOf(t, e, "web"); v.Sync != view.OutOfSync || v.Reason != view.ReasonRemovalPending || !strings.HasSuffix(v.Why, "removed in 5s") {
			t.Errorf("manifest gone: %+v", v)
		}
		time.Sleep(4900 * time.Millisecond)
		synctest.Wait()
		wantActed(t, rt, "create web", "update web")
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		wantActed(t, rt, "create web", "update web", "remove web")
	})
}

func TestManifestThatComesBackInTime(t *testing.T) {
	story(t, map[string]string{"web.yaml": yaml("web")}, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		s.remove("web.yaml")
		time.Sleep(4 * time.Second)
		s.put("web.yaml", yaml("web"))
		pass()
		s.remove("web.yaml")
		time.Sleep(4 * time.Second)
		synctest.Wait()
		wantActed(t, rt, "create web") // the settle time began anew
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantActed(t, rt, "create web", "remove web")
	})
}

func TestDirectoryVanishesAndComesBack(t *testing.T) {
	files := map[string]string{"a.yaml": yaml("a"), "b.yaml": yaml("b")}
	story(t, files, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		s.health(&os.PathError{Op: "open", Path: etc, Err: os.ErrNotExist})
		time.Sleep(time.Hour)
		synctest.Wait()
		wantActed(t, rt, "create a", "create b")
		if v := viewOf(t, e, "a"); v.Sync != view.Held || v.State != view.Running {
			t.Errorf("directory gone: %+v", v)
		}
		if r, _ := e.Status(t.Context()); len(r.Held) != 2 || r.Sources[0].Healthy {
			t.Errorf("report: held %v, sources %v", r.Held, r.Sources)
		}
		s.health(nil)
		pass()
		if v := viewOf(t, e, "a"); v.Sync != view.Synced {
			t.Errorf("directory back: %+v", v)
		}
		// An empty directory, as an unmounted one is: healthy, and held all the same.
		s.remove("a.yaml", "b.yaml")
		time.Sleep(time.Hour)
		synctest.Wait()
		wantActed(t, rt, "create a", "create b")
		result, err := e.Apply(t.Context(), ApplyOptions{Confirm: []string{"a"}})
		if err != nil || !result.Held() || result.Containers[1].Note != "would remove all 2 containers; confirm with stead apply --confirm-removal=b" {
			t.Errorf("apply: %+v, %v; want b held, and why", result, err)
		}
		wantActed(t, rt, "create a", "create b", "remove a")
	})
}

// What is left of a mass removal stays held for the next daemon or apply, which
// sees no mass in it.
func TestMassRemovalStaysHeld(t *testing.T) {
	s := newStage(t, map[string]string{"m/a.yaml": yaml("a"), "m/b.yaml": yaml("b")})
	apply := func(confirm ...string) Result {
		t.Helper()
		e := newEngine(s.src, s.rt) // as each call without a daemon has its own
		r, err := e.Apply(t.Context(), ApplyOptions{Confirm: confirm})
		s.must(err)
		return r
	}
	s.must(os.Remove(s.dir + "/a.yaml"))
	s.must(os.Remove(s.dir + "/b.yaml"))
	for _, step := range []struct {
		confirm []string
		want    string
		held    int
	}{{nil, "check", 2}, {[]string{"a"}, "check, remove a", 1}, {nil, "check", 1}, {[]string{"b"}, "check, remove b", 0}} {
		apply(step.confirm...)
		if got := s.said(); got != step.want || len(s.rt.holds.Holds().Removals) != step.held {
			t.Errorf("confirmed %v: %q, held %v; want %q and %d", step.confirm, got, s.rt.holds.Holds().Removals, step.want, step.held)
		}
	}
	// A manifest that comes back ends it: another day, its removal is no mass.
	s.put("m/a.yaml", yaml("a"))
	s.put("m/b.yaml", yaml("b"))
	apply()
	s.must(os.Remove(s.dir + "/a.yaml"))
	s.must(os.Remove(s.dir + "/b.yaml"))
	apply()
	s.put("m/b.yaml", yaml("b"))
	s.put("m/a.yaml", yaml("a"))
	apply()
	s.must(os.Remove(s.dir + "/a.yaml"))
	s.said()
	apply()
	if got := s.said(); got != "check, remove a" {
		t.Errorf("one of two: %q", got)
	}
}

func TestBackOffDoublesAndResets(t *testing.T) {
	story(t, map[string]string{"web.yaml": yaml("web", "restart: {backoff: {initial: 1s, max: 1m}}")}, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		for i, delay := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
			rt.exit("web", 1)
			synctest.Wait()
			time.Sleep(delay*time.Second - 50*time.Millisecond)
			synctest.Wait()
			v := viewOf(t, e, "web")
			if v.State != view.BackOff || v.Restarts != i || *v.ExitCode != 1 {
				t.Fatalf("before restart %d: %+v", i+1, v)
			}
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			if v := viewOf(t, e, "web"); v.State != view.Running || v.Restarts != i+1 {
				t.Fatalf("%v after exit %d: %+v", delay*time.Second, i+1, v)
			}
		}
		time.Sleep(time.Minute) // a stable run
		rt.exit("web", 1)
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if v := viewOf(t, e, "web"); v.State != view.Running {
			t.Errorf("after a stable run: %+v, want it back after the initial delay", v)
		}
	})
}

func TestConstantWritesDoNotStarve(t *testing.T) {
	story(t, nil, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		began := time.Now()
		s.put("web.yaml", yaml("web"))
		for rt.status("web") == nil && time.Since(began) < time.Second {
			s.put("noise.yaml", "a: [")
			time.Sleep(3 * time.Millisecond)
			synctest.Wait()
		}
		if took := time.Since(began); took > 210*time.Millisecond {
			t.Errorf("created after %v of constant writes, want at most the limit of 200ms", took)
		}
	})
}

// A script that reloads and then asks is not told of what was before.
func TestReloadHasRead(t *testing.T) {
	story(t, nil, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		s.putQuietly("web.yaml", yaml("web"))
		if err := e.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r, err := e.Status(t.Context()); err != nil || r.Sources[0].Files != 1 {
			t.Errorf("right after the reload: %+v, %v", r.Sources, err)
		}
		pass()
		wantActed(t, rt, "create web")
	})
}

func TestResyncLooksAtTheKernel(t *testing.T) {
	story(t, nil, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		time.Sleep(10*time.Minute + time.Second)
		synctest.Wait()
		if n := len(rt.said()); n != 12 {
			t.Errorf("%d looks in ten minutes, want two at the start and one a minute", n)
		}
		// A change that no event told is found by the tick.
		s.putQuietly("web.yaml", yaml("web"))
		time.Sleep(time.Minute)
		synctest.Wait()
		wantActed(t, rt, "create web")
	})
}

// An idle daemon reads the manifests on each resync tick, and not in between.
func TestIdleReadsOnTheTickOnly(t *testing.T) {
	story(t, map[string]string{"web.yaml": yaml("web")}, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		wantActed(t, rt, "create web")
		reads := func() int {
			s.mu.Lock()
			defer s.mu.Unlock()
			n := s.reads
			s.reads = 0
			return n
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		reads()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := reads(); n < 1 || n > 2 { // the tick's, and one for what its look at the kernel found
			t.Errorf("read %d times in a minute with nothing to do", n)
		}
	})
}

// stuckManifests is a source whose Read hangs, as on a dead file system.
type stuckManifests struct {
	*shelf
	hang chan struct{}
}

func (s *stuckManifests) Read() *source.Reading {
	<-s.hang
	return s.shelf.Read()
}

// What feeds the watchdog is answered by the loop that runs passes: not while a pass hangs,
// though everything else of the daemon lives.
func TestALoopThatHangsDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &stuckManifests{newShelf(nil), make(chan struct{})}
		e := newEngine(m, newFake())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = e.Run(ctx) }()
		synctest.Wait()
		answers := func() error {
			patience, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			return e.Answers(patience)
		}
		if err := answers(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while a pass hangs: %v, want no answer", err)
		}
		close(m.hang)
		if err := answers(); err != nil {
			t.Errorf("when the pass has ended: %v", err)
		}
		cancel()
		<-ended
	})
}
