package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"stead/reconcile/view"
)

// What people mistype, or bring from other tools, gets one line that helps.
func TestTypos(t *testing.T) {
	manifests := t.TempDir()
	t.Setenv("STEAD_MANIFESTS", manifests)
	for _, test := range []struct {
		summary string
		args    []string
		code    int
		err     string
	}{
		{"letters swapped", []string{"statsu"}, 2, `unknown command "statsu"; did you mean status?; see stead --help`},
		{"a letter too many", []string{"pss"}, 2, `unknown command "pss"; did you mean ps?; see stead --help`},
		{"a verb of other programs", []string{"top"}, 2, `unknown command "top"; use stead inspect NAME; see stead --help`},
		{"the version as a flag", []string{"--version"}, 2, "unknown flag: --version; use stead version; see stead --help"},
		{"all containers, as in other programs", []string{"ps", "-a"}, 2, "ps lists all containers; leave -a out; see stead ps --help"},
		{"a file to apply", []string{"apply", "m/hello.yaml"}, 2, "apply takes no files: it follows MANIFESTS. Copy the file there, or check it: stead validate m/hello.yaml; see stead apply --help"},
		{"a file to apply, as a flag", []string{"apply", "-f", "hello.yaml"}, 2, "apply takes no files: it follows the manifest directories. Copy the file there, or check it: stead validate FILE; see stead apply --help"},
		{"a name to plan for", []string{"plan", "web"}, 2, "plan takes no names: it covers all manifests; see stead plan --help"},
		{"two names for inspect", []string{"inspect", "web", "db"}, 2, "inspect takes one name; see stead inspect --help"},
		{"no name for purge", []string{"purge"}, 2, "purge needs the names of removed containers; stead ps --removed lists them; see stead purge --help"},
		{"nothing like it", []string{"frobnicate"}, 2, `unknown command "frobnicate"; see stead --help`},
		{"a selector of Kubernetes", []string{"ps", "-l", "app in (web)"}, 2, `--selector "app in (web)": want conditions such as app=web,tier!=db`},
		{"and its opposite", []string{"ps", "-l", "!app in (web)"}, 2, `--selector "!app in (web)": want conditions such as app=web,tier!=db`},
		{"a selector without a key", []string{"ps", "-l", "=web"}, 2, `--selector "=web": want conditions such as app=web,tier!=db`},
		{"names and a selector", []string{"ps", "web", "-l", "app=web"}, 2, "ps takes names or -l, not both; see stead ps --help"},
		{"the same for a verb that acts", []string{"stop", "web", "-l", "app=web"}, 2, "stop takes names or -l, not both; see stead stop --help"},
		{"and for one that waits", []string{"wait", "web", "-l", "app=web"}, 2, "wait takes names or -l, not both; see stead wait --help"},
		{"labels that no container has", []string{"logs", "-l", "app=web"}, 5, "no container has the labels app=web; stead ps lists them"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			if c := run(t, "", test.args...); c.code != test.code || c.out != "" || c.err != "stead: "+strings.ReplaceAll(test.err, "MANIFESTS", manifests)+"\n" {
				t.Errorf("want %d %q, got %+v", test.code, test.err, c)
			}
		})
	}
}

// Help fits a terminal of 80 columns, and only that of stead itself lists the flags that
// all verbs take.
func TestHelp(t *testing.T) {
	verbs := []string{"help"}
	for _, c := range (&app{}).command(nil).Commands() {
		verbs = append(verbs, c.Name())
	}
	for _, verb := range verbs {
		help := run(t, "", strings.Fields(strings.Replace(verb+" --help", "help --help", "help", 1))...)
		for line := range strings.Lines(help.out) {
			if utf8.RuneCountInString(line) > 80+len("\n") {
				t.Errorf("%s: longer than 80 columns: %s", verb, line)
			}
		}
		if help.code != 0 || help.err != "" || !strings.Contains(help.out, "Usage:\n  stead") {
			t.Errorf("%s: %+v", verb, help)
		}
		if all := strings.Contains(help.out, "--cgroup-parent"); all != (verb == "help") {
			t.Errorf("%s: it lists the flags that all verbs take: %v", verb, all)
		}
	}
}

// What is waited for in vain is said as a sentence.
func TestWaitInVain(t *testing.T) {
	w := waiter{goal: "ready"}
	_, err := w.one("web", &view.Container{
		Name: "web", State: view.Stopped, Sync: view.Synced, CreatedAt: time.Now(), Why: "suspended",
	})
	if want := "web is Stopped (suspended), and cannot become ready by itself"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
