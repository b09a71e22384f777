package reconcile

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"stead/reconcile/source"
	"stead/reconcile/view"
)

// TestDropIns follows one container through the life of its drop-ins.
func TestDropIns(t *testing.T) {
	s := newStage(t, map[string]string{
		"usr/web.yaml": yaml("web", "resources: {pids: 5}"), "usr/db.yaml": yaml("db"), "usr/mq.yaml": yaml("mq"),
		"usr/web.container.d/10-pids.yaml": "spec: {resources: {pids: 6}}",
	}, "usr", "etc")
	if got := *s.applied("web").Resources.Pids; got != 6 {
		t.Fatalf("pids %d at the start, want the drop-in's 6", got)
	}
	var w *os.File
	for _, step := range []struct {
		what string
		do   func()
		want string // the calls
		pids int64  // of web
		why  string // of web
	}{
		{"a later directory's replaces it", func() { s.put("etc/web.container.d/10-pids.yaml", "spec: {resources: {pids: 7}}") }, "update web", 7, ""},
		{"the same meaning in other words", func() { s.put("etc/web.container.d/10-pids.yaml", "# for now\nspec: {resources: {pids:   7}}") }, "", 7, ""},
		{"one more, which has the last word", func() { s.put("usr/web.container.d/20.yaml", "spec: {resources: {pids: 8}}") }, "update web", 8, ""},
		{"it is broken: what runs stays", func() { s.put("usr/web.container.d/20.yaml", "spec:\n  resources: {pids: many}\n") }, "", 8,
			`web.container.d/20.yaml:2:21: spec.resources.pids: found "many", want a whole number`},
		{"the manifest changes meanwhile: what runs stays", func() { s.put("usr/web.yaml", yaml("web", "resources: {pids: 50}", "user: app")) }, "", 8,
			`web.container.d/20.yaml:2:21: spec.resources.pids: found "many", want a whole number`},
		{"it is mended", func() { s.put("usr/web.container.d/20.yaml", "spec: {resources: {pids: 9}}") }, "restart web", 9, ""},
		{"a value that only the whole shows to be wrong", func() { s.put("usr/web.container.d/20.yaml", "spec: {resources: {pids: 0}}") }, "", 9,
			"web.container.d/20.yaml:1:26: spec.resources.pids: found 0, want 1 to 4194304"},
		{"it is gone, at once", func() { s.must(os.Remove(s.root + "/usr/web.container.d/20.yaml")) }, "update web", 7, ""},
		{"a writer takes its time", func() {
			var err error
			w, err = os.Create(s.root + "/etc/web.container.d/30.yaml")
			s.must(err)
			fmt.Fprint(w, "spec: {resources: {pids: 3")
		}, "", 7, ""},
		{"and is done", func() { fmt.Fprint(w, "1}}"); s.must(w.Close()) }, "update web", 31, ""},
		{"masked", func() {
			s.must(os.Remove(s.root + "/etc/web.container.d/30.yaml"))
			s.put("etc/web.container.d/30.yaml", "-> /dev/null")
		}, "update web", 7, ""},
		{"one for all", func() { s.put("etc/container.d/all.yaml", "metadata: {labels: {managed: git}}") }, "update db, update mq, update web", 7, ""},
		{"the directory of the overrides goes away: nothing falls back", func() { s.must(os.Rename(s.root+"/etc", s.root+"/away")) }, "", 7, ""},
		{"and comes back", func() { s.must(os.Rename(s.root+"/away", s.root+"/etc")) }, "", 7, ""},
		{"all of the overrides are deleted", func() { s.must(os.RemoveAll(s.root + "/etc")); s.must(os.Mkdir(s.root+"/etc", 0o755)) }, "update db, update mq, update web", 6, ""},
	} {
		step.do()
		s.settle()
		if got := s.said(); got != step.want {
			t.Errorf("%s: calls %q, want %q", step.what, got, step.want)
		}
		if got := *s.applied("web").Resources.Pids; got != step.pids {
			t.Errorf("%s: pids %d, want %d", step.what, got, step.pids)
		}
		if got := s.why("web"); got != step.why {
			t.Errorf("%s: why %q, want %q", step.what, got, step.why)
		}
		if step.what == "one for all" {
			want := fmt.Sprint([]string{s.root + "/etc/container.d/all.yaml", s.root + "/etc/web.container.d/10-pids.yaml"})
			if got := fmt.Sprint(viewOf(t, s.e, "web").DropIns); got != want {
				t.Errorf("drop-ins %s, want %s", got, want)
			}
		}
		if got := s.why("db"); got != "" {
			t.Errorf("%s: db: %s", step.what, got)
		}
	}
	if !strings.Contains(s.log.String(), "cannot read manifests; keeping what was applied last") || !strings.Contains(s.log.String(), `web.container.d/20.yaml:2:21: spec.resources.pids`) {
		t.Errorf("log:\n%s", &s.log)
	}
}

