package reconcile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"stead/reconcile/source"
	"stead/runtime"
	"stead/spec"
)

// story runs an engine in a bubble of its own time, until tell returns.
func story(t *testing.T, files map[string]string, list []runtime.Status, tell func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, rt := newShelf(files), newFake(list...)
		e := &Engine{Source: s, Runtime: rt, Workers: 2}
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

func viewOf(t *testing.T, e *Engine, name string) ContainerView {
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
	return ContainerView{Name: name, Why: "not listed"}
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
		if v.State != Running || v.Sync != SyncError || !v.Ready || v.Why != "web.yaml:1: holds no manifest (the file is empty or has only comments)" {
			t.Errorf("broken file: %+v", v)
		}
		s.put("web.yaml", yaml("web", "resources: {memory: 64Mi}"))
		pass()
		wantActed(t, rt, "create web", "update web")
		s.remove("web.yaml")
		pass()
		if v := viewOf(t, e, "web"); v.Sync != OutOfSync || v.Reason != ReasonRemovalPending || !strings.HasSuffix(v.Why, "removed in 5s") {
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
		if v := viewOf(t, e, "a"); v.Sync != Held || v.State != Running {
			t.Errorf("directory gone: %+v", v)
		}
		if r, _ := e.Status(t.Context()); len(r.Held) != 2 || r.Sources[0].Healthy {
			t.Errorf("report: held %v, sources %v", r.Held, r.Sources)
		}
		s.health(nil)
		pass()
		if v := viewOf(t, e, "a"); v.Sync != Synced {
			t.Errorf("directory back: %+v", v)
		}
		// An empty directory, as an unmounted one is: healthy, and held all the same.
		s.remove("a.yaml", "b.yaml")
		time.Sleep(time.Hour)
		synctest.Wait()
		wantActed(t, rt, "create a", "create b")
		result, err := e.Apply(t.Context(), ApplyOptions{Confirm: []string{"a"}})
		if err != nil || !result.Held() {
			t.Errorf("apply: %+v, %v; want b held", result, err)
		}
		wantActed(t, rt, "create a", "create b", "remove a")
	})
}

func TestBackOffDoublesAndResets(t *testing.T) {
	story(t, map[string]string{"web.yaml": yaml("web", "restart: {backoff: {initial: 1s, max: 1m}}")}, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		for i, delay := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
			rt.exit("web", 1)
			synctest.Wait()
			time.Sleep(delay*time.Second - 50*time.Millisecond)
			synctest.Wait()
			v := viewOf(t, e, "web")
			if v.State != BackOff || v.Restarts != i || *v.ExitCode != 1 {
				t.Fatalf("before restart %d: %+v", i+1, v)
			}
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			if v := viewOf(t, e, "web"); v.State != Running || v.Restarts != i+1 {
				t.Fatalf("%v after exit %d: %+v", delay*time.Second, i+1, v)
			}
		}
		time.Sleep(time.Minute) // a stable run
		rt.exit("web", 1)
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if v := viewOf(t, e, "web"); v.State != Running {
			t.Errorf("after a stable run: %+v, want it back after the initial delay", v)
		}
	})
}

func TestSlowStopDelaysNobody(t *testing.T) {
	files, list := map[string]string{}, []runtime.Status{}
	for i := range 20 {
		name := fmt.Sprintf("slow-%02d", i)
		files[name+".yaml"] = yaml(name, "suspend: true")
		list = append(list, running(t, name))
	}
	gates := map[string]chan struct{}{}
	synctest.Test(t, func(t *testing.T) {
		s, rt := newShelf(files), newFake(list...)
		for _, st := range list {
			gates[st.Name] = make(chan struct{})
			rt.block["restart "+st.Name] = gates[st.Name]
			rt.block["stop "+st.Name] = gates[st.Name]
		}
		e := &Engine{Source: s, Runtime: rt, Workers: 1}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = e.Run(ctx) }()
		pass()
		s.put("web.yaml", yaml("web"))
		pass()
		if st := rt.status("web"); st == nil || st.State != runtime.Running {
			t.Errorf("twenty slow stops with one worker: web is %+v, want it created", st)
		}
		if calls := len(acted(rt)); calls != 21 {
			t.Errorf("%d calls, want all 20 stops under way and one create", calls)
		}
		s.put("web.yaml", yaml("web", "resources: {pids: 9}"))
		pass()
		if calls := acted(rt); len(calls) != 22 || calls[21] != "update web" {
			t.Errorf("later passes must skip what is busy: %v", calls[20:])
		}
		for _, g := range gates {
			close(g)
		}
		pass()
		if v := viewOf(t, e, "slow-07"); v.State != Stopped || v.Sync != Synced {
			t.Errorf("when it has ended: %+v", v)
		}
		cancel()
		synctest.Wait()
	})
}

