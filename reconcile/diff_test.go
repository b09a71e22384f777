package reconcile

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"stead/reconcile/desired"
	"stead/reconcile/plan"
	"stead/reconcile/source"
	"stead/runtime/status"
)

func TestPlan(t *testing.T) {
	stoppedAt := noon.Add(-time.Minute)
	for _, story := range []struct {
		summary  string
		files    map[string]string
		observed []*status.Status
		memory   plan.Memory
		want     string
		adopted  string // names, of what is noted and no change
	}{
		{
			summary:  "as declared: nothing",
			files:    map[string]string{"web.yaml": yaml("web")},
			observed: []*status.Status{running(t, "web")},
		},
		{
			summary: "new manifests are created, a suspended one too",
			files:   map[string]string{"web.yaml": yaml("web"), "all.yaml": yaml("a") + "---\n" + yaml("b", "suspend: true")},
			want: "create a  (manifest all.yaml)\n" +
				"create b  (manifest all.yaml#2, suspended)\n" +
				"create web  (manifest web.yaml)\n",
		},
		{
			summary:  "resources change in place",
			files:    map[string]string{"web.yaml": yaml("web", "resources: {memory: 256Mi}")},
			observed: []*status.Status{running(t, "web", "resources: {memory: 128Mi}")},
			want:     "update web  spec.resources.memory 128Mi → 256Mi  (live)\n",
		},
		{
			summary:  "a command needs a restart",
			files:    map[string]string{"web.yaml": yaml("web", "command: [sleep, '2']")},
			observed: []*status.Status{running(t, "web", "command: [sleep, '1']")},
			want:     "restart web  spec.command [sleep, 1] → [sleep, 2]  (needs a restart)\n",
		},
		{
			summary:  "live and other fields at once: one restart, and which field asked for it",
			files:    map[string]string{"web.yaml": yaml("web", "user: '1000'", "resources: {pids: 10}")},
			observed: []*status.Status{running(t, "web", "resources: {pids: 9}")},
			want:     "restart web  spec.resources.pids 9 → 10, spec.user 0 → 1000  (user needs a restart)\n",
		},
		{
			summary: "suspend stops, the opposite starts, with all other changes",
			files:   map[string]string{"a.yaml": yaml("a", "suspend: true"), "b.yaml": yaml("b")},
			observed: []*status.Status{
				running(t, "a"),
				ended(t, "b", status.Exit{Reason: status.ReasonStopped}, time.Hour, "suspend: true"),
			},
			want: "stop a  spec.suspend false → true  (suspended)\n" +
				"start b  spec.suspend true → false  (no longer suspended)\n",
		},
		{
			summary:  "a suspended container takes changes without running",
			files:    map[string]string{"a.yaml": yaml("a", "suspend: true", "command: [x]"), "b.yaml": yaml("b", "suspend: true", "resources: {pids: 9}")},
			observed: []*status.Status{as(status.Created, running(t, "a", "suspend: true")), as(status.Created, running(t, "b", "suspend: true"))},
			want: "restart a  spec.command [sleep, infinity] → [x]  (suspended: applied, not started)\n" +
				"update b  spec.resources.pids (absent) → 9  (live)\n",
		},
		{
			summary: "stopped by an admin: stays stopped, and is stopped if it runs",
			files:   map[string]string{"a.yaml": yaml("a", "command: [x]"), "b.yaml": yaml("b"), "c.yaml": yaml("c", "resources: {pids: 9}")},
			observed: []*status.Status{
				stoppedBy(stoppedAt, ended(t, "a", status.Exit{Reason: status.ReasonStopped}, time.Minute)),
				stoppedBy(stoppedAt, running(t, "b")),
				stoppedBy(stoppedAt, ended(t, "c", status.Exit{Reason: status.ReasonStopped}, time.Minute)),
			},
			want: "restart a  spec.command [sleep, infinity] → [x]  (stopped by admin: applied, not started)\n" +
				"stop b  (stopped by admin)\n" +
				"update c  spec.resources.pids (absent) → 9  (live)\n",
		},
		{
			summary:  "a manifest in another file is the same manifest",
			files:    map[string]string{"moved.yaml": yaml("web")},
			observed: []*status.Status{running(t, "web")},
			adopted:  "web",
		},
		{
			summary:  "moved and changed: the change says it all",
			files:    map[string]string{"moved.yaml": yaml("web", "resources: {pids: 9}")},
			observed: []*status.Status{running(t, "web")},
			want:     "update web  spec.resources.pids (absent) → 9  (live)\n",
		},
		{
			summary:  "changed by hand: put right",
			files:    map[string]string{"web.yaml": yaml("web")},
			observed: []*status.Status{with(running(t, "web"), func(st *status.Status) { st.Drift = status.Differences{{Field: "cgroup", Found: "frozen"}} })},
			want:     "update web  (changed by hand: cgroup frozen)\n",
		},
		{
			summary: "a mount taken away by hand needs a restart, which what may not run twice does not get",
			files:   map[string]string{"web.yaml": yaml("web"), "job.yaml": yaml("job", "restart: {policy: never}")},
			observed: []*status.Status{
				with(running(t, "job", "restart: {policy: never}"), func(st *status.Status) { st.Lost = status.Differences{{Field: "mount /data", Found: "is gone"}} }),
				with(running(t, "web"), func(st *status.Status) {
					st.Lost, st.Drift = status.Differences{{Field: "mount /data", Found: "is gone"}}, status.Differences{{Field: "cgroup", Found: "frozen"}}
				}),
			},
			want: "restart web  (changed by hand: mount /data is gone, which needs a restart)\n",
		},
		{
			summary: "what the kernel refused is tried again",
			files:   map[string]string{"web.yaml": yaml("web")},
			observed: []*status.Status{with(running(t, "web"), func(st *status.Status) {
				st.Unapplied = []status.Unapplied{{Path: "spec.resources.memory", Wanted: "64Mi", Have: "128Mi", Message: "100Mi are in use"}}
			})},
			want: "update web  (spec.resources.memory still 128Mi: 100Mi are in use)\n",
		},
		{
			summary:  "starting and stopping: they will report",
			files:    map[string]string{"a.yaml": yaml("a", "command: [x]"), "b.yaml": yaml("b", "command: [x]")},
			observed: []*status.Status{as(status.Starting, running(t, "a")), as(status.Stopping, running(t, "b"))},
		},
		{
			summary:  "busy: skipped",
			files:    map[string]string{"a.yaml": yaml("a", "command: [x]"), "b.yaml": yaml("b")},
			observed: []*status.Status{running(t, "a")},
			memory:   plan.Memory{Busy: map[plan.Subject]plan.Verb{plan.ContainerNamed("a"): plan.Restart, plan.ContainerNamed("b"): plan.Create}},
		},
	} {
		t.Run(story.summary, func(t *testing.T) {
			_, p := planOf(story.files, story.observed, story.memory)
			if got := p.String(); got != story.want {
				t.Errorf("got:\n%swant:\n%s", got, story.want)
			}
			var adopted []string
			for _, a := range p.Adoptions {
				adopted = append(adopted, a.Name)
			}
			if got := strings.Join(adopted, " "); got != story.adopted {
				t.Errorf("adopted: %q, want %q", got, story.adopted)
			}
		})
	}
}

