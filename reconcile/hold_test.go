package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stead/reconcile/events"
	"stead/reconcile/plan"
	"stead/reconcile/view"
	"stead/runtime/status"
)

func onHold(reason string) status.Hold {
	return status.Hold{Since: noon.Add(-time.Hour), Reason: reason}
}

func TestPlanOnHold(t *testing.T) {
	web := onHold("surgery")
	own := &status.Holds{Containers: map[string]status.Hold{"web": web}}
	host := &status.Holds{Host: &web}
	for _, story := range []struct {
		summary  string
		files    map[string]string
		observed []*status.Status
		holds    *status.Holds
		want     string
	}{
		{
			"a change waits, and says for what", map[string]string{"web.yaml": yaml("web", "resources: {pids: 9}")},
			[]*status.Status{running(t, "web")}, own,
			"hold web  spec.resources.pids (absent) → 9  (update waits; on hold since 2026-11-23T11:00:00Z: surgery; end it with stead release web)\n",
		},
		{
			"another container's does not", map[string]string{"web.yaml": yaml("web"), "db.yaml": yaml("db", "resources: {pids: 9}")},
			[]*status.Status{running(t, "web"), running(t, "db")}, own,
			"update db  spec.resources.pids (absent) → 9  (live)\n",
		},
		{
			"the whole host: nothing is changed, created or removed", map[string]string{"web.yaml": yaml("web", "command: [x]"), "new.yaml": yaml("new")},
			[]*status.Status{running(t, "web"), running(t, "gone")}, host,
			"hold gone  (manifest gone; on hold since 2026-11-23T11:00:00Z: surgery; end it with stead release)\n" +
				"hold new  (create waits; on hold since 2026-11-23T11:00:00Z: surgery; end it with stead release)\n" +
				"hold web  spec.command [sleep, infinity] → [x]  (restart waits; on hold since 2026-11-23T11:00:00Z: surgery; end it with stead release)\n",
		},
		{
			"what runs is kept up by its policy", map[string]string{"web.yaml": yaml("web", "command: [x]")},
			[]*status.Status{ended(t, "web", status.Exit{Code: 1, Reason: status.ReasonError}, time.Hour)}, own,
			"start web  (exit code 1, restart 1)\n" +
				"hold web  spec.command [sleep, infinity] → [x]  (restart waits; on hold since 2026-11-23T11:00:00Z: surgery; end it with stead release web)\n",
		},
		{
			"what was changed by hand stays", map[string]string{"web.yaml": yaml("web")},
			[]*status.Status{with(running(t, "web"), func(st *status.Status) {
				st.Drift, st.Lost = status.Differences{{Field: "cgroup", Found: "frozen"}}, status.Differences{{Field: "mount /data", Found: "is gone"}}
			})}, own, "",
		},
		{
			"a manifest that moved is no change", map[string]string{"moved.yaml": yaml("web")},
			[]*status.Status{running(t, "web")}, own, "",
		},
	} {
		t.Run(story.summary, func(t *testing.T) {
			m := plan.Memory{Holds: story.holds, Confirmed: map[string]bool{"gone": true}}
			if _, plan := planOf(story.files, story.observed, m); plan.String() != story.want {
				t.Errorf("plan:\n%swant:\n%s", plan, story.want)
			}
		})
	}
}

// recorder keeps the events of an engine.
type recorder struct {
	mu   sync.Mutex
	list []string
}

func (r *recorder) record(list ...events.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range list {
		line := string(e.Type)
		for _, part := range []string{e.Container, e.Action, e.File, e.Cause, e.Message} {
			if part != "" {
				line += " | " + part
			}
		}
		for _, c := range e.Changes {
			line += fmt.Sprintf(" | %s %s → %s", c.Path, c.Before, c.After)
		}
		r.list = append(r.list, line)
	}
	return nil
}

func (r *recorder) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := lines(r.list)
	r.list = nil
	return text
}

