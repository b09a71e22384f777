package reconcile

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"stead/reconcile/desired"
	"stead/reconcile/plan"
	"stead/reconcile/source"
	"stead/runtime/status"
	"stead/spec"
)

// replicas are containers that run, of a manifest with replicas in the file of its name.
func replicas(t testing.TB, name string, n int, lines ...string) (list []*status.Status) {
	t.Helper()
	doc := spec.Parser{}.Parse("test.yaml", []byte(yaml(name, append([]string{fmt.Sprintf("replicas: %d", n)}, lines...)...)))[0]
	if doc.Replicas == nil {
		t.Fatal(doc.Errors)
	}
	for _, one := range doc.Replicas {
		st := running(t, one.Metadata.Name)
		st.Applied, st.From.File = one.Container, etc+"/"+name+".yaml"
		list = append(list, st)
	}
	return list
}

func TestPlanReplicas(t *testing.T) {
	file := func(n int, lines ...string) map[string]string {
		return map[string]string{"web.yaml": yaml("web", append([]string{fmt.Sprintf("replicas: %d", n)}, lines...)...)}
	}
	with := func(files map[string]string, name, content string) map[string]string {
		files[name] = content
		return files
	}
	onHold := plan.Memory{Holds: &status.Holds{Containers: map[string]status.Hold{"web": {Since: noon, Reason: "surgery"}}}}
	advice := "on hold since 2026-11-23T12:00:00Z: surgery; end it with stead release web"
	for _, story := range []struct {
		summary  string
		files    map[string]string
		observed []*status.Status
		memory   plan.Memory
		want     string
	}{
		{summary: "as declared: nothing", files: file(3), observed: replicas(t, "web", 3)},
		{
			summary: "a new manifest: all of them", files: file(2),
			want: "create web-0  (manifest web.yaml)\ncreate web-1  (manifest web.yaml)\n",
		},
		{
			summary: "raised: the new ones only", files: file(3), observed: replicas(t, "web", 2),
			want: "create web-2  (manifest web.yaml)\n",
		},
		{
			summary: "lowered: at once, however many", files: file(1), observed: replicas(t, "web", 4), memory: plan.Memory{Settle: time.Minute},
			want: "remove web-1  (replicas lowered to 1 in web.yaml)\nremove web-2  (replicas lowered to 1 in web.yaml)\nremove web-3  (replicas lowered to 1 in web.yaml)\n",
		},
		{
			summary: "lowered, but protected", files: file(1, "protect: true"), observed: replicas(t, "web", 2, "protect: true"),
			want: "hold web-1  (replicas lowered to 1 in web.yaml; protected; confirm with stead apply --confirm-removal=web-1)\n",
		},
		{
			summary: "lowered, protected, confirmed by the manifest's name", files: file(1, "protect: true"), observed: replicas(t, "web", 2, "protect: true"),
			memory: plan.Memory{Confirm: []string{"web"}},
			want:   "remove web-1  (replicas lowered to 1 in web.yaml, confirmed)\n",
		},
		{
			summary: "the manifest gone: patient, and held as a mass", files: map[string]string{}, observed: replicas(t, "web", 2),
			want: "hold web-0  (would remove all 2 containers; confirm with stead apply --confirm-removal=web-0)\nhold web-1  (would remove all 2 containers; confirm with stead apply --confirm-removal=web-1)\n",
		},
		{
			summary: "lowered beside a mass removal: only that is held", files: file(2),
			observed: append(replicas(t, "web", 4), running(t, "a"), running(t, "b"), running(t, "c"), running(t, "d")),
			want: "remove web-2  (replicas lowered to 2 in web.yaml)\nremove web-3  (replicas lowered to 2 in web.yaml)\n" +
				"hold a  (would remove 4 of 6 containers; confirm with stead apply --confirm-removal=a)\nhold b  (would remove 4 of 6 containers; confirm with stead apply --confirm-removal=b)\n" +
				"hold c  (would remove 4 of 6 containers; confirm with stead apply --confirm-removal=c)\nhold d  (would remove 4 of 6 containers; confirm with stead apply --confirm-removal=d)\n",
		},
		{
			summary: "a change is one of each", files: file(2, "resources: {pids: 9}"), observed: replicas(t, "web", 2),
			want: "update web-0  spec.resources.pids (absent) → 9  (live)\nupdate web-1  spec.resources.pids (absent) → 9  (live)\n",
		},
		{
			summary: "an error keeps all of them, the surplus too", files: map[string]string{"web.yaml": yaml("web", "replicas: 1", "user: '-'")}, observed: replicas(t, "web", 3),
		},
		{
			summary: "no replicas is an error, not a removal", files: file(0), observed: replicas(t, "web", 3),
		},
		{
			summary: "replicas for the first time: web becomes web-0", files: file(2), observed: []*status.Status{running(t, "web")},
			want: "rename web to web-0  replica (absent) → 0 of web, spec.hostname web → web-0  (replicas in web.yaml, needs a restart)\ncreate web-1  (manifest web.yaml)\n",
		},
		{
			summary: "no replicas any more: web-0 becomes web, the others go", files: map[string]string{"web.yaml": yaml("web")}, observed: replicas(t, "web", 2),
			want: "rename web-0 to web  replica 0 of web → (absent), spec.hostname web-0 → web  (no replicas in web.yaml, needs a restart)\nremove web-1  (no replicas in web.yaml)\n",
		},
		{
			summary: "web-0 is there already: web is removed as without a manifest", files: file(1), observed: append(replicas(t, "web", 1), running(t, "web")),
			memory: plan.Memory{Settle: time.Minute},
		},
		{
			summary: "a rename under way: neither name is touched", files: file(1), observed: []*status.Status{running(t, "web")},
			memory: plan.Memory{Busy: map[plan.Subject]plan.Verb{plan.ContainerNamed("web"): plan.Rename, plan.ContainerNamed("web-0"): plan.Rename}},
		},
		{
			summary: "web is stopped by an admin's order at this moment: renamed later", files: file(1), observed: []*status.Status{running(t, "web")},
			memory: plan.Memory{Busy: map[plan.Subject]plan.Verb{plan.ContainerNamed("web"): plan.Stop}},
		},
		{
			summary: "on hold: no rename", files: file(1), observed: []*status.Status{running(t, "web")}, memory: onHold,
			want: "hold web to web-0  replica (absent) → 0 of web, spec.hostname web → web-0  (rename waits; " + advice + ")\n",
		},
		{
			summary: "the manifest's name on hold: all of them, new ones too", files: file(3, "resources: {pids: 9}"), observed: replicas(t, "web", 2), memory: onHold,
			want: "hold web-0  spec.resources.pids (absent) → 9  (update waits; " + advice + ")\nhold web-1  spec.resources.pids (absent) → 9  (update waits; " + advice + ")\nhold web-2  (create waits; " + advice + ")\n",
		},
		{
			summary: "another manifest has a name of them: neither", files: with(file(2), "other.yaml", yaml("web-1")),
		},
		{
			summary: "another manifest has their name: neither", files: with(file(2), "other.yaml", yaml("web")),
		},
		{
			summary: "another manifest has a name of them, and its container runs: that one keeps it", files: with(file(2), "web-1.yaml", yaml("web-1", "resources: {pids: 9}")), observed: []*status.Status{running(t, "web-1")},
			want: "update web-1  spec.resources.pids (absent) → 9  (live)\n",
		},
		{
			summary: "another manifest takes their name, and they run: they keep it", files: with(file(3), "other.yaml", yaml("web")), observed: replicas(t, "web", 2),
			want: "create web-2  (manifest web.yaml)\n",
		},
		{
			summary: "two manifests with replicas and one name", files: with(file(2), "z.yaml", yaml("web", "replicas: 1")), observed: replicas(t, "web", 2),
		},
	} {
		t.Run(story.summary, func(t *testing.T) {
			if _, p := planOf(story.files, story.observed, story.memory); p.String() != story.want {
				t.Errorf("got\n%swant\n%s", p, story.want)
			}
		})
	}
}

