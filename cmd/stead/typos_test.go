package main

import (
	"testing"
	"time"

	"stead/reconcile/view"
)

// What people mistype, or bring from other tools, gets one line that helps.
func TestTypos(t *testing.T) {
	t.Setenv("STEAD_MANIFESTS", t.TempDir())
	for _, test := range []struct {
		summary string
		args    []string
		code    int
		err     string
	}{
		{"letters swapped", []string{"statsu"}, 2, `unknown command "statsu"; did you mean status?; see stead --help`},
		{"a letter too many", []string{"pss"}, 2, `unknown command "pss"; did you mean ps?; see stead --help`},
		{"nothing like it", []string{"frobnicate"}, 2, `unknown command "frobnicate"; see stead --help`},
		{"a selector of Kubernetes", []string{"ps", "-l", "app in (web)"}, 2, `--selector "app in (web)": want conditions such as app=web,tier!=db`},
		{"and its opposite", []string{"ps", "-l", "!app in (web)"}, 2, `--selector "!app in (web)": want conditions such as app=web,tier!=db`},
		{"a selector without a key", []string{"ps", "-l", "=web"}, 2, `--selector "=web": want conditions such as app=web,tier!=db`},
		{"labels that no container has", []string{"logs", "-l", "app=web"}, 5, "no container has the labels app=web; stead ps lists them"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			if c := run(t, "", test.args...); c.code != test.code || c.out != "" || c.err != "stead: "+test.err+"\n" {
				t.Errorf("want %d %q, got %+v", test.code, test.err, c)
			}
		})
	}
}

// What is waited for in vain is said as a sentence.
func TestWaitInVain(t *testing.T) {
	w := waiter{goal: "ready"}
	_, err := w.one("web", &view.Container{
		Name: "web", State: view.Stopped, Sync: view.Synced, CreatedAt: time.Now(), Why: "suspended",
	})
	if want := "web is Stopped (suspended), and will not be ready by itself"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
