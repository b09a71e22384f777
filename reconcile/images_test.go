package reconcile

import (
	"errors"
	"strings"
	"testing"
	"time"

	"stead/reconcile/plan"
	"stead/reconcile/view"
	"stead/runtime/status"
	"stead/spec"
)

const nginx = "docker.io/library/nginx:1.27"

// imageYAML is a container whose root is an image.
func imageYAML(name, image string, lines ...string) string {
	return strings.Replace(yaml(name, lines...), "{host: {}}", "{image: \""+image+"\"}", 1)
}

// declares is a manifest of an image.
func declares(name, source, more string) string {
	return "apiVersion: stead/v1\nkind: Image\nmetadata: {name: " + name + "}\nspec: {source: {" + source + "}" + more + "}\n"
}

// usingImage is a container that runs from an image.
func usingImage(t *testing.T, name, image, digest string, lines ...string) *status.Status {
	st := running(t, name)
	st.Applied = parsed(t, imageYAML(name, image, lines...))
	st.Image = &status.ImageUse{Reference: image, Digest: digest}
	return st
}

// storeOf are images that are here: each name with the digest of that name, from no source.
func storeOf(names ...string) *status.Images {
	i := &status.Images{ByName: map[string]status.Image{}, Digests: map[string]bool{}}
	for _, name := range names {
		i.ByName[name], i.Digests["sha256:"+name] = status.Image{Name: name, Digest: "sha256:" + name}, true
	}
	return i
}

// superseding has the containers of a name leave an image.
func superseding(i *status.Images, name, digest string) *status.Images {
	m := i.ByName[name]
	m.Superseded = []string{digest}
	i.ByName[name] = m
	return i
}

// configured has an image that says what it runs.
func configured(i *status.Images, name string) *status.Images {
	m := i.ByName[name]
	m.Config = &spec.ImageConfig{Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}, User: "app"}
	i.ByName[name] = m
	return i
}

// refusing has onImageChange: refuse applied.
func refusing(st *status.Status) *status.Status {
	c := *st.Applied
	c.Spec.Rootfs.OnImageChange = "refuse"
	st.Applied = &c
	return st
}

