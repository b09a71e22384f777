package main

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"stead/reconcile"
	"stead/reconcile/plan"
	"stead/reconcile/view"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func someViews() []view.Container {
	one := 1
	return []view.Container{
		{Name: "crashloop", State: view.BackOff, Sync: view.Synced, Restarts: 4, ExitCode: &one, Reason: "Error",
			Why: "exit code 1, next start in 8s", Manifest: "/m/crash.yaml", CreatedAt: noon.Add(-time.Minute), StartedAt: noon.Add(-9 * time.Second)},
		{Name: "web", State: view.Running, Ready: true, Sync: view.Held, Pid: 4711, Why: "protected", Manifest: "/m/web.yaml",
			CreatedAt: noon.Add(-50 * time.Hour), StartedAt: noon.Add(-3 * time.Hour), Labels: map[string]string{"app": "shop"}},
		{Name: "/m/größe.yaml", State: view.Invalid, Sync: view.SyncError, Why: "größe.yaml:1:1: spec: missing", Manifest: "/m/größe.yaml"},
	}
}

func plain(word string) string { return word }

func TestTables(t *testing.T) {
	for _, test := range []struct {
		summary string
		wide    bool
		want    string
	}{
		{"for people", false, `
NAME           STATE    READY  SYNC    RESTARTS  AGE  WHY
crashloop      BackOff  no     synced  4         60s  exit code 1, next start in 8s
web            Running  yes    held    0         2d   protected
/m/größe.yaml  Invalid  no     error   0         -    größe.yaml:1:1: spec: missing
`},
		{"wide", true, `
NAME           STATE    READY  SYNC    RESTARTS  AGE  PID   STARTED  EXIT  MANIFEST       WHY
crashloop      BackOff  no     synced  4         60s  -     9s       1     /m/crash.yaml  exit code 1, next start in 8s
web            Running  yes    held    0         2d   4711  3h       -     /m/web.yaml    protected
/m/größe.yaml  Invalid  no     error   0         -    -     -        -     /m/größe.yaml  größe.yaml:1:1: spec: missing
`},
	} {
		var b strings.Builder
		if err := viewTable(&b, someViews(), test.wide, noon, plain); err != nil {
			t.Fatal(err)
		}
		if "\n"+b.String() != test.want {
			t.Errorf("%s:\n%s\nwant:%s", test.summary, b.String(), test.want)
		}
	}
}

// Colour changes no column's place.
func TestPaint(t *testing.T) {
	var bare, b strings.Builder
	if err := errors.Join(viewTable(&bare, someViews(), false, noon, plain), viewTable(&b, someViews(), false, noon, paint)); err != nil {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(b.String(), "\x1b[39m", "")
	for _, want := range []string{"\x1b[33mBackOff\x1b[0m  no     synced\x1b[0m ", "\x1b[32mRunning\x1b[0m  yes    \x1b[33mheld\x1b[0m ", "größe.yaml  \x1b[31mInvalid\x1b[0m  no     \x1b[31merror\x1b[0m "} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%q", want, got)
		}
	}
	if got := strings.NewReplacer("\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "", "\x1b[0m", "").Replace(got); got != bare.String() {
		t.Errorf("without colour:\n%q\nwant:\n%q", got, bare.String())
	}
}

func TestForms(t *testing.T) {
	for _, test := range []struct{ form, want string }{
		{"name", "crashloop\nweb\n/m/größe.yaml\n"},
		{"yaml", "- name: crashloop\n  state: BackOff\n  sync: synced\n  ready: false\n  pid: 0\n  restarts: 4\n  exitCode: 1\n  reason: Error\n"},
		{"json", "[\n  {\n    \"name\": \"crashloop\",\n    \"state\": \"BackOff\",\n    \"sync\": \"synced\",\n    \"ready\": false,\n    \"pid\": 0,\n"},
	} {
		var b strings.Builder
		if err := (&app{out: &b}).printViews(someViews(), test.form); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(b.String(), test.want) {
			t.Errorf("-o %s:\n%s\nwant:\n%s", test.form, b.String(), test.want)
		}
	}
	var b strings.Builder
	if err := (&app{out: &b}).printViews([]view.Container{}, "json"); err != nil || b.String() != "[]\n" {
		t.Errorf("no containers are an empty array, got %q", b.String())
	}
}

