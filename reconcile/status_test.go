package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stead/reconcile/desired"
	"stead/reconcile/plan"
	"stead/reconcile/source"
	"stead/reconcile/view"
	"stead/runtime/status"
	"stead/spec"
)

func TestViews(t *testing.T) {
	stoppedAt := noon.Add(-time.Hour)
	failed := status.Exit{Code: 1, Reason: status.ReasonError}
	for _, story := range []struct {
		summary  string
		files    map[string]string
		observed []*status.Status
		memory   plan.Memory
		want     string // name state sync reason: why
	}{
		{"as declared", map[string]string{"web.yaml": yaml("web")}, []*status.Status{running(t, "web")}, plan.Memory{}, "web Running synced : \n"},
		{"not there yet", map[string]string{"web.yaml": yaml("web")}, nil, plan.Memory{}, "web Pending pending : to be created\n"},
		{
			"being created", map[string]string{"web.yaml": yaml("web")}, nil, plan.Memory{Busy: map[plan.Subject]plan.Verb{plan.ContainerNamed("web"): plan.Create}},
			"web Pending pending : being created\n",
		},
		{
			"could not be created", map[string]string{"web.yaml": yaml("web")}, nil,
			plan.Memory{Failures: map[plan.Subject]plan.Failure{plan.ContainerNamed("web"): {Verb: plan.Create, Message: "no space left", Count: 4, At: noon}}},
			"web BackOff error ActionFailed: create failed: no space left, next try in 8s\n",
		},
		{
			"to be changed", map[string]string{"web.yaml": yaml("web", "command: [x]")}, []*status.Status{running(t, "web")}, plan.Memory{},
			"web Running pending : needs a restart\n",
		},
		{
			"in back-off", map[string]string{"web.yaml": yaml("web")},
			[]*status.Status{with(ended(t, "web", failed, 0), func(st *status.Status) { st.Failures = 4 })}, plan.Memory{},
			"web BackOff synced Error: exit code 1, next start in 8s\n",
		},
		{
			"failed for good", map[string]string{"web.yaml": yaml("web", "restart: {policy: never}")},
			[]*status.Status{ended(t, "web", failed, 0, "restart: {policy: never}")}, plan.Memory{},
			"web Failed synced Error: exit code 1, restart policy never\n",
		},
		{
			"out of memory", map[string]string{"web.yaml": yaml("web", "restart: {policy: never}")},
			[]*status.Status{ended(t, "web", status.Exit{Code: 137, Signal: "KILL", Reason: status.ReasonOOMKilled, Message: "killed at its memory limit of 64Mi"}, 0, "restart: {policy: never}")}, plan.Memory{},
			"web Failed synced OOMKilled: killed at its memory limit of 64Mi, restart policy never\n",
		},
		{
			"suspended", map[string]string{"web.yaml": yaml("web", "suspend: true")},
			[]*status.Status{as(status.Created, running(t, "web", "suspend: true"))}, plan.Memory{}, "web Stopped synced Suspended: suspended\n",
		},
		{
			"stopped by an admin", map[string]string{"web.yaml": yaml("web")}, []*status.Status{stoppedBy(stoppedAt, as(status.Exited, running(t, "web")))}, plan.Memory{},
			"web Stopped synced StoppedByAdmin: stopped by admin since 2026-11-23T11:00:00Z\n",
		},
		{
			"stopping, removing", map[string]string{"a.yaml": yaml("a")},
			[]*status.Status{as(status.Stopping, running(t, "a")), running(t, "b")}, plan.Memory{Busy: map[plan.Subject]plan.Verb{plan.ContainerNamed("a"): plan.Stop, plan.ContainerNamed("b"): plan.Remove}, Prompt: true},
			"a Stopping pending : \nb Removing pending : manifest gone from /etc/stead/manifests\n",
		},
		{
			"a broken manifest, of one that runs and of one that never did",
			map[string]string{"web.yaml": strings.Replace(yaml("web"), "command:", "comand:", 1), "new.yaml": strings.Replace(yaml("new"), "command:", "comand:", 1), "x.yaml": ""},
			[]*status.Status{running(t, "web")}, plan.Memory{},
			"/etc/stead/manifests/x.yaml Invalid error InvalidManifest: x.yaml:1: holds no manifest (the file is empty or has only comments)\n" +
				"new Invalid error InvalidManifest: new.yaml:7:3: spec.comand: unknown field; did you mean command?\n" +
				"web Running error InvalidManifest: web.yaml:7:3: spec.comand: unknown field; did you mean command?\n",
		},
		{
			"two claims are one row", map[string]string{"a.yaml": yaml("web"), "b.yaml": yaml("web")}, nil, plan.Memory{},
			"web Invalid error InvalidManifest: a.yaml:3:18: metadata.name: \"web\" is declared by /etc/stead/manifests/b.yaml:1 too: one name, one manifest; neither is created until one is renamed or deleted\n",
		},
		{
			"held", nil, []*status.Status{running(t, "db", "protect: true")}, plan.Memory{},
			"db Running held RemovalHeld: protected; confirm with stead apply --confirm-removal=db\n",
		},
		{
			"refused by the kernel", map[string]string{"web.yaml": yaml("web")},
			[]*status.Status{with(running(t, "web"), func(st *status.Status) {
				st.Unapplied = []status.Unapplied{{Path: "spec.resources.memory", Have: "128Mi", Message: "100Mi are in use"}}
			})},
			plan.Memory{}, "web Running error Unapplied: spec.resources.memory still 128Mi: 100Mi are in use\n",
		},
		{
			"changed by hand, and not run twice", map[string]string{"job.yaml": yaml("job", "restart: {policy: never}")},
			[]*status.Status{with(running(t, "job", "restart: {policy: never}"), func(st *status.Status) { st.Lost = status.Differences{{Field: "mount /data", Found: "is gone"}} })},
			plan.Memory{}, "job Running error ChangedByHand: changed by hand: mount /data is gone; stead restart job puts it right\n",
		},
	} {
		t.Run(story.summary, func(t *testing.T) {
			d := desired.Declare(newShelf(story.files).Read()).Combine(story.observed)
			var got strings.Builder
			for _, v := range view.Containers(d, story.observed, story.memory, noon) {
				fmt.Fprintf(&got, "%s %s %s %s: %s\n", v.Name, v.State, v.Sync, v.Reason, v.Why)
				if v.Ready != (v.State == view.Running) {
					t.Errorf("%s: ready %v while %s", v.Name, v.Ready, v.State)
				}
			}
			if got.String() != story.want {
				t.Errorf("got:\n%swant:\n%s", got.String(), story.want)
			}
		})
	}
}