func TestPlanImages(t *testing.T) {
	debian := func(m *status.Images, source, asked string) *status.Images {
		m.ByName["debian"] = status.Image{Name: "debian", Digest: "sha256:debian", Source: source, Asked: asked}
		return m
	}
	digest := "sha256:" + strings.Repeat("a", 64)
	for _, story := range []struct {
		summary  string
		files    map[string]string
		observed []*status.Status
		memory   plan.Memory
		want     string
		waits    string
	}{
		{
			summary: "an image that is here", files: map[string]string{"web.yaml": imageYAML("web", nginx)}, memory: plan.Memory{Stored: storeOf(nginx)},
			want: "create web  (manifest web.yaml)\n",
		},
		{
			summary: "without a command: what the image runs is said", files: map[string]string{"web.yaml": strings.Replace(imageYAML("web", nginx), "  command: [sleep, infinity]", "  args: [-x]", 1)},
			memory: plan.Memory{Stored: configured(storeOf(nginx), nginx)},
			want:   "create web  (manifest web.yaml, which runs /entry -x as user app)\n",
		},
		{
			summary: "one that is not: pulled once for all, who need it wait",
			files:   map[string]string{"a.yaml": imageYAML("a", nginx), "b.yaml": imageYAML("b", nginx), "c.yaml": imageYAML("c", nginx), "d.yaml": imageYAML("d", nginx)}, memory: plan.Memory{Stored: storeOf()},
			want:  "pull image " + nginx + "  (for a, b, c and 1 more)\n",
			waits: "create a: pulling " + nginx + "; create b: pulling " + nginx + "; create c: pulling " + nginx + "; create d: pulling " + nginx,
		},
		{
			summary: "the pull under way", files: map[string]string{"web.yaml": imageYAML("web", nginx)},
			memory: plan.Memory{Stored: storeOf(), Busy: map[plan.Subject]plan.Verb{plan.ImageNamed(nginx): plan.Pull}, Progress: map[plan.Subject]int{plan.ImageNamed(nginx): 43}},
			waits:  "create web: pulling " + nginx + ", 43 %",
		},
		{
			summary: "a local image that is nowhere", files: map[string]string{"web.yaml": imageYAML("web", "debian")}, memory: plan.Memory{Stored: storeOf()},
			waits: "create web: web.yaml:5:19: spec.rootfs.image: there is no image debian here; stead image import debian DIRECTORY makes one, a manifest of kind: Image declares one, and one of a registry is named in full",
		},
		{
			summary: "a local image that is declared: imported", files: map[string]string{"web.yaml": imageYAML("web", "debian"), "debian.yaml": declares("debian", "directory: /srv/debian", "")}, memory: plan.Memory{Stored: storeOf()},
			want: "import image debian  (manifest debian.yaml)\n", waits: "create web: importing debian",
		},
		{
			summary: "one of a registry under a name of its own, which nobody uses", files: map[string]string{"debian.yaml": declares("debian", "registry: docker.io/library/debian:12", "")}, memory: plan.Memory{Stored: storeOf()},
			want: "pull image debian  (manifest debian.yaml)\n",
		},
		{
			summary: "declared and here", files: map[string]string{"debian.yaml": declares("debian", "directory: /srv/debian", "")}, memory: plan.Memory{Stored: debian(storeOf(), "/srv/debian", "")},
		},
		{
			summary: "from another source: imported again, and used meanwhile", files: map[string]string{"web.yaml": imageYAML("web", "debian"), "debian.yaml": declares("debian", "archive: /srv/new.tar", "")}, memory: plan.Memory{Stored: debian(storeOf(), "/srv/debian", "")},
			want: "import image debian  (manifest debian.yaml has another source or digest)\ncreate web  (manifest web.yaml)\n",
		},
		{
			summary: "with another digest", files: map[string]string{"debian.yaml": declares("debian", "archive: /srv/debian", ", digest: \""+digest+"\"")}, memory: plan.Memory{Stored: debian(storeOf(), "/srv/debian", "")},
			want: "import image debian  (manifest debian.yaml has another source or digest)\n",
		},
		{
			summary: "a container that runs needs no registry", files: map[string]string{"web.yaml": imageYAML("web", nginx)}, observed: []*status.Status{usingImage(t, "web", nginx, "sha256:1")}, memory: plan.Memory{Stored: storeOf()},
		},
		{
			summary: "one that ended has its image still", files: map[string]string{"web.yaml": imageYAML("web", nginx)},
			observed: []*status.Status{over(usingImage(t, "web", nginx, "sha256:x"))}, memory: plan.Memory{Stored: storeOf("x")},
			want: "start web  (exit code 1, restart 1)\n",
		},
		{
			summary: "one that ended, and whose image is gone", files: map[string]string{"web.yaml": imageYAML("web", nginx)},
			observed: []*status.Status{over(usingImage(t, "web", nginx, "sha256:x"))}, memory: plan.Memory{Stored: storeOf()},
			want: "pull image " + nginx + "  (for web)\n", waits: "start web: pulling " + nginx,
		},
		{
			summary: "one that returns: the image that it had is here without a name", files: map[string]string{"web.yaml": imageYAML("web", nginx)},
			memory: plan.Memory{Stored: &status.Images{Digests: map[string]bool{"sha256:x": true}}, Left: map[string]status.ImageUse{"web": {Reference: nginx, Digest: "sha256:x"}}},
			want:   "create web  (manifest web.yaml)\n",
		},
		{
			summary: "one that returns with another image", files: map[string]string{"web.yaml": imageYAML("web", nginx)},
			memory: plan.Memory{Stored: &status.Images{Digests: map[string]bool{"sha256:x": true}}, Left: map[string]status.ImageUse{"web": {Reference: "debian", Digest: "sha256:x"}}},
			want:   "pull image " + nginx + "  (for web)\n", waits: "create web: pulling " + nginx,
		},
		{
			summary: "another image: it runs on until that one is here", files: map[string]string{"web.yaml": imageYAML("web", nginx)}, observed: []*status.Status{usingImage(t, "web", "debian", "sha256:debian")}, memory: plan.Memory{Stored: storeOf("debian")},
			want: "pull image " + nginx + "  (for web)\n", waits: "restart web: pulling " + nginx,
		},
		{
			summary: "and then changes", files: map[string]string{"web.yaml": imageYAML("web", nginx)}, observed: []*status.Status{usingImage(t, "web", "debian", "sha256:debian")}, memory: plan.Memory{Stored: storeOf("debian", nginx)},
			want: "restart web  spec.rootfs.image debian → " + nginx + "  (needs a restart)\n",
		},
		{
			summary: "refused", files: map[string]string{"web.yaml": strings.Replace(imageYAML("web", nginx), "\"}", "\", onImageChange: refuse}", 1)}, observed: []*status.Status{usingImage(t, "web", "debian", "sha256:debian")}, memory: plan.Memory{Stored: storeOf("debian", nginx)},
			want: "hold web  spec.rootfs.image debian → " + nginx + ", spec.rootfs.onImageChange reset → refuse  (rootfs.image changes, and onImageChange: refuse keeps its private files; write onImageChange: reset for a fresh root)\n",
		},
		{
			summary: "refused, but the same image under another name", files: map[string]string{"web.yaml": strings.Replace(imageYAML("web", nginx), "\"}", "\", onImageChange: refuse}", 1)}, observed: []*status.Status{usingImage(t, "web", "debian", "sha256:"+nginx)}, memory: plan.Memory{Stored: storeOf("debian", nginx)},
			want: "restart web  spec.rootfs.image debian → " + nginx + ", spec.rootfs.onImageChange reset → refuse  (rootfs.image needs a restart)\n",
		},
		{
			summary: "its name stands for another image now, to which it shall move", files: map[string]string{"web.yaml": imageYAML("web", nginx)}, observed: []*status.Status{usingImage(t, "web", nginx, "sha256:old")},
			memory: plan.Memory{Stored: superseding(storeOf(nginx, "old"), nginx, "sha256:old")},
			want:   "restart web  spec.rootfs.image " + nginx + "@sha256:old → " + nginx + "@sha256:docker.io/li  (needs a restart)\n",
		},
		{
			summary: "which it has already", files: map[string]string{"web.yaml": imageYAML("web", nginx)}, observed: []*status.Status{usingImage(t, "web", nginx, "sha256:"+nginx)},
			memory: plan.Memory{Stored: superseding(storeOf(nginx, "old"), nginx, "sha256:old")},
		},
		{
			summary: "which its manifest refuses", files: map[string]string{"web.yaml": strings.Replace(imageYAML("web", nginx), "\"}", "\", onImageChange: refuse}", 1)},
			observed: []*status.Status{refusing(usingImage(t, "web", nginx, "sha256:old"))}, memory: plan.Memory{Stored: superseding(storeOf(nginx, "old"), nginx, "sha256:old")},
			want: "hold web  spec.rootfs.image " + nginx + "@sha256:old → " + nginx + "@sha256:docker.io/li  (rootfs.image changes, and onImageChange: refuse keeps its private files; write onImageChange: reset for a fresh root)\n",
		},
		{
			summary: "while it is on hold", files: map[string]string{"web.yaml": imageYAML("web", nginx)}, observed: []*status.Status{usingImage(t, "web", nginx, "sha256:old")},
			memory: plan.Memory{Stored: superseding(storeOf(nginx, "old"), nginx, "sha256:old"), Holds: &status.Holds{Host: &status.Hold{Since: noon}}},
		},
		{
			summary: "while it is stopped by an admin: at its next start", files: map[string]string{"web.yaml": imageYAML("web", nginx)}, observed: []*status.Status{stoppedBy(noon, over(usingImage(t, "web", nginx, "sha256:old")))},
			memory: plan.Memory{Stored: superseding(storeOf(nginx, "old"), nginx, "sha256:old")},
		},
		{
			summary: "suspended: nothing is pulled", files: map[string]string{"web.yaml": imageYAML("web", nginx, "suspend: true")}, memory: plan.Memory{Stored: storeOf()},
			want: "create web  (manifest web.yaml, suspended)\n",
		},
		{
			summary: "on hold: nothing is pulled", files: map[string]string{"web.yaml": imageYAML("web", nginx), "debian.yaml": declares("debian", "directory: /srv/debian", "")},
			memory: plan.Memory{Stored: storeOf(), Holds: &status.Holds{Host: &status.Hold{Since: noon}}},
			want:   "hold web  (create waits; on hold since 2026-11-23T12:00:00Z; end it with stead release)\n",
		},
		{
			summary: "declared twice: an error, and not imported", files: map[string]string{"a.yaml": declares("debian", "directory: /srv/a", ""), "b.yaml": declares("debian", "directory: /srv/b", "")}, memory: plan.Memory{Stored: storeOf()},
		},
		{
			summary: "an image and a container of one name", files: map[string]string{"a.yaml": declares("web", "directory: /srv/a", ""), "b.yaml": imageYAML("web", "web")}, memory: plan.Memory{Stored: storeOf("web")},
			want: "create web  (manifest b.yaml)\nimport image web  (manifest a.yaml has another source or digest)\n",
		},
		{
			summary: "a broken manifest of an image harms no container of its name", files: map[string]string{"a.yaml": declares("web", "directory: srv", "")}, observed: []*status.Status{running(t, "web")}, memory: plan.Memory{Prompt: true},
			want: "remove web  (manifest gone from " + etc + ")\n",
		},
	} {
		t.Run(story.summary, func(t *testing.T) {
			_, p := planOf(story.files, story.observed, story.memory)
			var waits []string
			for _, w := range p.Waits {
				waits = append(waits, string(w.Verb)+" "+w.Subject.String()+": "+w.Why)
			}
			if p.String() != story.want || strings.Join(waits, "; ") != story.waits {
				t.Errorf("got\n%s%s\nwant\n%s%s", p, strings.Join(waits, "; "), story.want, story.waits)
			}
		})
	}
}