// A replica that came from a directory that can't be read now is not lowered by a manifest that
// its own one replaced.
func TestReplicasOfADirectoryThatIsAway(t *testing.T) {
	s := newShelf(map[string]string{"web.yaml": yaml("web", "replicas: 1")})
	s.dirs = []source.Dir{{Path: etc}, {Path: "/run/stead/manifests", Err: errors.New("away")}}
	observed := replicas(t, "web", 2)
	for _, st := range observed {
		st.From.File = "/run/stead/manifests/web.yaml"
	}
	d := desired.Declare(s.Read()).Combine(observed)
	if p := plan.Diff(d, observed, plan.Memory{Prompt: true}, noon); len(p.Actions) > 0 {
		t.Errorf("got\n%s", p)
	}
}

// The errors of contested names of replicas are said once, where they stand.
func TestReplicasContested(t *testing.T) {
	d, _ := planOf(map[string]string{"web.yaml": yaml("web", "replicas: 2"), "b.yaml": yaml("web-1")}, replicas(t, "web", 2), plan.Memory{})
	got := strings.Join(d.ErrorLines(), "\n")
	want := etc + "/b.yaml:3:18: metadata.name: \"web-1\" is taken by " + etc + "/web.yaml:1: one name, one manifest; rename or delete one"
	if got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// From 3 to 1 and back: the first keeps running, the others go and come.
func TestScale(t *testing.T) {
	story(t, map[string]string{"web.yaml": yaml("web", "replicas: 3")}, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		wantActed(t, rt, "create web-0", "create web-1", "create web-2")
		s.put("web.yaml", yaml("web", "replicas: 1"))
		pass()
		wantActed(t, rt, "create web-0", "create web-1", "create web-2", "remove web-1", "remove web-2")
		s.put("web.yaml", yaml("web", "replicas: 2"))
		pass()
		wantActed(t, rt, "create web-0", "create web-1", "create web-2", "remove web-1", "remove web-2", "create web-1")
		if v := viewOf(t, e, "web-0"); v.Group != "web" || v.Pid != rt.status("web-0").Pid {
			t.Errorf("got %+v", v)
		}
	})
}