func TestStuckWorkFreesItsSlot(t *testing.T) {
	story(t, nil, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		for i := range 4 { // both workers and two more
			line := fmt.Sprintf("create stuck-%d", i)
			rt.set(func() { rt.block[line] = make(chan struct{}) })
			s.put(fmt.Sprintf("stuck-%d.yaml", i), yaml(fmt.Sprintf("stuck-%d", i)))
		}
		pass()
		s.put("web.yaml", yaml("web"))
		time.Sleep(4 * patience)
		synctest.Wait()
		if rt.status("web") == nil {
			t.Error("creations that hang must not keep web from being created")
		}
	})
}

func TestOneFailureStopsNobody(t *testing.T) {
	story(t, nil, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		rt.set(func() { rt.fail["create bad"] = errors.New("no space left on device") })
		s.put("bad.yaml", yaml("bad"))
		s.put("good.yaml", yaml("good"))
		pass()
		if rt.status("good") == nil {
			t.Error("good was not created")
		}
		v := viewOf(t, e, "bad")
		if v.State != BackOff || v.Sync != SyncError || v.Reason != ReasonActionFailed || v.Message != "no space left on device" {
			t.Errorf("failed: %+v", v)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		tries := 0
		for _, c := range acted(rt) {
			if c == "create bad" {
				tries++
			}
		}
		// 1 s doubling to 5 min: nine tries in the first 8.5 minutes, then one each 5.
		if tries < 18 || tries > 21 {
			t.Errorf("%d tries in an hour, want about 20", tries)
		}
		before := len(acted(rt))
		rt.set(func() { delete(rt.fail, "create bad") })
		s.put("bad.yaml", yaml("bad", "resources: {pids: 9}"))
		pass()
		if calls := acted(rt); len(calls) != before+1 || rt.status("bad") == nil {
			t.Error("a changed manifest is tried at once")
		}
	})
}

func TestWhatHasNoEffectIsNotRepeatedInAHotLoop(t *testing.T) {
	story(t, map[string]string{"web.yaml": yaml("web")}, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		st := rt.status("web")
		st.Unapplied = []runtime.Unapplied{{Path: "spec.resources.memory", Wanted: "64Mi", Have: "128Mi", Message: "100Mi are in use"}}
		rt.set(func() { rt.by["web"] = st })
		signal(rt.wake)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(acted(rt)); n < 15 || n > 25 {
			t.Errorf("%d calls in an hour, want about 20", n)
		}
		v := viewOf(t, e, "web")
		if v.Sync != SyncError || !strings.Contains(v.Why, "spec.resources.memory still 128Mi: 100Mi are in use") {
			t.Errorf("%+v", v)
		}
		rt.set(func() { rt.by["web"].Unapplied = nil })
		time.Sleep(time.Hour)
		synctest.Wait()
		if v := viewOf(t, e, "web"); v.Sync != Synced || v.Why != "" {
			t.Errorf("when it fits: %+v", v)
		}
	})
}

