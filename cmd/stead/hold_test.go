package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"stead/reconcile/events"
	"stead/reconcile/view"
	"stead/runtime/roottest"
)

// What is on hold stays as it is, through a restart of the daemon, and says so
// everywhere; released, it is brought up to date.
func TestHold(t *testing.T) {
	h := newHost(t)
	h.write("web.yaml", manifest("web", ""))
	h.startDaemon()
	before := h.until("web", "running", func(v view.Container) bool { return v.State == view.Running })
	if c := h.stead("hold", "wbe"); c.code != exitMissing {
		t.Errorf("hold of a mistyped name: %+v", c)
	}
	if c := h.stead("hold", "--reason", "two\nlines"); c.code != exitUsage {
		t.Errorf("a reason of two lines: %+v", c)
	}
	h.ok("hold", "web", "--reason", "surgery")
	h.write("web.yaml", manifest("web", "  env: {KEY: other}\n"))
	h.until("web", "held", func(v view.Container) bool {
		return v.Sync == view.Held && v.Reason == view.ReasonOnHold
	})
	h.endDaemon(syscall.SIGKILL)
	h.startDaemon()
	if v := h.until("web", "held after a restart", func(v view.Container) bool { return v.Sync == view.Held }); v.Pid != before.Pid {
		t.Errorf("its process is another: %+v", v)
	}
	if c := h.stead("apply"); c.code != exitHeld || !strings.Contains(c.err, "surgery; end it with stead release web") {
		t.Errorf("apply: %+v", c)
	}
	if c := h.stead("plan"); c.code != exitDiffers || !strings.Contains(c.out, "hold web  spec.env.KEY") {
		t.Errorf("plan: %+v", c)
	}
	if c := h.stead("status"); !strings.Contains(c.out, "on hold:\n  web: restart waits; on hold since ") {
		t.Errorf("status: %+v", c)
	}
	h.ok("release", "web")
	h.until("web", "up to date", func(v view.Container) bool {
		return v.Sync == view.Synced && v.Pid != before.Pid && v.Pid != 0
	})
	for name, want := range map[string]call{
		"web": {exitFailure, "", "stead: release web: it is not on hold\n"},
		"wbe": {exitMissing, "", "stead: no container wbe; did you mean web?\n"},
	} {
		if c := h.stead("release", name); c != want {
			t.Errorf("release of what is not on hold: %+v, want %+v", c, want)
		}
	}
	h.endDaemon(syscall.SIGTERM)
	h.ok("hold") // without a daemon, the whole host
	h.write("new.yaml", manifest("new", ""))
	if c := h.stead("apply"); c.code != exitHeld || strings.Contains(c.out, "create") {
		t.Errorf("apply on hold: %+v", c)
	}
	h.ok("release")
	h.ok("apply")
}

