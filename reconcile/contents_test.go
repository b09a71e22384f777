package reconcile

import (
	"strings"
	"testing"
	"time"

	"stead/reconcile/plan"
	"stead/runtime/status"
	"stead/spec"
)

// What sources hold is compared with what a container has: each change does what its onChange
// says, jobs keep what they have, and what nobody looked at has not changed.
func TestPlanOfContents(t *testing.T) {
	const lines = "files: {/a: {source: /s/a}, /b: {source: /s/b, onChange: reload}, /c: {source: /s/c, onChange: none}}"
	has := func(more ...string) *status.Status {
		st := running(t, "web", append([]string{lines, "reload: {signal: HUP}", "envSecrets: {S: {source: /s/s}, N: {source: /s/n, onChange: none}}"}, more...)...)
		st.Files = map[string]status.FileState{}
		for _, target := range []string{"/a", "/b", "/c", "envSecrets.S", "envSecrets.N"} {
			st.Files[target] = status.FileState{Sum: "1"}
		}
		return st
	}
	sources := func(change func(by map[string]*spec.Source)) []spec.Source {
		all := []spec.Source{
			{Field: "spec.files[/a]", Target: "/a", OnChange: "restart", Sum: "1"}, {Field: "spec.files[/b]", Target: "/b", OnChange: "reload", Sum: "1"},
			{Field: "spec.files[/c]", Target: "/c", OnChange: "none", Sum: "1"}, {Field: "spec.envSecrets.S", Target: "envSecrets.S", Kind: spec.ForSecret, OnChange: "restart", Sum: "1"},
			{Field: "spec.envSecrets.N", Target: "envSecrets.N", Kind: spec.ForSecret, OnChange: "none", Sum: "1"},
		}
		by := map[string]*spec.Source{}
		for i := range all {
			by[all[i].Target] = &all[i]
		}
		change(by)
		return all
	}
	becomes := func(targets ...string) func(map[string]*spec.Source) {
		return func(by map[string]*spec.Source) {
			for _, target := range targets {
				by[target].Sum = "2"
			}
		}
	}
	for _, row := range []struct {
		summary string
		st      *status.Status
		change  func(map[string]*spec.Source)
		want    string
	}{
		{"nothing", has(), becomes(), ""},
		{"a restart", has(), becomes("/a"), "restart web  spec.files[/a] (changed)  (needs a restart)\n"},
		{"a reload", has(), becomes("/b"), "update web  spec.files[/b] (changed)  (live, then reload)\n"},
		{"none", has(), becomes("/c"), "update web  spec.files[/c] (changed)  (live)\n"},
		{"a secret variable", has(), becomes("envSecrets.S"), "restart web  spec.envSecrets.S (changed)  (needs a restart)\n"},
		{"a variable that waits for the next start", has(), becomes("envSecrets.N"), ""},
		{"all of them", has(), becomes("/a", "/b", "/c", "envSecrets.S"), "restart web  spec.envSecrets.S (changed), spec.files[/a] (changed), spec.files[/b] (changed), spec.files[/c] (changed)  (envSecrets.S, files[/a] needs a restart)\n"},
		{"a file that is a directory now", has(), func(by map[string]*spec.Source) { by["/c"].Sum, by["/c"].Dir = "2", true }, "restart web  spec.files[/c] (changed)  (needs a restart)\n"},
		{"not looked at", has(), func(by map[string]*spec.Source) { by["/a"].Sum = "" }, ""},
		{"a job that runs", has("restart: {policy: never}"), becomes("/a", "envSecrets.S"), ""},
		{"a job that reloads", has("restart: {policy: on-failure}"), becomes("/a", "/b"), "update web  spec.files[/b] (changed)  (live, then reload)\n"},
		{"a job that has completed", func() *status.Status {
			st := ended(t, "web", status.Exit{Reason: status.ReasonCompleted}, time.Minute, lines, "reload: {signal: HUP}", "restart: {policy: never}")
			return st
		}(), becomes("/a", "/b", "/c"), ""},
	} {
		w := &plan.Want{Spec: row.st.Applied, From: row.st.From, Sources: sources(row.change)}
		d := &plan.Desired{Declared: map[string]*plan.Want{"web": w}}
		p := plan.Diff(d, []*status.Status{row.st}, plan.Memory{}, noon)
		if got := p.String(); got != row.want {
			t.Errorf("%s: got %swant %s", row.summary, got, row.want)
		}
		old := map[string]string{
			"a variable that waits for the next start": "spec.envSecrets.N", "a job that runs": "spec.files[/a] spec.envSecrets.S", "a job that reloads": "spec.files[/a]",
		}[row.summary]
		if got := strings.Join(plan.OldContents(row.st, w), " "); got != old { // as status says
			t.Errorf("%s: it runs with the old content of %q, want %q", row.summary, got, old)
		}
	}
	// The same change again is no repetition when there is other content to take up.
	st, subject := has(), plan.ContainerNamed("web")
	w := &plan.Want{Spec: st.Applied, From: st.From, Sources: sources(becomes("/c"))}
	d := &plan.Desired{Declared: map[string]*plan.Want{"web": w}}
	m := plan.Memory{}
	p := plan.Diff(d, []*status.Status{st}, m, noon)
	m = plan.Next(m, p, []plan.Result{{Action: p.Actions[0], Began: noon, Ended: noon}})
	if again := plan.Diff(d, []*status.Status{st}, m, noon.Add(time.Millisecond)); len(again.Actions) > 0 || len(again.Waits) != 1 {
		t.Errorf("without effect: got %v, %+v", again, again.Waits)
	}
	w.Sources[2].Sum = "3"
	if again := plan.Diff(d, []*status.Status{st}, m, noon.Add(time.Millisecond)); len(again.Actions) != 1 || again.Actions[0].Subject != subject {
		t.Errorf("other content: got %v, %+v", again, again.Waits)
	}
}
