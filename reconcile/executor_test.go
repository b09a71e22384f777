package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stead/reconcile/plan"
	"stead/reconcile/view"
	"stead/runtime/status"
)

func TestSlowStopDelaysNobody(t *testing.T) {
	files, list := map[string]string{}, []*status.Status{}
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
		e := newEngine(s, rt)
		e.Workers = 1
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = e.Run(ctx) }()
		pass()
		s.put("web.yaml", yaml("web"))
		pass()
		if st := rt.status("web"); st == nil || st.State != status.Running {
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
		if v := viewOf(t, e, "slow-07"); v.State != view.Stopped || v.Sync != view.Synced {
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

// However long they take, only so many actions are under way.
func TestActionsUnderWayAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newFake()
		e := newExecutor(rt, nil, 2, func(*job) {}, func() {})
		gate := make(chan struct{})
		const n = 2*maxSlow + 2
		for i := range n {
			name := fmt.Sprintf("stuck-%d", i)
			rt.set(func() { rt.block["create "+name] = gate })
			e.start(t.Context(), plan.Action{Verb: plan.Create, Subject: plan.ContainerNamed(name), Spec: running(t, name).Applied})
		}
		time.Sleep(n * patience)
		synctest.Wait()
		if calls := len(acted(rt)); calls != 2+maxSlow {
			t.Errorf("%d actions are under way, want %d", calls, 2+maxSlow)
		}
		close(gate)
		e.wg.Wait()
		if calls := len(acted(rt)); calls != n || len(e.quick)+len(e.slow) != 0 {
			t.Errorf("%d actions in the end, want %d; %d slots are taken", calls, n, len(e.quick)+len(e.slow))
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
		if v.State != view.BackOff || v.Sync != view.SyncError || v.Reason != view.ReasonActionFailed || v.Message != "no space left on device" {
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
		st.Unapplied = []status.Unapplied{{Path: "spec.resources.memory", Wanted: "64Mi", Have: "128Mi", Message: "100Mi are in use"}}
		rt.set(func() { rt.by["web"] = st })
		signal(rt.wake)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(acted(rt)); n < 15 || n > 25 {
			t.Errorf("%d calls in an hour, want about 20", n)
		}
		v := viewOf(t, e, "web")
		if v.Sync != view.SyncError || !strings.Contains(v.Why, "spec.resources.memory still 128Mi: 100Mi are in use") {
			t.Errorf("%+v", v)
		}
		rt.set(func() { rt.by["web"].Unapplied = nil })
		time.Sleep(time.Hour)
		synctest.Wait()
		if v := viewOf(t, e, "web"); v.Sync != view.Synced || v.Why != "" {
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
		if v.State != view.BackOff || v.Sync != view.Synced || v.Reason != status.ReasonRootfsMissing || *v.ExitCode != 125 || v.Why != "root /srv/web is not there, next start in 2s" {
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
		if v := viewOf(t, e, "web"); v.State != view.Running {
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
	e := newExecutor(rt, nil, 1, func(*job) {}, func() {})
	first, started := e.start(t.Context(), plan.Action{Verb: plan.Stop, Subject: plan.ContainerNamed("web")})
	if !started {
		t.Fatal("not started")
	}
	if second, started := e.start(t.Context(), plan.Action{Verb: plan.Remove, Subject: plan.ContainerNamed("web")}); started || second != first {
		t.Error("a second action for a busy container was started")
	}
	close(rt.block["stop web"])
	<-first.ended
	if _, started := e.start(t.Context(), plan.Action{Verb: plan.Remove, Subject: plan.ContainerNamed("web")}); !started {
		t.Error("the container is not free when its action has ended")
	}
	e.wg.Wait()
}

// How long an action took does not count the wait for its turn.
func TestExecutorCountsFromTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newFake()
		gate := make(chan struct{})
		rt.block["create web"] = gate
		e := newExecutor(rt, nil, 1, func(*job) {}, func() {})
		began := time.Now()
		e.start(t.Context(), plan.Action{Verb: plan.Create, Subject: plan.ContainerNamed("web"), Spec: running(t, "web").Applied})
		synctest.Wait()
		next, _ := e.start(t.Context(), plan.Action{Verb: plan.Create, Subject: plan.ContainerNamed("db"), Spec: running(t, "db").Applied})
		time.Sleep(patience / 2)
		close(gate)
		<-next.ended
		if waited := next.since.Sub(began); waited != patience/2 {
			t.Errorf("it counts from %v on, want %v", waited, patience/2)
		}
		e.wg.Wait()
	})
}

// A plan names what is under way: until it has ended the host is not as declared.
func TestPlanNamesWhatIsUnderWay(t *testing.T) {
	story(t, map[string]string{"web.yaml": yaml("web")}, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		gate := make(chan struct{})
		rt.set(func() { rt.block["restart web"] = gate })
		s.put("web.yaml", yaml("web", "command: [x]"))
		pass()
		want := "restart web  spec.command [sleep, infinity] → [x]  (needs a restart; under way)\n"
		if p, err := e.Plan(t.Context()); err != nil || p.String() != want {
			t.Errorf("while it is under way: %q, %v; want %q", p, err, want)
		}
		close(gate)
		pass()
		if p, err := e.Plan(t.Context()); err != nil || !p.Empty() {
			t.Errorf("afterwards: %q, %v; want nothing", p, err)
		}
	})
}