// A fault of a drop-in for all is told once, not once for each container.
func TestBrokenDropInForAll(t *testing.T) {
	s := newStage(t, map[string]string{"m/a.yaml": yaml("a"), "m/b.yaml": yaml("b")})
	s.put("m/container.d/1.yaml", "spec: {usr: x}")
	s.put("m/c.yaml", yaml("c"))
	s.settle()
	if got := s.said(); got != "" {
		t.Errorf("calls %s", got)
	}
	r, err := s.e.Status(t.Context())
	s.must(err)
	if len(r.Broken) != 1 || len(r.Broken[0].Errors) != 1 || r.Broken[0].File != s.dir+"/container.d/1.yaml" {
		t.Errorf("broken: %+v", r.Broken)
	}
	if n := strings.Count(s.log.String(), "cannot read manifests"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, &s.log)
	}
	for _, name := range []string{"a", "b", "c"} {
		if got, want := s.why(name), "container.d/1.yaml:1:8: spec.usr: unknown field; did you mean user?"; got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestDropInForNobody(t *testing.T) {
	s := newStage(t, map[string]string{"m/web.yaml": yaml("web"), "m/wbe.container.d/1.yaml": "spec: {user: app}"})
	note := s.dir + "/wbe.container.d/1.yaml: no manifest declares wbe: this drop-in changes nothing"
	r, err := s.e.Status(t.Context())
	s.must(err)
	if len(r.Notes) != 1 || r.Notes[0] != note || len(r.Broken)+len(r.Differs) != 0 {
		t.Errorf("notes %q, broken %v, differs %v", r.Notes, r.Broken, r.Differs)
	}
	s.settle()
	if n := strings.Count(s.log.String(), "this drop-in changes nothing"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, &s.log)
	}
	s.put("m/other.yaml", "apiVersion: stead/v1\na: [") // may be its manifest
	s.settle()
	if r, err = s.e.Status(t.Context()); err != nil || r.Notes != nil {
		t.Errorf("notes %q, %v", r.Notes, err)
	}
}

