package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stead/reconcile/view"
)

// replicated is a manifest of containers that note in their root that they ran.
func replicated(n int, more string) string {
	return fmt.Sprintf(`apiVersion: stead/v1
kind: Container
metadata: {name: web, labels: {app: test}}
spec:
  replicas: %d
  rootfs: {host: {}}
  command: [sh, -c, 'echo "$STEAD_NAME $STEAD_INDEX" >> /root/runs; echo "I am $STEAD_NAME, number $STEAD_INDEX of $1"; exec sleep infinity', sh, "${stead.index}"]
  stop: {signal: KILL}
  network: {mode: none}
%s`, n, more)
}

// From 50 to 20 and back: 20 keep their processes, and 30 get their data back.
func TestReplicas(t *testing.T) {
	h := newHost(t)
	h.write("web.yaml", replicated(50, ""))
	h.startDaemon()
	h.ok("apply")
	pids := func() map[string]int {
		all := map[string]int{}
		for _, v := range h.look() {
			if v.State == view.Running && v.Sync == view.Synced && v.Group == "web" {
				all[v.Name] = v.Pid
			}
		}
		return all
	}
	runs := func(name string) string {
		data, _ := os.ReadFile(h.dir + "/state/containers/" + name + "/upper/root/runs")
		return strings.ReplaceAll(string(data), "\n", ";")
	}
	first := pids()
	if len(first) != 50 || first["web-49"] == 0 {
		t.Fatalf("%d run: %v", len(first), first)
	}
	h.write("web.yaml", replicated(20, ""))
	h.ok("apply")
	for name, pid := range pids() {
		if first[name] != pid {
			t.Errorf("20: pid of %s is %d, was %d", name, pid, first[name])
		}
	}
	if kept, _ := filepath.Glob(h.dir + "/state/removed/web-*/upper/root/runs"); len(kept) != 30 || len(pids()) != 20 {
		t.Errorf("20: %d run, the data of %d is kept", len(pids()), len(kept))
	}
	h.write("web.yaml", replicated(50, ""))
	h.ok("apply")
	again := pids()
	if len(again) != 50 {
		t.Errorf("50 again: %d run", len(again))
	}
	for i := range 50 {
		name := fmt.Sprintf("web-%d", i)
		want := fmt.Sprintf("%s %d;", name, i)
		if i >= 20 {
			want += want
		} else if again[name] != first[name] {
			t.Errorf("50 again: pid of %s is %d, was %d", name, again[name], first[name])
		}
		h.untilLogged(name, fmt.Sprintf("I am %s, number %d of %[2]d", name, i))
		if got := runs(name); got != want {
			t.Errorf("%s: its file holds %q, want %q", name, got, want)
		}
	}
	if c := h.stead("plan"); c.code != 0 {
		t.Errorf("plan: %+v", c)
	}
}

// Verbs take the manifest's name for all its replicas; where one is wanted, they are named.
func TestVerbsOfReplicas(t *testing.T) {
	h := newHost(t)
	h.write("web.yaml", replicated(2, ""))
	h.ok("apply")
	if out := h.ok("ps", "-o", "name", "web"); out != "web-0\nweb-1\n" {
		t.Errorf("ps: %q", out)
	}
	if out := h.ok("ps", "-o", "json", "web-1"); !strings.Contains(out, `"group": "web"`) {
		t.Errorf("ps -o json: %s", out)
	}
	for _, verb := range []string{"exec", "inspect"} {
		args := []string{verb, "web"}
		if verb == "exec" {
			args = append(args, "true")
		}
		if c := h.stead(args...); c.code == 0 || !strings.Contains(c.err, "web has replicas; name one of them: web-0, web-1") {
			t.Errorf("%s: %+v", verb, c)
		}
	}
	if out := h.ok("exec", "web-1", "sh", "-c", "echo $STEAD_INDEX"); out != "1\n" {
		t.Errorf("exec: %q", out)
	}
	h.untilLogged("web-0", "I am web-0")
	h.untilLogged("web-1", "I am web-1")
	if out := h.ok("logs", "web"); !strings.Contains(out, "web-0  I am web-0") || !strings.Contains(out, "web-1  I am web-1") {
		t.Errorf("logs: %q", out)
	}
	if out := h.ok("stop", "web"); out != "web-0 stop\nweb-1 stop\n" && out != "web-0 stopped\nweb-1 stopped\n" {
		t.Errorf("stop: %q", out)
	}
	h.ok("start", "web")
	h.ok("restart", "web")
	h.ok("wait", "web")
	if out := h.ok("events", "web"); !strings.Contains(out, "create web-0") || !strings.Contains(out, "create web-1") {
		t.Errorf("events: %q", out)
	}
	if c := h.stead("ps", "web-7"); c.code != exitMissing || !strings.Contains(c.err, "no container web-7; did you mean") {
		t.Errorf("ps of none: %+v", c)
	}
	h.ok("hold", "web")
	h.write("web.yaml", replicated(3, "  resources: {pids: 50}\n"))
	if c := h.stead("apply"); c.code != exitHeld || len(h.views()) != 3 || !strings.Contains(c.err+c.out, "stead release web") {
		t.Errorf("apply on hold: %+v", c)
	}
	h.ok("release", "web")
	h.ok("apply")
	if out := h.ok("ps", "-o", "name"); out != "web-0\nweb-1\nweb-2\n" {
		t.Errorf("ps after the release: %q", out)
	}
	h.write("web.yaml", replicated(1, "  resources: {pids: 50}\n"))
	h.ok("apply")
	if out := h.ok("ps", "--removed", "web", "-o", "name"); strings.Count(out, "\n") != 2 || !strings.HasPrefix(out, "web-1@") {
		t.Errorf("removed: %q", out)
	}
	if out := h.ok("purge", "web"); strings.Count(out, " deleted\n") != 2 || !strings.Contains(out, "web-2@") {
		t.Errorf("purge: %q", out)
	}
	if c := h.stead("purge", "web"); c.code == 0 || len(h.views()) != 1 {
		t.Errorf("purge of nothing: %+v", c)
	}
}

// Replicas for the first time: web becomes web-0 with its root, and back.
func TestRename(t *testing.T) {
	h := newHost(t)
	plain := strings.NewReplacer("  replicas: 2\n", "", `, sh, "${stead.index}"`, "").Replace(replicated(2, ""))
	h.write("web.yaml", plain)
	h.ok("apply")
	h.untilLogged("web", "I am web")
	h.write("web.yaml", replicated(2, ""))
	if c := h.stead("plan"); c.code != exitDiffers || !strings.Contains(c.out, "rename web to web-0  replica (absent) → 0 of web") || !strings.Contains(c.out, "(replicas in web.yaml, needs a restart)") {
		t.Errorf("plan: %+v", c)
	}
	h.ok("apply")
	h.untilLogged("web-0", "I am web-0, number 0")
	h.untilLogged("web-0", "I am web, number")
	h.write("web.yaml", plain)
	h.ok("apply")
	h.untilLogged("web", "I am web,")
	want := "web ;web-0 0;web ;"
	data, err := os.ReadFile(h.dir + "/state/containers/web/upper/root/runs")
	if got := strings.ReplaceAll(string(data), "\n", ";"); got != want {
		t.Errorf("its file holds %q (%v), want %q", got, err, want)
	}
	if c := h.stead("plan"); c.code != 0 {
		t.Errorf("plan: %+v", c)
	}
}