func as(s status.State, st *status.Status) *status.Status {
	st.State, st.Pid = s, 0
	return st
}

func stoppedBy(at time.Time, st *status.Status) *status.Status {
	st.StoppedAt = &at
	return st
}

func with(st *status.Status, change func(*status.Status)) *status.Status {
	change(st)
	return st
}

func TestRestartPolicies(t *testing.T) {
	failed := status.Exit{Code: 1, Reason: status.ReasonError}
	clean := status.Exit{Reason: status.ReasonCompleted}
	unknown := status.Exit{Code: -1, Reason: status.ReasonUnknown}
	noRoot := status.Exit{Code: 125, Reason: status.ReasonRootfsMissing, Message: "root /srv/web is not there"}
	stopped := status.Exit{Code: 143, Reason: status.ReasonStopped}
	for _, story := range []struct {
		summary  string
		exit     *status.Exit
		ago      time.Duration
		failures int
		policy   string
		created  bool // State Created: not started on this boot
		want     string
	}{
		{"always starts again after the initial delay", &failed, time.Second, 1, "{policy: always}", false, "start web  (exit code 1, restart 1)\n"},
		{"and not sooner", &failed, 900 * time.Millisecond, 1, "{policy: always}", false, "at +100ms\n"},
		{"the delay doubles", &failed, 3 * time.Second, 3, "{policy: always}", false, "at +1s\n"},
		{"and is capped", &failed, 4 * time.Second, 50, "{policy: always, backoff: {initial: 1s, max: 5s}}", false, "at +1s\n"},
		{"a clean exit is restarted too, never at once", &clean, 0, 0, "{policy: always}", false, "at +1s\n"},
		{"on-failure restarts a failure", &failed, time.Minute, 1, "{policy: on-failure}", false, "start web  (exit code 1, restart 1)\n"},
		{"but no clean exit", &clean, time.Minute, 1, "{policy: on-failure}", false, ""},
		{"an end that nobody saw is a failure", &unknown, time.Minute, 1, "{policy: on-failure}", false, "start web  (exit code unknown, restart 1)\n"},
		{"and counts against the retries", &unknown, time.Minute, 3, "{policy: on-failure, maxRetries: 2}", false, ""},
		{"under never it is not run again", &unknown, time.Minute, 1, "{policy: never}", false, ""},
		{"always runs it again,", &unknown, time.Minute, 1, "{policy: always}", false, "start web  (exit code unknown, restart 1)\n"},
		{"never is never", &failed, time.Minute, 1, "{policy: never}", false, ""},
		{"a start that failed never ran, and is tried again under every policy", &noRoot, time.Minute, 1, "{policy: never}", false, "start web  (root /srv/web is not there, restart 1)\n"},
		{"with the same delays", &noRoot, time.Second, 2, "{policy: never}", false, "at +1s\n"},
		{"retries are counted", &failed, time.Hour, 3, "{policy: always, maxRetries: 3}", false, "start web  (exit code 1, restart 1)\n"},
		{"and end", &failed, time.Hour, 4, "{policy: always, maxRetries: 3}", false, ""},
		{"a clock that was set back delays nothing", &failed, -time.Hour, 1, "{policy: always}", false, "start web  (exit code 1, restart 1)\n"},
		{"after a reboot always starts", &failed, time.Hour, 1, "{policy: always}", true, "start web  (host rebooted)\n"},
		{"and so does what was cut off by a power failure, without counting it as a restart", &unknown, time.Hour, 0, "{policy: on-failure}", true, "start web  (host rebooted)\n"},
		{"what is complete stays so", &clean, time.Hour, 0, "{policy: on-failure}", true, ""},
		{"what failed is not run again under never", &failed, time.Hour, 1, "{policy: never}", true, ""},
		{"what never ran is started", nil, 0, 0, "{policy: never}", true, "start web  (not started on this boot)\n"},
		{"what stead stopped was not complete", &stopped, time.Hour, 0, "{policy: never}", false, "start web  (was stopped)\n"},
	} {
		t.Run(story.summary, func(t *testing.T) {
			restart := "restart: " + story.policy
			st := running(t, "web", restart)
			st.State, st.Pid, st.Exit, st.Failures = status.Exited, 0, story.exit, story.failures
			if story.exit != nil {
				st.FinishedAt = noon.Add(-story.ago)
			}
			if story.created {
				st.State = status.Created
			}
			_, p := planOf(map[string]string{"web.yaml": yaml("web", restart)}, []*status.Status{st}, plan.Memory{})
			got := p.String()
			if !p.Next.IsZero() {
				got += fmt.Sprintf("at +%v\n", p.Next.Sub(noon))
			}
			if got != story.want {
				t.Errorf("got %q, want %q", got, story.want)
			}
		})
	}
}