// TestSlowWriterOfADropIn says in ps for whom it is waited, after a few seconds.
func TestSlowWriterOfADropIn(t *testing.T) {
	s := newStage(t, map[string]string{"m/web.yaml": yaml("web"), "m/web.container.d/1.yaml": "{}"})
	for _, name := range []string{"1.yaml", "2.yaml"} { // one that is known, and a new one
		w, err := os.OpenFile(s.dir+"/web.container.d/"+name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
		s.must(err)
		s.settle()
		if got := s.why("web"); got != "" {
			t.Errorf("%s, at once: %q", name, got)
		}
		now := s.e.current()
		views := view.Containers(now.desired, now.observed, now.memory, now.now.Add(10*time.Second))
		if want := "waiting for the writer of web.container.d/" + name; len(views) != 1 || views[0].Why != want || views[0].Reason != view.ReasonWaitingForWriter {
			t.Errorf("%s, after 10 s: %+v, want %q", name, views, want)
		}
		fmt.Fprint(w, "{}")
		s.must(w.Close())
		s.settle()
	}
	if got := s.said(); got != "adopt web" { // of which files it was merged
		t.Errorf("calls %s", got)
	}
}

// An apply waits for the writer of a drop-in as it does for that of a manifest.
func TestApplyWaitsForADropIn(t *testing.T) {
	s := newStage(t, map[string]string{"m/web.yaml": yaml("web"), "m/web.container.d/1.yaml": "{}", "m/nobody.container.d/1.yaml": "{}"})
	w, err := os.OpenFile(s.dir+"/web.container.d/1.yaml", os.O_WRONLY|os.O_TRUNC, 0)
	s.must(err)
	applied := make(chan Result, 1)
	go func() {
		r, _ := s.e.Apply(t.Context(), ApplyOptions{})
		applied <- r
	}()
	select {
	case r := <-applied:
		t.Fatalf("over while it is written: %+v", r)
	case <-time.After(100 * time.Millisecond):
	}
	fmt.Fprint(w, "spec: {resources: {pids: 7}}")
	s.must(w.Close())
	if r := <-applied; len(r.Containers) != 1 || fmt.Sprint(r.Containers[0].Actions) != "[update]" {
		t.Errorf("%+v", r)
	}
	w, err = os.OpenFile(s.dir+"/nobody.container.d/1.yaml", os.O_WRONLY|os.O_TRUNC, 0)
	s.must(err)
	defer w.Close()
	began := time.Now()
	if r, err := s.e.Apply(t.Context(), ApplyOptions{}); err != nil || r.Changed() || time.Since(began) > view.WriterNoted/2 {
		t.Errorf("a drop-in for nobody is waited for, for %v: %+v, %v", time.Since(began), r, err)
	}
}

// A daemon that starts while a drop-in is being written must not apply the
// manifest without it.
func TestStartWhileADropInIsWritten(t *testing.T) {
	s := newStage(t, map[string]string{"m/web.yaml": yaml("web"), "m/web.container.d/1.yaml": "spec: {resources: {pids: 7}}"})
	w, err := os.OpenFile(s.dir+"/web.container.d/1.yaml", os.O_WRONLY|os.O_APPEND, 0)
	s.must(err)
	fresh := newStage(t, nil)
	fresh.src.Dirs, fresh.rt.by = s.src.Dirs, s.rt.by
	fresh.settle()
	if got := fresh.said(); got != "" {
		t.Errorf("while it is written: %s", got)
	}
	fmt.Fprint(w, "# done\n")
	s.must(w.Close())
	fresh.settle()
	if got := fresh.said(); got != "" {
		t.Errorf("when it is whole: %s", got)
	}
}

// A daemon that starts while the directory of a drop-in is away keeps what was
// merged from it, and says why.
func TestStartWithoutTheDirectoryOfADropIn(t *testing.T) {
	s := newStage(t, map[string]string{
		"usr/web.yaml": yaml("web"), "usr/db.yaml": yaml("db"), "etc/web.container.d/1.yaml": "spec: {resources: {pids: 7}}",
	}, "usr", "etc")
	fresh := newStage(t, nil)
	fresh.root, fresh.src.Dirs, fresh.rt.by = s.root, s.src.Dirs, s.rt.by
	gone := "drop-in " + s.root + "/etc/web.container.d/1.yaml is not known: directory " + s.root + "/etc is missing; bring it back, without the drop-in if that is meant to be gone"
	for _, step := range []struct {
		what string
		do   func()
		want string
		pids int64
		why  string
	}{
		{"it is away", func() { s.must(os.Rename(s.root+"/etc", s.root+"/away")) }, "", 7, gone},
		{"the manifest changes meanwhile", func() { s.put("usr/web.yaml", yaml("web", "user: app")) }, "", 7, gone},
		{"it moves meanwhile", func() { s.must(os.Rename(s.root+"/usr/web.yaml", s.root+"/usr/moved.yaml")) }, "", 7, gone},
		{"it is back", func() { s.must(os.Rename(s.root+"/away", s.root+"/etc")) }, "restart web", 7, ""},
		{"another daemon, and it is away again", func() {
			s.must(os.Rename(s.root+"/etc", s.root+"/away"))
			fresh.src.Change(func(*source.Source) {})
		}, "", 7, gone},
		{"it is back without the drop-in", func() { s.must(os.Mkdir(s.root+"/etc", 0o755)) }, "update web", -1, ""},
	} {
		step.do()
		fresh.settle()
		if got := fresh.said(); got != step.want {
			t.Errorf("%s: calls %q, want %q", step.what, got, step.want)
		}
		pids := int64(-1)
		if p := fresh.applied("web").Resources.Pids; p != nil {
			pids = *p
		}
		if pids != step.pids {
			t.Errorf("%s: pids %d, want %d", step.what, pids, step.pids)
		}
		if got := fresh.why("web"); got != step.why {
			t.Errorf("%s: why %q, want %q", step.what, got, step.why)
		}
		if got := fresh.why("db"); got != "" {
			t.Errorf("%s: db: %s", step.what, got)
		}
	}
}

// A file that is not read for its name, and probably meant, is noted while it is there.
func TestNamesThatAreNotRead(t *testing.T) {
	s := newStage(t, map[string]string{
		"m/web.yaml": yaml("web"), "m/shop/DB.YAML": yaml("db"), "m/notes.txt": "x", "m/.x.YAML": "x",
		"m/web.container.d/1.conf": "x", "m/web.files/a.YAML": "x", "m/nginx.conf": "x",
	})
	want := []string{s.dir + "/shop/DB.YAML: not read", s.dir + "/web.container.d/1.conf: not read"}
	check := func(want []string) {
		t.Helper()
		s.settle()
		r, err := s.e.Status(t.Context())
		s.must(err)
		if !slices.EqualFunc(r.Notes, want, strings.HasPrefix) || len(r.Broken)+len(r.Differs) != 0 {
			t.Errorf("notes %q, broken %v, differs %v", r.Notes, r.Broken, r.Differs)
		}
	}
	check(want)
	s.must(os.Remove(s.dir + "/shop/DB.YAML"))
	check(want[1:])
	s.put("m/OTHER.yml", "x")
	s.must(os.Rename(s.dir+"/OTHER.yml", s.dir+"/OTHER.JSON"))
	check([]string{s.dir + "/OTHER.JSON: not read", want[1]})
}