func TestViewAsJSON(t *testing.T) {
	st := running(t, "web")
	st.Applied.Metadata.Labels = map[string]string{"app": "web"}
	st.From.Document = 1
	file := map[string]string{"web.yaml": yaml("first") + "---\n" + yaml("web")}
	list := []*status.Status{st}
	d := desired.Declare(newShelf(file).Read()).Combine(list)
	got, err := json.Marshal(view.Containers(d, list, plan.Memory{Busy: map[plan.Subject]plan.Verb{}}, noon)[1])
	if err != nil {
		t.Fatal(err)
	}
	want := `{"name":"web","state":"Running","sync":"pending","ready":true,"pid":100,"restarts":0,"exitCode":null,"reason":"","message":"",` +
		`"why":"live","manifest":"/etc/stead/manifests/web.yaml#2","createdAt":"2026-11-23T11:00:00Z","startedAt":"2026-11-23T11:00:00Z","labels":{"app":"web"}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestReport(t *testing.T) {
	s := newShelf(map[string]string{"web.yaml": yaml("web"), "bad.yaml": "a: ["})
	e := newEngine(s, newFake(running(t, "web"), running(t, "db", "protect: true")))
	r, err := e.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !r.Since.IsZero() || len(r.Sources) != 1 || !r.Sources[0].Healthy || r.Sources[0].Files != 2 {
		t.Errorf("sources %+v, since %v", r.Sources, r.Since)
	}
	if len(r.Held) != 1 || r.Held[0].Name != "db" || len(r.Broken) != 1 || r.Broken[0].File != etc+"/bad.yaml" {
		t.Errorf("held %+v, broken %+v", r.Held, r.Broken)
	}
	var names []string
	for _, d := range r.Differs {
		names = append(names, d.Name)
	}
	if strings.Join(names, " ") != etc+"/bad.yaml db" {
		t.Errorf("differs: %v", names)
	}
	s.health(errors.New("input/output error"))
	r, _ = e.Status(t.Context())
	if r.Sources[0].Healthy || r.Sources[0].Error != "input/output error" {
		t.Errorf("sources %+v", r.Sources)
	}
}

func TestSearchPathNeedsNotBeComplete(t *testing.T) {
	missing := &fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}
	st := running(t, "web")
	for _, story := range []struct {
		summary  string
		dirs     []source.Dir
		observed []*status.Status
		want     string
	}{
		{"one is there", []source.Dir{{Path: "/usr", Err: missing}, {Path: etc}}, nil, "true true"},
		{"none is", []source.Dir{{Path: "/usr", Err: missing}, {Path: etc, Err: missing}}, nil, "false false"},
		{"the one that a container came from is not", []source.Dir{{Path: "/usr"}, {Path: etc, Err: missing}}, []*status.Status{st}, "true false"},
		{"one that can't be read is not just missing", []source.Dir{{Path: "/usr"}, {Path: etc, Err: fs.ErrPermission}}, nil, "true false"},
	} {
		s := newShelf(nil)
		s.dirs = story.dirs
		e := newEngine(s, newFake(story.observed...))
		r, err := e.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(r.Sources[0].Healthy, r.Sources[1].Healthy); got != story.want {
			t.Errorf("%s: healthy %s, want %s", story.summary, got, story.want)
		}
		plan, _ := e.Plan(t.Context())
		if n := strings.Count(story.want, "false"); len(plan.Errors) != n {
			t.Errorf("%s: plan says %q, want %d errors", story.summary, plan.Errors, n)
		}
	}
}

// No status waits for a directory of a container: warnings are found beside the loop.
func TestStatusWaitsForNoDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, rt := newShelf(map[string]string{"web.yaml": yaml("web")}), newFake(running(t, "web"))
		e := newEngine(s, rt)
		answered := make(chan struct{})
		e.Exposed = func(c *spec.Container) []string {
			<-answered
			return []string{"/srv/" + c.Metadata.Name}
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = e.Run(ctx) }()
		pass()
		began := time.Now()
		r, err := e.Status(ctx)
		if err != nil || len(r.Containers) != 1 || len(r.Notes) != 0 || time.Since(began) != 0 {
			t.Errorf("while a directory does not answer: %+v, %v, after %s", r, err, time.Since(began))
		}
		close(answered)
		pass()
		if r, err = e.Status(ctx); err != nil || len(r.Notes) != 1 || !strings.HasPrefix(r.Notes[0], "web: its root can write to /srv/web, where ") {
			t.Errorf("afterwards: notes %q, %v", r.Notes, err)
		}
		cancel()
		synctest.Wait()
	})
}