func TestRemovals(t *testing.T) {
	several := func(n int) (files map[string]string, list []*status.Status) {
		files = map[string]string{}
		for i := range n {
			name := fmt.Sprintf("c%d", i)
			files[name+".yaml"] = yaml(name)
			list = append(list, running(t, name))
		}
		return files, list
	}
	without := func(n, gone int) (map[string]string, []*status.Status) {
		files, list := several(n)
		for i := range gone {
			delete(files, fmt.Sprintf("c%d.yaml", i))
		}
		return files, list
	}
	long := map[string]time.Time{}
	for i := range 9 {
		long[fmt.Sprintf("c%d", i)] = noon.Add(-time.Minute)
	}
	settled := plan.Memory{Settle: 5 * time.Second, Absent: long}
	missing := &fs.PathError{Op: "open", Path: etc, Err: fs.ErrNotExist}

	for _, story := range []struct {
		summary string
		n, gone int
		memory  plan.Memory
		dirErr  error
		want    string
	}{
		{summary: "first seen now: it settles", n: 3, gone: 1, memory: plan.Memory{Settle: 5 * time.Second}, want: "at +5s\n"},
		{summary: "absent for a while: it settles", n: 3, gone: 1, memory: plan.Memory{Settle: 5 * time.Second, Absent: map[string]time.Time{"c0": noon.Add(-3 * time.Second)}}, want: "at +2s\n"},
		{summary: "absent for long enough", n: 3, gone: 1, memory: settled, want: "remove c0  (manifest gone from " + etc + ")\n"},
		{summary: "an explicit apply does not wait", n: 3, gone: 1, memory: plan.Memory{Settle: 5 * time.Second, Prompt: true}, want: "remove c0  (manifest gone from " + etc + ")\n"},
		{summary: "the only container may go", n: 1, gone: 1, memory: settled, want: "remove c0  (manifest gone from " + etc + ")\n"},
		{
			summary: "all of two", n: 2, gone: 2, memory: settled,
			want: "hold c0  (would remove all 2 containers; confirm with stead apply --confirm-removal=c0)\n" +
				"hold c1  (would remove all 2 containers; confirm with stead apply --confirm-removal=c1)\n",
		},
		{
			summary: "confirmed by name, the others stay", n: 2, gone: 2, memory: plan.Memory{Settle: 5 * time.Second, Confirmed: map[string]bool{"c1": true}},
			want: "remove c1  (manifest gone from " + etc + ", confirmed)\n" +
				"hold c0  (would remove all 2 containers; confirm with stead apply --confirm-removal=c0)\n",
		},
		{summary: "three of four", n: 4, gone: 3, memory: settled, want: strings.Join([]string{
			"remove c0  (manifest gone from " + etc + ")", "remove c1  (manifest gone from " + etc + ")", "remove c2  (manifest gone from " + etc + ")", "",
		}, "\n")},
		{summary: "four of eight is half, not more", n: 8, gone: 4, memory: settled, want: strings.Join([]string{
			"remove c0  (manifest gone from " + etc + ")", "remove c1  (manifest gone from " + etc + ")",
			"remove c2  (manifest gone from " + etc + ")", "remove c3  (manifest gone from " + etc + ")", "",
		}, "\n")},
		{summary: "four of seven", n: 7, gone: 4, memory: settled, want: strings.Join([]string{
			"hold c0  (would remove 4 of 7 containers; confirm with stead apply --confirm-removal=c0)",
			"hold c1  (would remove 4 of 7 containers; confirm with stead apply --confirm-removal=c1)",
			"hold c2  (would remove 4 of 7 containers; confirm with stead apply --confirm-removal=c2)",
			"hold c3  (would remove 4 of 7 containers; confirm with stead apply --confirm-removal=c3)", "",
		}, "\n")},
		{
			summary: "the directory vanished", n: 1, memory: settled, dirErr: missing,
			want: "hold c0  (directory " + etc + " is missing; bring it back or confirm with stead apply --confirm-removal=c0)\n",
		},
		{
			summary: "the directory can't be read", n: 1, memory: plan.Memory{Prompt: true}, dirErr: errors.New("input/output error"),
			want: "hold c0  (directory " + etc + " can't be read: input/output error; bring it back or confirm with stead apply --confirm-removal=c0)\n",
		},
	} {
		t.Run(story.summary, func(t *testing.T) {
			files, list := without(story.n, story.gone)
			s := newShelf(files)
			s.dirs[0].Err = story.dirErr
			p := plan.Diff(desired.Declare(s.Read()).Combine(list), list, story.memory, noon)
			got := p.String()
			if !p.Next.IsZero() {
				got += fmt.Sprintf("at +%v\n", p.Next.Sub(noon))
			}
			if got != story.want {
				t.Errorf("got:\n%swant:\n%s", got, story.want)
			}
		})
	}

	t.Run("protected", func(t *testing.T) {
		list := []*status.Status{running(t, "db", "protect: true")}
		_, p := planOf(nil, list, plan.Memory{Prompt: true})
		if want := "hold db  (protected; confirm with stead apply --confirm-removal=db)\n"; p.String() != want {
			t.Errorf("got %q, want %q", p.String(), want)
		}
	})
	t.Run("from a directory that is read no more", func(t *testing.T) {
		st := running(t, "db")
		st.From.File = "/opt/manifests/db.yaml"
		_, p := planOf(nil, []*status.Status{st}, plan.Memory{Prompt: true})
		if want := "hold db  (its manifest /opt/manifests/db.yaml is in no directory that is read; bring it back or confirm with stead apply --confirm-removal=db)\n"; p.String() != want {
			t.Errorf("got %q, want %q", p.String(), want)
		}
	})
	t.Run("what is to be removed is not started first", func(t *testing.T) {
		list := []*status.Status{ended(t, "db", status.Exit{Code: 1, Reason: status.ReasonError}, time.Minute)}
		_, p := planOf(nil, list, plan.Memory{Prompt: true})
		if want := "remove db  (manifest gone from " + etc + ")\n"; p.String() != want {
			t.Errorf("got %q, want %q", p.String(), want)
		}
	})
	t.Run("a removal that was interrupted does not run it once more", func(t *testing.T) {
		for _, reason := range []string{status.ReasonStopped, status.ReasonUnknown} { // the keeper may have died with the daemon
			list := []*status.Status{ended(t, "db", status.Exit{Reason: reason}, time.Minute)}
			_, p := planOf(nil, list, plan.Memory{Settle: 5 * time.Second})
			if len(p.Actions) > 0 {
				t.Errorf("%s: got %q, want nothing until it is removed", reason, p.String())
			}
		}
	})
	t.Run("what is held or settles is kept running meanwhile", func(t *testing.T) {
		list := []*status.Status{ended(t, "db", status.Exit{Code: 1, Reason: status.ReasonError}, time.Minute, "protect: true")}
		_, p := planOf(nil, list, plan.Memory{Prompt: true})
		if want := "start db  (exit code 1, restart 1)\n"; !strings.HasPrefix(p.String(), want) {
			t.Errorf("got %q, want %q first", p.String(), want)
		}
	})
}