func TestStartFailuresAreLeftToThePolicy(t *testing.T) {
	story(t, nil, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		rt.set(func() { rt.root["web"] = "root /srv/web is not there" })
		s.put("web.yaml", yaml("web", "restart: {policy: never, backoff: {initial: 2s, max: 4s}}"))
		pass()
		pass()
		v := viewOf(t, e, "web")
		if v.State != BackOff || v.Sync != Synced || v.Reason != runtime.ReasonRootfsMissing || *v.ExitCode != 125 || v.Why != "root /srv/web is not there, next start in 2s" {
			t.Errorf("%+v", v)
		}
		result, err := e.Apply(t.Context(), ApplyOptions{})
		if err != nil || result.Err() == nil || !strings.Contains(result.Err().Error(), "root /srv/web is not there") {
			t.Errorf("apply: %v, %v: in back-off is failed", result, err)
		}
		time.Sleep(15 * time.Second) // tries after 2 s, 4 s, 4 s and 4 s
		synctest.Wait()
		wantActed(t, rt, "create web", "start web", "start web", "start web", "start web")
		rt.set(func() { delete(rt.root, "web") })
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if v := viewOf(t, e, "web"); v.State != Running {
			t.Errorf("with the root in place: %+v", v)
		}
	})
}

func TestWhatChangedWhileBusyIsDoneThen(t *testing.T) {
	story(t, map[string]string{"web.yaml": yaml("web")}, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		gate := make(chan struct{})
		rt.set(func() { rt.block["update web"] = gate })
		s.put("web.yaml", yaml("web", "resources: {pids: 8}"))
		pass()
		s.put("web.yaml", yaml("web", "resources: {pids: 9}"))
		pass()
		wantActed(t, rt, "create web", "update web")
		close(gate)
		pass()
		if pids := *rt.status("web").Applied.Spec.Resources.Pids; pids != 9 {
			t.Errorf("applied pids %d, want what was written while it was busy: 9", pids)
		}
	})
}

func TestExecutorDoesOneThingAtATime(t *testing.T) {
	rt := newFake(running(t, "web"))
	rt.block["stop web"] = make(chan struct{})
	e := newExecutor(rt, 1, func(*job) {}, func() {})
	first, started := e.start(t.Context(), Action{Verb: Stop, Name: "web"})
	if !started {
		t.Fatal("not started")
	}
	if second, started := e.start(t.Context(), Action{Verb: Remove, Name: "web"}); started || second != first {
		t.Error("a second action for a busy container was started")
	}
	close(rt.block["stop web"])
	<-first.ended
	if _, started := e.start(t.Context(), Action{Verb: Remove, Name: "web"}); !started {
		t.Error("the container is not free when its action has ended")
	}
	e.wg.Wait()
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

func TestLogSaysThingsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out syncBuffer
		s, rt := newShelf(map[string]string{"web.yaml": yaml("web"), "bad.yaml": "a: ["}), newFake(running(t, "db", "protect: true"))
		logger := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "took" || a.Key == "error" {
				return slog.Attr{}
			}
			return a
		}}))
		e := &Engine{Source: s, Runtime: rt, Log: logger}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = e.Run(ctx) }()
		time.Sleep(10 * time.Minute)
		s.put("web.yaml", yaml("web", "resources: {memory: 64Mi}"))
		time.Sleep(10 * time.Minute)
		s.put("bad.yaml", yaml("bad", "suspend: true"))
		time.Sleep(10 * time.Minute)
		cancel()
		synctest.Wait()
		want := `level=ERROR msg="manifests can't be followed" file=/etc/stead/manifests/bad.yaml
level=WARN msg="removal held" container=db action=hold cause="protected; confirm with stead apply --confirm-removal=db"
level=INFO msg=done container=web action=create cause="manifest web.yaml"
level=INFO msg=done container=web action=update cause=live changes="spec.resources.memory (absent) → 64Mi"
level=INFO msg="manifests are in order again" file=/etc/stead/manifests/bad.yaml
level=INFO msg=done container=bad action=create cause="manifest bad.yaml, suspended"
`
		if got := out.String(); got != want {
			t.Errorf("log:\n%swant:\n%s", got, want)
		}
	})
}

