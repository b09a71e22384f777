package reconcile

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stead/reconcile/plan"
	"stead/reconcile/source"
	"stead/reconcile/view"
	"stead/runtime/status"
	"stead/spec"
)

func TestApplyWithoutADaemon(t *testing.T) {
	s := newShelf(map[string]string{
		"new.yaml": yaml("new"), "web.yaml": yaml("web", "resources: {pids: 9}"), "bad.yaml": strings.Replace(yaml("bad"), "command:", "comand:", 1),
		"broken.yaml": yaml("broken"), "same.yaml": yaml("same"),
	})
	rt := newFake(running(t, "web"), running(t, "old"), running(t, "same"))
	rt.fail["create broken"] = errors.New("no space left on device")
	e := newEngine(s, rt)
	var progress, begun []string
	result, err := e.Apply(t.Context(), ApplyOptions{Progress: func(p Progress) {
		if p.Ended {
			progress = append(progress, p.Line)
		} else {
			begun = append(begun, p.Name)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := `create broken  (manifest broken.yaml): failed: no space left on device
create new  (manifest new.yaml)
remove old  (manifest gone from /etc/stead/manifests)
update web  spec.resources.pids (absent) → 9  (live)
`
	if got := strings.Join(begun, " "); got != "broken new old web" {
		t.Errorf("begun: %s", got)
	}
	slices.Sort(progress) // they end in any order
	if got := lines(progress); got != want {
		t.Errorf("progress:\n%swant:\n%s", got, want)
	}
	var told []string
	for _, c := range result.Containers {
		line := c.Name
		for _, a := range c.Actions {
			line += " " + string(a)
		}
		if c.Error != "" {
			line += ": " + c.Error
		}
		told = append(told, line)
	}
	want = `bad: bad.yaml:7:3: spec.comand: unknown field; did you mean command?
broken: create failed: no space left on device
new create
old remove
web update
`
	if got := lines(told); got != want {
		t.Errorf("result:\n%swant:\n%s", got, want)
	}
	if !result.Changed() || !result.Invalid() || result.Held() || result.Err() == nil {
		t.Errorf("changed %v, invalid %v, held %v, err %v", result.Changed(), result.Invalid(), result.Held(), result.Err())
	}
	rt.set(func() { delete(rt.fail, "create broken") })
	s.remove("bad.yaml")
	if result, err = e.Apply(t.Context(), ApplyOptions{}); err != nil || result.Err() != nil || len(result.Containers) != 1 {
		t.Errorf("what failed is tried again at once: %+v, %v", result, err)
	}
	if result, err = e.Apply(t.Context(), ApplyOptions{}); err != nil || result.Changed() || len(result.Containers) != 0 {
		t.Errorf("with nothing to do: %+v, %v", result, err)
	}
}

func TestApplySaysWhatNeededNoConfirmation(t *testing.T) {
	e := newEngine(newShelf(map[string]string{"web.yaml": yaml("web")}), newFake(running(t, "web"), running(t, "old")))
	result, err := e.Apply(t.Context(), ApplyOptions{Confirm: []string{"all", "old", "odl", "web"}})
	if err != nil || !slices.Equal(result.Unneeded, []string{"odl", "web"}) || len(result.Containers) != 1 {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestApplyConfirmsRemovals(t *testing.T) {
	rt := newFake(running(t, "a"), running(t, "b"), running(t, "c"))
	e := newEngine(newShelf(nil), rt)
	result, err := e.Apply(t.Context(), ApplyOptions{})
	if err != nil || !result.Held() || result.Changed() || result.Err() != nil {
		t.Errorf("unconfirmed: %+v, %v", result, err)
	}
	if result, err = e.Apply(t.Context(), ApplyOptions{Confirm: []string{"b"}}); err != nil || !result.Held() {
		t.Errorf("one confirmed: %+v, %v", result, err)
	}
	wantActed(t, rt, "remove b")
	if result, err = e.Apply(t.Context(), ApplyOptions{Confirm: []string{"all"}}); err != nil || result.Held() {
		t.Errorf("all confirmed: %+v, %v", result, err)
	}
	wantActed(t, rt, "remove a", "remove b", "remove c")
}

func TestApplyWaitsForAWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, rt := newShelf(nil), newFake()
		path := etc + "/web.yaml"
		writing := &source.File{Path: path, Rel: "web.yaml", Waiting: time.Now()}
		s.files[path] = writing
		s.last = &source.Reading{Dirs: s.dirs, Files: []*source.File{writing}, Retry: 10 * time.Millisecond}
		time.AfterFunc(50*time.Millisecond, func() { s.put("web.yaml", yaml("web")) })
		e := newEngine(s, rt)
		result, err := e.Apply(t.Context(), ApplyOptions{})
		if err != nil || len(result.Containers) != 1 || rt.status("web") == nil {
			t.Errorf("%+v, %v: want web, once its writer is done", result, err)
		}
	})
}

func TestApplyGivesUpOnAWriterThatNeverEnds(t *testing.T) {
	root := t.TempDir()
	f, err := os.Create(filepath.Join(root, "web.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(&source.Source{Dirs: []string{root}, Parser: spec.Parser{}}, newFake())
		began := time.Now()
		result, err := e.Apply(t.Context(), ApplyOptions{})
		if err != nil || result.Err() == nil || !strings.Contains(result.Err().Error(), "waiting for the writer of web.yaml") {
			t.Errorf("%+v, %v", result, err)
		}
		if took := time.Since(began); took < view.WriterNoted || took > 2*view.WriterNoted {
			t.Errorf("took %v, want a little over %v", took, view.WriterNoted)
		}
	})
}

func TestApplyTakesNoLongerThanItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, rt := newShelf(map[string]string{"web.yaml": yaml("web")}), newFake()
		rt.block["create web"] = make(chan struct{})
		e := newEngine(s, rt)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := e.Apply(ctx, ApplyOptions{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
	})
}

func TestApplyInADaemonIsNotKeptByACrashLoop(t *testing.T) {
	story(t, map[string]string{"loop.yaml": yaml("loop")}, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		defer func() { cancel(); <-ended }()
		go func() {
			defer close(ended)
			for ctx.Err() == nil {
				time.Sleep(50 * time.Millisecond)
				if st := rt.status("loop"); st.State == status.Running {
					rt.exit("loop", 1)
				}
			}
		}()
		time.Sleep(10 * time.Second)
		s.put("web.yaml", yaml("web"))
		result, err := e.Apply(t.Context(), ApplyOptions{})
		if err != nil || rt.status("web") == nil {
			t.Errorf("%+v, %v", result, err)
		}
		if c := result.Containers[0]; c.Name != "loop" || c.State != view.BackOff || !strings.HasPrefix(c.Error, "exit code 1, next start in ") {
			t.Errorf("in back-off counts as failed: %+v", c)
		}
	})
}

func TestApplyDoesNotWaitForARestartThatHangs(t *testing.T) {
	story(t, map[string]string{"loop.yaml": yaml("loop")}, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		rt.set(func() { rt.block["start loop"] = make(chan struct{}) })
		rt.exit("loop", 1)
		time.Sleep(2 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := e.Apply(ctx, ApplyOptions{}); err != nil {
			t.Error(err)
		}
	})
}

func TestPlanChangesNothing(t *testing.T) {
	s, rt := newShelf(map[string]string{"web.yaml": yaml("web"), "bad.yaml": "a: ["}), newFake(running(t, "old"))
	e := newEngine(s, rt)
	for range 2 {
		plan, err := e.Plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := "remove old  (manifest gone from /etc/stead/manifests)\ncreate web  (manifest web.yaml)\n"
		if plan.String() != want || len(plan.Errors) != 1 {
			t.Errorf("got:\n%serrors %q, want:\n%sand one error", plan, plan.Errors, want)
		}
	}
	wantActed(t, rt)
}

func TestAdminVerbs(t *testing.T) {
	story(t, map[string]string{"web.yaml": yaml("web"), "off.yaml": yaml("off", "suspend: true"), "job.yaml": yaml("job", "restart: {policy: never}")}, nil,
		func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
			do := func(verb plan.Verb, names ...string) Result {
				t.Helper()
				r, err := e.Do(t.Context(), verb, names)
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			do(plan.Stop, "web")
			time.Sleep(time.Hour)
			v := viewOf(t, e, "web")
			if v.State != view.Stopped || v.Sync != view.Synced || !strings.HasPrefix(v.Why, "stopped by admin since 20") {
				t.Errorf("stopped: %+v", v)
			}
			s.put("web.yaml", yaml("web", "command: [x]"))
			pass()
			if v := viewOf(t, e, "web"); v.State != view.Stopped || v.Sync != view.Synced || rt.status("web").Applied.Spec.Command[0] != "x" {
				t.Errorf("stopped, and the manifest changed: %+v", v)
			}
			do(plan.Start, "web")
			pass()
			if v := viewOf(t, e, "web"); v.State != view.Running || v.Sync != view.Synced || rt.status("web").Applied.Spec.Command[0] != "x" {
				t.Errorf("started, with what changed: %+v", v)
			}
			pid := rt.status("web").Pid
			do(plan.Restart, "web")
			if rt.status("web").Pid == pid {
				t.Error("restarted, and the pid is the same")
			}
			rt.exit("job", 0)
			pass()
			if v := viewOf(t, e, "job"); v.State != view.Completed || v.Why != "exit code 0" || *v.ExitCode != 0 || v.Reason != status.ReasonCompleted {
				t.Errorf("completed: %+v", v)
			}
			do(plan.Start, "job")
			if rt.status("job").State != status.Running {
				t.Error("start runs what was complete again")
			}
			if r := do(plan.Restart, "off"); r.Err() == nil || !strings.Contains(r.Err().Error(), "suspend: false") {
				t.Errorf("restart of a suspended one: %v", r.Err())
			}
			before := len(rt.said())
			if _, err := e.Do(t.Context(), plan.Stop, []string{"web", "nobody"}); !errors.Is(err, ErrNoContainer) || len(rt.said()) != before {
				t.Errorf("an unknown name: %v; nothing may be done", err)
			}
			if _, err := e.Do(t.Context(), plan.Remove, []string{"web"}); err == nil {
				t.Error("remove is no verb of an admin's")
			}
		})
}

func TestAdminWaitsForABusyContainer(t *testing.T) {
	story(t, nil, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		gate := make(chan struct{})
		rt.set(func() { rt.block["update web"] = gate })
		s.put("web.yaml", yaml("web"))
		pass()
		s.put("web.yaml", yaml("web", "resources: {pids: 9}"))
		pass()
		time.AfterFunc(time.Second, func() { close(gate) })
		if _, err := e.Do(t.Context(), plan.Stop, []string{"web"}); err != nil {
			t.Error(err)
		}
		if got := acted(rt); !slices.Equal(got, []string{"create web", "update web", "stop web"}) {
			t.Errorf("%v", got)
		}
	})
}

func TestAdminIsToldOfARemovalUnderWay(t *testing.T) {
	story(t, nil, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		gate := make(chan struct{})
		rt.set(func() { rt.block["remove web"] = gate })
		s.put("web.yaml", yaml("web"))
		pass()
		s.remove("web.yaml")
		go e.Apply(t.Context(), ApplyOptions{Confirm: []string{"all"}})
		pass()
		time.AfterFunc(time.Second, func() { close(gate) })
		r, err := e.Do(t.Context(), plan.Stop, []string{"web"})
		want := "web: it was just being removed (manifest gone from " + etc + ", confirmed), and is gone"
		if err != nil || r.Err() == nil || !strings.Contains(r.Err().Error(), want) {
			t.Errorf("%v, %v, want %q", r.Err(), err, want)
		}
	})
}
