package reconcile

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"stead/reconcile/desired"
	"stead/reconcile/plan"
	"stead/reconcile/source"
	"stead/reconcile/view"
	"stead/runtime/status"
	"stead/spec"
)

// tellDesired prints what is kept and what is invalid.
func tellDesired(d *plan.Desired) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(d.Kept)) {
		if w := d.Kept[name]; w.Err != nil {
			fmt.Fprintf(&b, "keep %s: %v\n", name, w.Err)
		}
	}
	for _, i := range d.Invalid {
		for _, err := range i.Errs {
			fmt.Fprintf(&b, "invalid %s: %v\n", i.Name, err)
		}
	}
	return strings.ReplaceAll(b.String(), etc+"/", "")
}

func TestBadInputNeverDeletes(t *testing.T) {
	whole := yaml("web", "resources: {memory: 128Mi}")
	typo := strings.Replace(whole, "command:", "comand:", 1)
	elsewhere := func(st *status.Status, file string, doc int) *status.Status {
		st.From = status.Origin{File: etc + "/" + file, Document: doc}
		return st
	}
	for _, story := range []struct {
		summary  string
		files    map[string]string
		observed []*status.Status
		want     string
		plan     string
	}{
		{
			summary:  "an unknown field",
			files:    map[string]string{"web.yaml": typo},
			observed: []*status.Status{running(t, "web")},
			want:     "keep web: web.yaml:8:3: spec.comand: unknown field; did you mean command?\n",
		},
		{
			summary:  "a file of zero bytes",
			files:    map[string]string{"web.yaml": ""},
			observed: []*status.Status{running(t, "web")},
			want:     "keep web: web.yaml:1: holds no manifest (the file is empty or has only comments)\n",
		},
		{
			summary:  "half a file",
			files:    map[string]string{"web.yaml": whole[:len(whole)/2]},
			observed: []*status.Status{running(t, "web")},
			want:     "keep web: ",
		},
		{
			summary:  "moved and broken at once",
			files:    map[string]string{"moved.yaml": typo},
			observed: []*status.Status{running(t, "web")},
			want:     "keep web: moved.yaml:8:3: spec.comand: unknown field; did you mean command?\n",
		},
		{
			summary:  "a broken document beside good ones: those are followed, it is kept",
			files:    map[string]string{"all.yaml": yaml("a", "resources: {pids: 9}") + "---\n" + typo},
			observed: []*status.Status{elsewhere(running(t, "a"), "all.yaml", 0), elsewhere(running(t, "web"), "all.yaml", 1)},
			want:     "keep web: all.yaml:17:3: spec.comand: unknown field; did you mean command?\n",
			plan:     "update a  spec.resources.pids (absent) → 9  (live)\n",
		},
		{
			summary: "one that never gave a container is listed by its name, or its file's",
			files:   map[string]string{"x.yaml": typo, "y.yaml": "a: [", "z.yaml": ""},
			want:    "invalid ",
		},
		{
			summary: "two claims of a name: neither is created",
			files:   map[string]string{"a.yaml": whole, "b.yaml": whole},
			want: "invalid web: a.yaml:3:18: metadata.name: \"web\" is declared by b.yaml:1 too: one name, one manifest; neither is created until one is renamed or deleted\n" +
				"invalid web: b.yaml:3:18: metadata.name: \"web\" is declared by a.yaml:1 too: one name, one manifest; neither is created until one is renamed or deleted\n",
		},
		{
			summary:  "two claims of a name: the incumbent keeps it, and is followed",
			files:    map[string]string{"a.yaml": whole, "web.yaml": whole},
			observed: []*status.Status{running(t, "web")},
			want:     "invalid " + "a.yaml: a.yaml:3:18: metadata.name: \"web\" is taken by web.yaml:1: one name, one manifest; rename or delete one\n",
			plan:     "update web  spec.resources.memory (absent) → 128Mi  (live)\n",
		},
		{
			summary:  "two claims in one file: the recorded document keeps it",
			files:    map[string]string{"web.yaml": whole + "---\n" + yaml("web")},
			observed: []*status.Status{elsewhere(running(t, "web"), "web.yaml", 1)},
			want:     "invalid web.yaml: web.yaml:3:18: metadata.name: \"web\" is taken by web.yaml:10: one name, one manifest; rename or delete one\n",
		},
		{
			summary:  "moved to two places at once: it is kept",
			files:    map[string]string{"a.yaml": whole, "b.yaml": whole},
			observed: []*status.Status{running(t, "web")},
			want: "keep web: a.yaml:3:18: metadata.name: \"web\" is declared by b.yaml:1 too: one name, one manifest; rename or delete one\n" +
				"invalid a.yaml: a.yaml:3:18: metadata.name: \"web\" is declared by b.yaml:1 too: one name, one manifest; rename or delete one\n" +
				"invalid b.yaml: b.yaml:3:18: metadata.name: \"web\" is declared by a.yaml:1 too: one name, one manifest; rename or delete one\n",
		},
		{
			summary:  "claimed by another while its own file is broken: it is kept",
			files:    map[string]string{"web.yaml": "a: [", "b.yaml": whole},
			observed: []*status.Status{running(t, "web")},
			want:     "keep web: web.yaml:",
		},
		{
			summary:  "moved away from a file whose other documents are broken",
			files:    map[string]string{"all.yaml": strings.Replace(typo, "name: web", "name: other", 1), "web.yaml": yaml("web")},
			observed: []*status.Status{elsewhere(running(t, "web"), "all.yaml", 0)},
			want:     "invalid other: all.yaml:8:3: spec.comand: unknown field; did you mean command?\n",
		},
	} {
		t.Run(story.summary, func(t *testing.T) {
			// With the longest memory of absence: nothing may go all the same.
			desired, p := planOf(story.files, story.observed, plan.Memory{Prompt: true})
			if got := tellDesired(desired); !strings.HasPrefix(got, story.want) || story.want == "" {
				t.Errorf("got:\n%swant:\n%s", got, story.want)
			}
			if got := p.String(); got != story.plan {
				t.Errorf("plan:\n%swant:\n%s", got, story.plan)
			}
		})
	}
}