// What happened is told by `events`, also of ends that no daemon saw, each once,
// and while it happens.
func TestEvents(t *testing.T) {
	h := newHost(t)
	if c := h.stead("events"); c.code != 0 && !strings.Contains(c.err, "no container has run") {
		t.Errorf("on a new host: %+v", c)
	}
	h.startDaemon()
	follow := h.command("events", "-f", "-o", "json", "--tail", "1")
	out, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = follow.Process.Signal(syscall.SIGINT)
		if err := follow.Wait(); err != nil {
			t.Errorf("events -f after ^C: %v", err)
		}
	}()
	nothing := time.AfterFunc(roottest.Patience, func() { _ = follow.Process.Kill() })
	defer nothing.Stop()
	lines := bufio.NewScanner(out)
	next := func() (e events.Event) {
		t.Helper()
		nothing.Reset(roottest.Patience)
		if !lines.Scan() {
			t.Fatalf("events -f ended: %v", lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	want := func(what events.Type, action string) {
		t.Helper()
		if e := next(); e.Type != what || e.Action != action || e.Type != events.Started && e.Container != "job" {
			t.Errorf("found %+v, want %s %s", e, what, action)
		}
	}
	want(events.Started, "") // the last one before now, and it follows
	gate := h.dir + "/gate"
	if err := syscall.Mkfifo(gate, 0o666); err != nil {
		t.Fatal(err)
	}
	_ = os.Chmod(gate, 0o666)
	command := "  command: [sh, -c, 'read x </gate; exit 7']\n"
	job := strings.Replace(manifest("job", "  restart: {policy: never}\n  env: {TOKEN: s3cret}\n  mounts: {/gate: {source: "+gate+"}}\n"),
		"  command:", command+"  x:", 1)
	job = strings.Join(slices.DeleteFunc(strings.SplitAfter(job, "\n"), func(l string) bool { return strings.HasPrefix(l, "  x:") }), "")
	h.write("job.yaml", job)
	want(events.Done, "create")
	h.endDaemon(syscall.SIGKILL)
	open, err := os.OpenFile(gate, os.O_RDWR, 0) // for both, so that it never blocks
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if _, err := open.WriteString("go\n"); err != nil { // it ends with no daemon there
		t.Fatal(err)
	}
	h.until("job", "ended", func(v view.Container) bool { return v.State == view.Failed })
	h.startDaemon()
	want(events.Started, "")
	if e := next(); e.Type != events.Exited || e.ExitCode == nil || *e.ExitCode != 7 {
		t.Errorf("the end: %+v", e)
	}
	h.endDaemon(syscall.SIGTERM)
	h.startDaemon()
	want(events.Started, "") // and not the end once more
	h.write("job.yaml", strings.Replace(job, "s3cret", "s4cret", 1)+"  suspend: true\n")
	want(events.Done, "restart")
	all := h.ok("events") + h.ok("events", "-o", "json") + h.ok("events", "job", "--tail", "1")
	if strings.Contains(all, "cret") {
		t.Errorf("a secret is in the events:\n%s", all)
	}
	if !strings.Contains(all, "exited job  (exit code 7)") {
		t.Errorf("events:\n%s", all)
	}
	later := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	if c := h.stead("events", "job", "jbo"); c.code != exitMissing || !strings.Contains(c.out, "exited job") || c.err != "stead: no container jbo; did you mean job?\n" {
		t.Errorf("events of a container that isn't there: %+v", c)
	}
	os.Remove(h.manifests + "/job.yaml")
	h.ok("apply", "--confirm-removal=all")
	if c := h.stead("events", "job", "--since", later); c.code != 0 || c.out != "" {
		t.Errorf("no news of one that is gone: %+v", c)
	}
}

// The data of a removed container is listed, and deleted by its name alone.
func TestRemovedAndPurge(t *testing.T) {
	h := newHost(t)
	h.write("web.yaml", manifest("web", ""))
	h.write("db.yaml", manifest("db", ""))
	h.ok("apply")
	os.Remove(h.manifests + "/web.yaml")
	h.ok("apply")
	entry := strings.TrimSpace(h.ok("ps", "--removed", "-o", "name"))
	if !strings.HasPrefix(entry, "web@") || strings.Contains(entry, "\n") {
		t.Fatalf("removed: %q", entry)
	}
	if table := h.ok("ps", "--removed"); !strings.Contains(table, entry) {
		t.Errorf("table:\n%s", table)
	}
	if c := h.stead("purge", "db"); c.code != exitFailure || !strings.Contains(c.err, "is declared by "+h.manifests+"/db.yaml") {
		t.Errorf("purge of what is there: %+v", c)
	}
	if c := h.stead("purge", "wbe", "web"); c.code != exitMissing || !strings.Contains(c.out, entry+" deleted") || !strings.Contains(c.err, "no removed container wbe") {
		t.Errorf("purge of two, one of them mistyped: %+v", c)
	}
	if left := h.ok("ps", "--removed", "-o", "name"); left != "" {
		t.Errorf("left: %s", left)
	}
	h.write("web.yaml", manifest("web", ""))
	if out := h.ok("apply"); strings.Contains(out, "brought back") {
		t.Errorf("after the purge something came back: %s", out)
	}
}

// A purge that fails names the file and the reason; what is left is listed, and goes with the next purge.
func TestPurgeOfImmutable(t *testing.T) {
	h := newHost(t)
	h.startDaemon()
	h.write("web.yaml", manifest("web", ""))
	h.write("db.yaml", manifest("db", ""))
	h.ok("apply")
	os.Remove(h.manifests + "/web.yaml")
	h.ok("apply")
	entry := strings.TrimSpace(h.ok("ps", "--removed", "-o", "name"))
	dir := h.dir + "/state/removed/"
	if err := os.MkdirAll(dir+entry+"/upper/srv/data", 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+entry+"/upper/srv/data/fixed", "x")
	attribute := func(how string) {
		t.Helper()
		files, _ := filepath.Glob(dir + "*" + entry + "/upper/srv/data/fixed")
		if out, err := exec.Command("chattr", append([]string{how}, files...)...).CombinedOutput(); err != nil || len(files) == 0 {
			t.Skipf("chattr %s %q: %v %s", how, files, err, out)
		}
	}
	attribute("+i")
	t.Cleanup(func() {
		if files, _ := filepath.Glob(dir + "*/upper/srv/data/fixed"); len(files) > 0 {
			attribute("-i")
		}
	})
	left := dir + ".deleting-" + entry
	fixed := left + "/upper/srv/data/fixed"
	for _, name := range []string{"web", entry, "web"} {
		c := h.stead("purge", name)
		if want := "stead: delete " + entry + ": unlink " + fixed + ": operation not permitted: immutable; to allow it: chattr -i " + fixed + "; the rest can be purged again: stead purge " + entry + "\n"; c.code != exitFailure || c.out != "" || c.err != want {
			t.Fatalf("purge %s: code %d, %q\n%s\nwant %s", name, c.code, c.out, c.err, want)
		}
		if table := h.ok("ps", "--removed", "-o", "wide"); !strings.Contains(table, "(partly deleted)") || !strings.Contains(table, left) {
			t.Errorf("table:\n%s", table)
		}
		if got := h.ok("ps", "--removed", "-o", "json"); !strings.Contains(got, `"deleting": true`) || strings.Count(got, `"entry"`) != 1 {
			t.Errorf("json:\n%s", got)
		}
	}
	h.write("web.yaml", manifest("web", ""))
	if out := h.ok("apply"); strings.Contains(out, "brought back") {
		t.Errorf("half of it came back: %s", out)
	}
	attribute("-i")
	if out := h.ok("purge", "web"); out != entry+" deleted\n" {
		t.Errorf("purge: %q", out)
	}
	if out := h.ok("ps", "--removed", "-o", "name"); out != "" {
		t.Errorf("left: %q", out)
	}
}