func TestSelectors(t *testing.T) {
	labels := map[string]string{"app": "web", "tier": ""}
	for selector, want := range map[string]bool{
		"": true, "app=web": true, "app==web": true, "app=db": false, "app!=db": true, "app!=web": false, "missing!=x": true,
		"app": true, "tier": true, "missing": false, "!missing": true, "!app": false, "tier=": true, "missing=": false, "app=web, tier": true, "app=web,missing": false,
	} {
		matches, err := parseSelector(selector)
		if err != nil {
			t.Fatal(err)
		}
		if got := matches(labels); got != want {
			t.Errorf("-l %q: %v, want %v", selector, got, want)
		}
	}
}

// What a container writes must not act on the terminal of who reads its log.
func TestClean(t *testing.T) {
	for _, test := range []struct{ summary, text, want string }{
		{"text", "größe\tok", "größe\tok"},
		{"colours pass", "\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"},
		{"a title does not", "\x1b]0;pwned\x07", `\x1b]0;pwned\x07`},
		{"nor a cursor's move", "a\x1b[2Jb", `a\x1b[2Jb`},
		{"nor one cut short", "a\x1b[1", `a\x1b[1`},
		{"nor a carriage return within", "safe\rfake", `safe\x0dfake`},
		{"one at the end is a line's", "dos\r", "dos"},
		{"nor bytes that are no text", "a\xff\x00b", `a\xff\x00b`},
	} {
		if got := clean(test.text); got != test.want {
			t.Errorf("%s: %q, want %q", test.summary, got, test.want)
		}
	}
}

func TestApplyResults(t *testing.T) {
	changed := reconcile.ContainerResult{Name: "web", Actions: []plan.Verb{plan.Update}, State: view.Running, Sync: view.Synced,
		Changes: []plan.Change{{Path: "spec.resources.memory", Before: "64Mi", After: "128Mi"}, {Path: "spec.resources.pids", After: "32"}}}
	failed := reconcile.ContainerResult{Name: "db", State: view.Failed, Error: "exit code 1", Reason: "Error"}
	invalid := reconcile.ContainerResult{Name: "bad", State: view.Invalid, Sync: view.SyncError, Error: "bad.yaml:1: no", Reason: view.ReasonInvalidManifest}
	held := reconcile.ContainerResult{Name: "old", State: view.Running, Sync: view.Held,
		Reason: view.ReasonRemovalHeld, Note: "protected; confirm with stead apply --confirm-removal=old"}
	for _, test := range []struct {
		summary     string
		containers  []reconcile.ContainerResult
		code, coded int // without and with --exit-code
	}{
		{"nothing", nil, 0, 0},
		{"a change", []reconcile.ContainerResult{changed}, 0, exitDiffers},
		{"a held removal", []reconcile.ContainerResult{changed, held}, exitHeld, exitHeld},
		{"a manifest with errors", []reconcile.ContainerResult{held, invalid}, exitInvalid, exitInvalid},
		{"a failure", []reconcile.ContainerResult{held, failed}, exitFailure, exitFailure},
		{"a manifest with errors comes before a failure", []reconcile.ContainerResult{held, invalid, failed}, exitInvalid, exitInvalid},
	} {
		r := reconcile.Result{Containers: test.containers}
		if got := [2]int{applyCode(r, false), applyCode(r, true)}; got != [2]int{test.code, test.coded} {
			t.Errorf("%s: %v, want %d and %d", test.summary, got, test.code, test.coded)
		}
	}
	v := resultJSON(reconcile.Result{Containers: []reconcile.ContainerResult{changed, failed, held}})
	if !v.Changed || !v.Failed || v.Msg != "db: exit code 1; old: removal held: "+held.Note || v.Containers[2].Msg != "removal held: "+held.Note {
		t.Errorf("%+v", v)
	}
	var said strings.Builder
	a := &app{out: io.Discard, err: &said}
	if err := a.printApplied(reconcile.Result{Containers: []reconcile.ContainerResult{failed, held}}, 0); err != nil || said.String() != "stead: db: exit code 1\nstead: old: removal held: "+held.Note+"\n" {
		t.Errorf("%v: %q", err, said.String())
	}
	want := textDiff{"spec.resources.memory: 64Mi\n", "spec.resources.memory: 128Mi\nspec.resources.pids: 32\n"}
	if v.Containers[0].Diff != want {
		t.Errorf("diff %q, want %q", v.Containers[0].Diff, want)
	}
}