func TestWaitedForAfterARestartOfTheDaemon(t *testing.T) {
	s := newShelf(nil)
	path := etc + "/web.yaml"
	s.files[path] = &source.File{Path: path, Rel: "web.yaml", Waiting: noon.Add(-time.Second)}
	list := []*status.Status{running(t, "web")}
	d := desired.Declare(s.Read()).Combine(list)
	if p := plan.Diff(d, list, plan.Memory{Prompt: true}, noon); !p.Empty() {
		t.Errorf("planned %q while the manifest is being written", p)
	}
	views := view.Containers(d, list, plan.Memory{}, noon)
	if views[0].Sync != view.OutOfSync {
		t.Errorf("after 1 s: sync %s, want pending", views[0].Sync)
	}
	views = view.Containers(d, list, plan.Memory{}, noon.Add(view.WriterNoted))
	if v := views[0]; v.Sync != view.SyncError || v.Why != "waiting for the writer of web.yaml" || v.State != view.Running {
		t.Errorf("after 3 s: %s, %s, %q", v.State, v.Sync, v.Why)
	}
}

func TestAnOverrideThatVanishedIsNotFallenBackFrom(t *testing.T) {
	const usr = "/usr/lib/stead/manifests"
	vendor := &source.File{Path: usr + "/web.yaml", Rel: "web.yaml", Dir: 0, Documents: spec.Parser{}.Parse(usr+"/web.yaml", []byte(yaml("web", "resources: {pids: 5}")))}
	list := []*status.Status{running(t, "web")}
	reading := &source.Reading{Dirs: []source.Dir{{Path: usr}, {Path: etc, Err: &fs.PathError{Op: "open", Path: etc, Err: fs.ErrNotExist}}}, Files: []*source.File{vendor}}
	if p := plan.Diff(desired.Declare(reading).Combine(list), list, plan.Memory{Prompt: true}, noon); !p.Empty() {
		t.Errorf("planned %q, want nothing while %s is missing", p, etc)
	}
	reading = &source.Reading{Dirs: []source.Dir{{Path: usr}, {Path: etc}}, Files: []*source.File{vendor}}
	p := plan.Diff(desired.Declare(reading).Combine(list), list, plan.Memory{Prompt: true}, noon)
	if want := "update web  spec.resources.pids (absent) → 5  (live)\n"; p.String() != want {
		t.Errorf("with the override deleted: got %q, want %q", p, want)
	}
}

func TestReplacedFileThatIsBroken(t *testing.T) {
	const usr = "/usr/lib/stead/manifests"
	broken := &source.File{Path: etc + "/web.yaml", Rel: "web.yaml", Dir: 1, Documents: spec.Parser{}.Parse(etc+"/web.yaml", []byte("a: ["))}
	st := running(t, "web")
	st.From.File = usr + "/web.yaml"
	list := []*status.Status{st}
	reading := &source.Reading{
		Dirs: []source.Dir{{Path: usr}, {Path: etc}}, Files: []*source.File{broken},
		Replaced: map[string]*source.File{usr + "/web.yaml": broken},
	}
	d := desired.Declare(reading).Combine(list)
	if p := plan.Diff(d, list, plan.Memory{Prompt: true}, noon); !p.Empty() {
		t.Errorf("planned %q because of a broken override", p)
	}
}
