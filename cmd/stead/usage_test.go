package main

import (
	"strings"
	"testing"
)

const good = `apiVersion: stead/v1
kind: Container
metadata: {name: web, labels: {app: shop}}
spec:
  rootfs: {host: {}}
  command: [sleep, inf]
  env: {SECRET: hunter2}
  network: {mode: none}
`

// What a wrong command line, and a host that has nothing, come to.
func TestExitCodes(t *testing.T) {
	empty := t.TempDir()
	t.Setenv("STEAD_MANIFESTS", empty)
	for _, test := range []struct {
		summary string
		line    string
		code    int
		err     string // a part of what stderr says
	}{
		{"help is no error", "--help", 0, ""},
		{"nor is nothing at all", "", 0, ""},
		{"a verb that isn't there", "frobnicate", 2, `unknown command "frobnicate"`},
		{"a flag that isn't there", "ps --frob", 2, "unknown flag: --frob; see stead ps --help"},
		{"a form that isn't there", "ps -o xml", 2, "--output xml: want table, wide, json, yaml or name"},
		{"a log format that isn't there", "ps --log-format xml", 2, "--log-format xml: want text or json"},
		{"the root group as parent", "ps --cgroup-parent /", 2, "--cgroup-parent"},
		{"an empty directory name", "ps --state-dir=", 2, "want a directory"},
		{"a directory too deep for sockets", "ps --run-dir /" + strings.Repeat("x", 100), 2, "too long by 6 characters"},
		{"an argument too many", "daemon now", 2, `daemon takes no arguments, found "now"; see stead daemon --help`},
		{"a name too few", "restart", 2, "restart needs the names of containers, or -l with a selector"},
		{"a selector that says nothing", "ps -l app=web,", 2, "--selector"},
		{"a goal that isn't there", "wait web --for=lunch", 2, "--for lunch: want ready, running, completed or removed"},
		{"a time that is none", "logs web --since nonsense", 2, "--since nonsense: want a duration"},
		{"exec keeps low codes for the command", "exec web", 125, "exec needs a container and a command: stead exec NAME COMMAND; see stead exec --help"},
		{"a variable without a value", "exec -e NAME web true", 125, "--env NAME: want NAME=VALUE"},
		{"no daemon to reload", "reload", 1, "no daemon is running"},
		{"no such container, ps", "ps web", 5, "no container web; stead ps lists them"},
		{"no such container, inspect", "inspect web", 5, "no container web"},
		{"no such container, logs", "logs web", 5, "no container web"},
		{"no such container, status", "status web", 5, "no container web"},
		{"no such container, exec", "exec web true", 125, "no container web"},
		{"nothing to wait for", "wait web --timeout 1ms", 8, "not ready after 1ms: there is no container web"},
		{"removed already", "wait web --for=removed", 0, ""},
		{"a file that isn't there", "validate nonsuch.yaml", 1, "nonsuch.yaml: no such file"},
		{"nothing declared, nothing there", "plan", 0, ""},
		{"and so says the status", "status", 0, ""},
		{"the schema", "schema", 0, ""},
		{"the version", "version", 0, ""},
		{"completion", "completion bash", 0, ""},
	} {
		t.Run(test.summary, func(t *testing.T) {
			c := run(t, "", strings.Fields(test.line)...)
			if c.code != test.code || !strings.Contains(c.err, test.err) {
				t.Errorf("stead %s: code %d, want %d\nstderr: %s\nwant: %s", test.line, c.code, test.code, c.err, test.err)
			}
			if test.code != 0 && strings.Count(c.err, "\n") != 1 {
				t.Errorf("stead %s: want one line, got:\n%s", test.line, c.err)
			}
		})
	}
}

// A flag wins over its variable, the variable over the default.
func TestFlagsWin(t *testing.T) {
	flag, variable := t.TempDir(), t.TempDir()
	writeFile(t, variable+"/web.yaml", good)
	t.Setenv("STEAD_MANIFESTS", "/nonsuch:"+variable)
	if c := run(t, "", "validate"); c.code != 4 || !strings.Contains(c.err, "/nonsuch: ") {
		t.Errorf("a directory that was named and isn't there: %+v", c)
	}
	t.Setenv("STEAD_MANIFESTS", variable)
	if c := run(t, "", "plan"); c.code != 3 || c.out != "create web  (manifest web.yaml)\n" {
		t.Errorf("by the variable: %+v", c)
	}
	if c := run(t, "", "plan", "--manifests", flag); c.code != 0 || c.out != "all is as declared\n" {
		t.Errorf("by the flag: %+v", c)
	}
}

// A plan needs no root: what it may not read counts as not there.
func TestPlanWithoutState(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir+"/web.yaml", good)
	writeFile(t, dir+"/bad.yaml", strings.Replace(good, "network", "netwrok", 1))
	writeFile(t, dir+"/state", "no directory")
	c := run(t, "", "plan", "--manifests", dir, "--state-dir", dir+"/state")
	if c.code != 4 || c.out != "create web  (manifest web.yaml)\n" {
		t.Errorf("%+v", c)
	}
	for _, want := range []string{"all containers count as new", "bad.yaml:8:3: spec.netwrok: unknown field; did you mean network?"} {
		if !strings.Contains(c.err, want) {
			t.Errorf("stderr lacks %q:\n%s", want, c.err)
		}
	}
	c = run(t, "", "plan", "--manifests", dir, "--state-dir", dir+"/state", "-o", "json")
	if c.code != 4 || !strings.Contains(c.out, `"failed": true`) || strings.Contains(c.out, "hunter2") {
		t.Errorf("%+v", c)
	}
}