// over is a container whose command failed a while ago.
func over(st *status.Status) *status.Status {
	st.State, st.Pid, st.FinishedAt, st.Exit = status.Exited, 0, noon.Add(-time.Hour), &status.Exit{Code: 1, Reason: status.ReasonError}
	return st
}

// busyRegistry is an error of one who says when to come again.
type busyRegistry struct{}

func (busyRegistry) Error() string             { return "too many requests" }
func (busyRegistry) RetryAfter() time.Duration { return 90 * time.Second }

// A pull that goes on shows in ps, one that fails is tried again when the registry says, and
// what needs the image starts when it is here. What needs none is not delayed.
func TestPullStory(t *testing.T) {
	files := map[string]string{"web.yaml": imageYAML("web", nginx), "other.yaml": yaml("other")}
	story(t, files, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		wantActed(t, rt, "create other", "pull "+nginx, "create web")
		gate := make(chan struct{})
		rt.set(func() {
			rt.block["pull docker.io/library/debian:12"] = gate
			rt.fail["pull docker.io/library/debian:12"] = busyRegistry{}
			rt.images.progress = func(report func(done, total int64)) { report(430, 1000) }
		})
		s.put("web.yaml", imageYAML("web", "docker.io/library/debian:12"))
		pass()
		v := viewOf(t, e, "web")
		if v.State != view.Running || v.Sync != view.OutOfSync || v.Reason != view.ReasonWaitingForImage || v.Why != "pulling docker.io/library/debian:12, 43 %" {
			t.Errorf("while it is pulled: %+v", v)
		}
		close(gate)
		pass()
		v = viewOf(t, e, "web")
		want := "web.yaml:5:19: spec.rootfs.image: pull of docker.io/library/debian:12 failed: too many requests"
		if v.State != view.Running || v.Sync != view.SyncError || v.Reason != view.ReasonImageFailed || v.Message != want || !strings.HasPrefix(v.Why, want+", next try in 1m30s") {
			t.Errorf("after a failure: %+v", v)
		}
		rt.set(func() { delete(rt.fail, "pull docker.io/library/debian:12") })
		time.Sleep(80 * time.Second)
		if n := len(acted(rt)); n != 4 {
			t.Errorf("it was asked too early: %q", acted(rt))
		}
		time.Sleep(11 * time.Second)
		pass()
		wantActed(t, rt, "create other", "pull "+nginx, "create web", "pull docker.io/library/debian:12", "pull docker.io/library/debian:12", "restart web")
		if v := viewOf(t, e, "web"); v.Sync != view.Synced {
			t.Errorf("at the end: %+v", v)
		}
	})
}