func TestSlowWriterIsLoggedOnce(t *testing.T) {
	root := t.TempDir()
	f, err := os.Create(filepath.Join(root, "web.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var out syncBuffer
		e := &Engine{Source: unwatched{&source.Source{Dirs: []string{root}, Parser: spec.Parser{}}}, Runtime: newFake(), Log: slog.New(slog.NewTextHandler(&out, nil))}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = e.Run(ctx) }()
		time.Sleep(2 * time.Second)
		if out.String() != "" {
			t.Errorf("after 2 s: %s", &out)
		}
		time.Sleep(time.Hour)
		if n := strings.Count(out.String(), "open for writing"); n != 1 {
			t.Errorf("said %d times in an hour, want once:\n%s", n, &out)
		}
		fmt.Fprint(f, yaml("web"))
		f.Close()
		time.Sleep(6 * time.Second) // no event tells: the retry does
		if !strings.Contains(out.String(), "container=web action=create") {
			t.Errorf("when it is closed:\n%s", &out)
		}
		cancel()
		synctest.Wait()
	})
}

// unwatched is a source without inotify, whose reader no bubble can hold.
type unwatched struct{ *source.Source }

func (unwatched) Watch(context.Context) {}

func TestResyncLooksAtTheKernel(t *testing.T) {
	story(t, nil, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		time.Sleep(10*time.Minute + time.Second)
		synctest.Wait()
		if n := len(rt.said()); n != 11 {
			t.Errorf("%d looks in ten minutes, want one at the start and one a minute", n)
		}
		// A change that no event told is found by the tick.
		s.putQuietly("web.yaml", yaml("web"))
		time.Sleep(time.Minute)
		synctest.Wait()
		wantActed(t, rt, "create web")
	})
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestRealFiles runs the loop on a real directory: a slow writer, and how long an
// edit takes.
func TestRealFiles(t *testing.T) {
	defer goleak.VerifyNone(t)
	root := t.TempDir()
	rt := newFake()
	e := &Engine{Source: &source.Source{Dirs: []string{root}, Parser: spec.Parser{}}, Runtime: rt}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = e.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	await := func(what string, holds func() bool) {
		t.Helper()
		deadline := time.Now().Add(5 * time.Second)
		for !holds() {
			if time.Now().After(deadline) {
				t.Fatalf("waited in vain: %s", what)
			}
			time.Sleep(time.Millisecond)
		}
	}
	path := filepath.Join(root, "web.yaml")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(path+".tmp", []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".tmp", path); err != nil {
			t.Fatal(err)
		}
	}
	pids := func() string {
		if st := rt.status("web"); st != nil && st.Applied.Spec.Resources.Pids != nil {
			return fmt.Sprint(*st.Applied.Spec.Resources.Pids)
		}
		return ""
	}
	var took []time.Duration
	for i := range 30 {
		began := time.Now()
		write(yaml("web", fmt.Sprintf("resources: {pids: %d}", i+1)))
		await("the edit", func() bool { return pids() == fmt.Sprint(i+1) })
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("edit to applied: p50 %v, worst %v", took[len(took)/2], took[len(took)-1])
	if took[len(took)/2] > 30*time.Millisecond {
		t.Errorf("p50 is %v, want at most 30ms", took[len(took)/2])
	}

	// A writer that takes its time: half a manifest that would be valid by itself.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, yaml("web", "resources: {pids: 7}"))
	time.Sleep(300 * time.Millisecond) // the writer's own pace
	if pids() != "30" {
		t.Errorf("applied pids %s while the file was open for writing", pids())
	}
	fmt.Fprint(f, "  suspend: false\n")
	f.Close()
	await("the writer's last word", func() bool { return pids() == "7" })

	// Without a daemon's help nothing is lost when the directory is swapped.
	if err := os.Rename(root, root+".away"); err != nil {
		t.Fatal(err)
	}
	await("the missing directory", func() bool { return viewOf(t, e, "web").Sync == Held })
	if err := os.Rename(root+".away", root); err != nil {
		t.Fatal(err)
	}
	await("the directory that is back", func() bool { return viewOf(t, e, "web").Sync == Synced })
}