func TestHoldAndRelease(t *testing.T) {
	files := map[string]string{"web.yaml": yaml("web", "env: {KEY: secret}")}
	story(t, files, []*status.Status{running(t, "web", "env: {KEY: secret}")}, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		if err := e.Hold(t.Context(), HoldOptions{Names: []string{"web", "wbe"}}); !errors.Is(err, ErrNoContainer) {
			t.Errorf("hold of a mistyped name: %v", err)
		}
		if err := e.Hold(t.Context(), HoldOptions{Names: []string{"web"}, Reason: "surgery"}); err != nil {
			t.Fatal(err)
		}
		pass()
		if v := viewOf(t, e, "web"); v.Sync != view.Synced || !strings.HasPrefix(v.Why, "on hold since ") {
			t.Errorf("without a change: %+v", v)
		}
		s.put("web.yaml", yaml("web", "env: {KEY: other}"))
		pass()
		wantActed(t, rt, "hold web")
		if v := viewOf(t, e, "web"); v.Sync != view.Held || v.Reason != view.ReasonOnHold {
			t.Errorf("with a change: %+v", v)
		}
		result, err := e.Apply(t.Context(), ApplyOptions{})
		if err != nil || !result.Held() || result.Err() != nil {
			t.Errorf("apply: %+v, %v", result, err)
		}
		if _, err := e.Do(t.Context(), plan.Restart, []string{"web"}); err != nil {
			t.Error(err)
		}
		if st := rt.status("web"); st.Applied.Spec.Env["KEY"] != "secret" {
			t.Error("a restart by hand brought the change in")
		}
		if err := e.Release(t.Context(), []string{"web"}); err != nil {
			t.Fatal(err)
		}
		pass()
		wantActed(t, rt, "hold web", "restart web", "release web", "restart web")
		for name, missing := range map[string]bool{"web": false, "wbe": true} {
			if err := e.Release(t.Context(), []string{name}); err == nil || errors.Is(err, ErrNoContainer) != missing {
				t.Errorf("release of %s, which is not on hold: %v", name, err)
			}
		}
	})
}

// Everything that happens is recorded once, with its cause, and no secret.
func TestEventsAreRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		s := newShelf(map[string]string{"web.yaml": yaml("web", "env: {KEY: secret}")})
		rt := newFake()
		engine := func(exits map[string]time.Time) (e *Engine, end func()) {
			e = newEngine(s, rt)
			e.Record, e.Exits = r.record, exits
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); _ = e.Run(ctx) }()
			pass()
			return e, func() { cancel(); <-done }
		}
		_, end := engine(nil)
		want := func(lines ...string) {
			t.Helper()
			pass()
			if got := r.said(); got != strings.Join(lines, "\n")+"\n" {
				t.Errorf("recorded:\n%swant:\n%s", got, strings.Join(lines, "\n"))
			}
		}
		want("started | the daemon started", "done | web | create | manifest web.yaml")
		s.put("web.yaml", yaml("web", "env: {KEY: other}"))
		want("done | web | restart | needs a restart | spec.env.KEY (hidden) → (hidden)")
		s.put("bad.yaml", "{")
		pass()
		if got := r.said(); !strings.HasPrefix(got, "invalid | "+etc+"/bad.yaml | ") || strings.Count(got, "\n") != 1 {
			t.Errorf("a broken file: %s", got)
		}
		s.put("bad.yaml", yaml("web2", "suspend: true"))
		want("valid | "+etc+"/bad.yaml", "done | web2 | create | manifest bad.yaml, suspended")
		rt.exit("web", 3)
		want("exited | web | exit code 3")
		exits := map[string]time.Time{"web": rt.status("web").FinishedAt}
		end()
		e, end := engine(exits)
		want("started | the daemon started") // the end is known
		rt.set(func() { rt.fail["start web"] = errors.New("no space left on device") })
		time.Sleep(time.Second)
		want("failed | web | start | exit code 3, restart 1 | no space left on device")
		if err := e.Hold(t.Context(), HoldOptions{Reason: "moving house"}); err != nil {
			t.Fatal(err)
		}
		want("held | put on hold by admin | moving house")
		end()
	})
}

func TestJournalThatCannotBeWritten(t *testing.T) {
	e := newEngine(newShelf(nil), newFake())
	e.Record = func(...events.Event) error { return errors.New("disk full") }
	var log strings.Builder
	e.Log = slog.New(slog.NewTextHandler(&log, nil))
	e.init()
	for range 3 {
		e.journal.record(events.Event{Type: events.Done})
	}
	if n := strings.Count(log.String(), "cannot write the event journal"); n != 1 {
		t.Errorf("said %d times:\n%s", n, log.String())
	}
	if !slices.Contains(strings.Fields(log.String()), `error="disk`) {
		t.Errorf("log: %s", log.String())
	}
}