// A local image that somebody imports is noticed.
func TestLocalImageStory(t *testing.T) {
	story(t, map[string]string{"web.yaml": imageYAML("web", "debian")}, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		if v := viewOf(t, e, "web"); v.State != view.Pending || v.Reason != view.ReasonWaitingForImage || !strings.Contains(v.Why, "stead image import debian") {
			t.Errorf("got %+v", v)
		}
		rt.images.put(status.Image{Name: "debian", Digest: "sha256:1"})
		time.Sleep(11 * time.Second)
		pass()
		wantActed(t, rt, "create web")
	})
}

// A declared image that can't be imported is an error of the host; a new source is tried at once.
func TestDeclaredImageStory(t *testing.T) {
	story(t, nil, nil, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		rt.set(func() { rt.fail["import debian"] = errors.New("no such directory") })
		s.put("debian.yaml", declares("debian", "directory: /srv/a", ""))
		pass()
		r, err := e.Status(t.Context())
		if err != nil || len(r.Images) != 1 || r.Images[0].Sync != view.SyncError || !strings.HasPrefix(r.Images[0].Why, "import failed: no such directory, next try") {
			t.Errorf("got %+v, %v", r.Images, err)
		}
		rt.set(func() { delete(rt.fail, "import debian") })
		s.put("debian.yaml", declares("debian", "directory: /srv/b", ""))
		pass()
		wantActed(t, rt, "import debian", "import debian")
		if r, _ := e.Status(t.Context()); len(r.Images) > 0 {
			t.Errorf("at the end: %+v", r.Images)
		}
	})
}