func TestAbsencesCountInHealthyReadingsOnly(t *testing.T) {
	list := []*status.Status{running(t, "a"), running(t, "b")}
	s := newShelf(map[string]string{"b.yaml": yaml("b")})
	m := plan.Memory{Confirmed: map[string]bool{"a": true, "b": true, "c": true}}
	pass := func(now time.Time) {
		m = plan.Next(m, plan.Diff(desired.Declare(s.Read()).Combine(list), list, m, now), nil)
	}
	pass(noon)
	if !m.Absent["a"].Equal(noon) || len(m.Absent) != 1 {
		t.Fatalf("absent %v, want a since noon", m.Absent)
	}
	if !m.Confirmed["a"] || len(m.Confirmed) != 1 {
		t.Errorf("confirmed %v: b is declared and c is gone, so only a", m.Confirmed)
	}
	pass(noon.Add(time.Second))
	if !m.Absent["a"].Equal(noon) {
		t.Errorf("absent since %v, want noon still", m.Absent["a"])
	}
	s.health(errors.New("input/output error"))
	pass(noon.Add(2 * time.Second))
	if len(m.Absent) != 0 {
		t.Errorf("absent %v: a directory that can't be read proves nothing", m.Absent)
	}
}

func TestFailuresAreRetriedWithPatience(t *testing.T) {
	s := newShelf(map[string]string{"web.yaml": yaml("web")})
	d := desired.Declare(s.Read()).Combine(nil)
	create := plan.Action{Verb: plan.Create, Subject: plan.ContainerNamed("web"), Spec: d.Lookup("web").Spec}
	var m plan.Memory
	for range 3 {
		failed := plan.Result{Action: create, Ended: noon.Add(-time.Second), Err: errors.New("no space left")}
		m = plan.Next(m, plan.Plan{Actions: []plan.Action{create}}, []plan.Result{failed})
	}
	p := plan.Diff(d, nil, m, noon)
	if p.String() != "" || p.Next.Sub(noon) != 3*time.Second {
		t.Errorf("got %q at +%v, want nothing before +3s", p.String(), p.Next.Sub(noon))
	}
	s.put("web.yaml", yaml("web", "resources: {pids: 9}"))
	d = desired.Declare(s.Read()).Combine(nil)
	p = plan.Diff(d, nil, m, noon)
	if want := "create web  (manifest web.yaml)\n"; p.String() != want {
		t.Errorf("with a changed manifest: got %q, want %q", p.String(), want)
	}
	for count, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 9: 256 * time.Second, 10: 5 * time.Minute, 1000: 5 * time.Minute} {
		if got := (plan.Failure{Count: count, At: noon}).Retry().Sub(noon); got != want {
			t.Errorf("after %d failures: %v, want %v", count, got, want)
		}
	}
}

var _ Manifests = (*source.Source)(nil)

// A change of thousands of fields is told in a line that a person can read.
func TestManyChangesAreCutShort(t *testing.T) {
	a := plan.Action{Verb: plan.Restart, Subject: plan.ContainerNamed("web"), Cause: "needs a restart"}
	for i := range 1000 {
		a.Changes = append(a.Changes, plan.Change{Path: fmt.Sprintf("spec.env.K%d", i), Before: "(hidden)", After: "(hidden)"})
	}
	if line := a.String(); len(line) > 4000 || !strings.HasSuffix(line, ", and 950 more  (needs a restart)") {
		t.Errorf("%d bytes: %s", len(line), line)
	}
}