// web becomes web-0 and web again, through one call each, and what it is waiting for is said.
func TestRenameStory(t *testing.T) {
	story(t, map[string]string{"web.yaml": yaml("web")}, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		gate := make(chan struct{})
		rt.set(func() { rt.block["rename web web-0"] = gate })
		s.put("web.yaml", yaml("web", "replicas: 2"))
		pass()
		if v := viewOf(t, e, "web"); v.Sync != "pending" || !strings.HasPrefix(v.Why, "replicas in web.yaml") {
			t.Errorf("meanwhile: %+v", v)
		}
		close(gate)
		pass()
		s.put("web.yaml", yaml("web"))
		pass()
		wantActed(t, rt, "create web", "rename web web-0", "create web-1", "rename web-0 web", "remove web-1")
		if v := viewOf(t, e, "web"); v.State != "Running" || v.Group != "" {
			t.Errorf("got %+v", v)
		}
	})
}

// A verb takes the manifest's name for all its replicas.
func TestVerbsTakeTheManifestsName(t *testing.T) {
	story(t, map[string]string{"web.yaml": yaml("web", "replicas: 2"), "other.yaml": yaml("other")}, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		r, err := e.Do(t.Context(), plan.Stop, []string{"web", "web-1"})
		if err != nil || len(r.Containers) != 2 || r.Containers[1].Name != "web-1" {
			t.Fatalf("got %+v, %v", r, err)
		}
		wantActed(t, rt, "create other", "create web-0", "create web-1", "stop web-0", "stop web-1")
		if _, err := e.Do(t.Context(), plan.Stop, []string{"we"}); !errors.Is(err, ErrNoContainer) {
			t.Errorf("got %v", err)
		}
		if err := e.Hold(t.Context(), HoldOptions{Names: []string{"web"}, Reason: "why"}); err != nil {
			t.Fatal(err)
		}
		if err := e.Release(t.Context(), []string{"web-0"}); err == nil || err.Error() != "release web-0: all of web is on hold; stead release web ends that" {
			t.Errorf("got %v", err)
		}
		if err := e.Release(t.Context(), []string{"web"}); err != nil {
			t.Error(err)
		}
	})
}

// A drop-in for the manifest's name is for all replicas; one for a single replica is refused.
func TestDropInsOfReplicas(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"web.yaml":                   yaml("web", "replicas: 2"),
		"web.container.d/10.yaml":    "spec: {resources: {pids: 7}}",
		"web-1.container.d/10.yaml":  "spec: {resources: {pids: 8}}",
		"none-1.container.d/10.yaml": "spec: {resources: {pids: 8}}",
	} {
		if i := strings.IndexByte(name, '/'); i > 0 {
			_ = os.Mkdir(root+"/"+name[:i], 0o755)
		}
		if err := os.WriteFile(root+"/"+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	src := &source.Source{Dirs: []string{root}, Parser: spec.Parser{}, Trust: &source.Trust{}}
	d := desired.Declare(src.Read()).Combine(nil)
	for _, name := range []string{"web-0", "web-1"} {
		if w := d.Declared[name]; w == nil || *w.Spec.Spec.Resources.Pids != 7 || !slices.Equal(w.From.DropIns, []string{root + "/web.container.d/10.yaml"}) {
			t.Errorf("%s: got %+v", name, w)
		}
	}
	want := root + "/web-1.container.d/10.yaml: web-1 is a replica, and the replicas of a manifest are alike: a drop-in for all of them lies in web.container.d/; for one of its own, write a manifest under another name"
	if got := d.ErrorLines(); len(got) != 1 || got[0] != want {
		t.Errorf("got %q", got)
	}
	if len(d.Notes) != 1 || !strings.Contains(d.Notes[0], "no manifest declares none-1") {
		t.Errorf("got %q", d.Notes)
	}
}