// Apply waits for a pull and for what needs it; a failure is one, though it is tried again.
func TestApplyWaitsForPulls(t *testing.T) {
	s, rt := newShelf(map[string]string{"web.yaml": imageYAML("web", nginx)}), newFake()
	rt.fail["pull "+nginx] = errors.New("no route to host")
	var lines []string
	r, err := newEngine(s, rt).Apply(t.Context(), ApplyOptions{Progress: func(p Progress) { lines = append(lines, p.Line) }})
	want := "image " + nginx + ": pull failed: no route to host"
	if err != nil || r.Err() == nil || !strings.Contains(r.Err().Error(), want) || len(r.Containers) != 2 || r.Containers[1].Name != "web" || r.Containers[1].Reason != view.ReasonImageFailed {
		t.Errorf("got %+v, %v", r, err)
	}
	if len(lines) != 2 || lines[0] != "pull image "+nginx+"  (for web)" {
		t.Errorf("progress: %q", lines)
	}
	delete(rt.fail, "pull "+nginx)
	if r, err := newEngine(s, rt).Apply(t.Context(), ApplyOptions{}); err != nil || r.Err() != nil || rt.status("web").State != status.Running {
		t.Errorf("got %+v, %v", r, err)
	}
}

// The errors of an image stand at its manifest.
func TestImageErrors(t *testing.T) {
	d, _ := planOf(map[string]string{"a.yaml": declares("debian", "directory: /srv/a", ""), "b.yaml": declares("debian", "directory: /srv/b", "")}, nil, plan.Memory{})
	got := strings.Join(d.ErrorLines(), "\n")
	want := etc + "/a.yaml:3:18: metadata.name: \"debian\" is declared by " + etc + "/b.yaml:1 too: one image, one manifest; rename or delete one\n" +
		etc + "/b.yaml:3:18: metadata.name: \"debian\" is declared by " + etc + "/a.yaml:1 too: one image, one manifest; rename or delete one"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
