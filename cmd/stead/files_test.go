package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"stead/reconcile/view"
)

// The example of files runs, prints its greeting again when that changes, restarts for what
// needs it, and is left as it is when a source is missing.
func TestFilesExample(t *testing.T) {
	h := newHost(t)
	if err := os.CopyFS(h.manifests, os.DirFS("../../examples")); err != nil {
		t.Fatal(err)
	}
	others, _ := filepath.Glob(h.manifests + "/*")
	for _, f := range others {
		if !strings.HasPrefix(filepath.Base(f), "greeter.") {
			os.RemoveAll(f)
		}
	}
	h.startDaemon()
	h.until("greeter", "runs", running)
	h.untilLogged("greeter", "this is a greeter\ngood day\nthe token has 16 characters\n")
	first := h.until("greeter", "runs", running)
	writeFile(t, h.manifests+"/greeter.files/greeting", "good morning\n")
	h.untilLogged("greeter", "reloaded: good morning")
	if now := h.until("greeter", "runs", running); now.Pid != first.Pid {
		t.Error("restarted by a reload")
	}
	if told := h.ok("reload", "greeter"); told != "greeter reloaded\n" {
		t.Errorf("told %q", told)
	}
	h.untilLogged("greeter", "reloaded: good morning\nreloaded: good morning")
	os.Remove(h.manifests + "/greeter.files/greeting")
	v := h.until("greeter", "keeps running with an error", func(v view.Container) bool { return running(v) && v.Sync == view.SyncError })
	want := h.manifests + "/greeter.yaml:22:29: spec.files[/etc/greeting].source: can't read " + h.manifests + "/greeter.files/greeting: no such file or directory"
	if v.Pid != first.Pid || !strings.Contains(v.Message, want) {
		t.Errorf("got %+v, want %s", v, want)
	}
	writeFile(t, h.manifests+"/greeter.files/greeting", "good night\n")
	h.untilLogged("greeter", "reloaded: good night")
	text, err := os.ReadFile(h.manifests + "/greeter.yaml")
	if err != nil {
		t.Fatal(err)
	}
	h.endDaemon(syscall.SIGTERM)
	h.write("greeter.yaml", strings.Replace(string(text), "this is a greeter", "this is another", 1))
	writeFile(t, h.manifests+"/greeter.files/token", "longer-than-before")
	plan := h.stead("plan").out
	if plan != "restart greeter  spec.files[/etc/motd] (changed), spec.files[/run/secrets/token] (changed)  (files[/etc/motd] needs a restart)\n" {
		t.Errorf("plan: %s", plan)
	}
	h.ok("apply")
	h.untilLogged("greeter", "this is another\ngood night\nthe token has 18 characters\n")
	if plan := h.stead("plan"); plan.code != 0 {
		t.Errorf("plan: %+v", plan)
	}
}

// The content of a source is in a container and nowhere else: no plan, log, event, inspect,
// record or command line has it.
func TestFilesAreNeverTold(t *testing.T) {
	const secret, newer, inline = "canary-of-old", "canary-of-today", "canary-in-line"
	h := newHost(t)
	src := h.dir + "/secret"
	writeFile(t, src, secret)
	h.startDaemon("--log-format", "json")
	web := func(more string) string {
		return manifest("web", "  files: {/run/key: {source: "+src+", mode: \"0400\""+more+"}, /run/text: {content: "+inline+", onChange: none}}\n")
	}
	told := h.stead("validate", "--host-checks", h.manifests).out
	h.write("web.yaml", web(""))
	first := h.until("web", "runs", running)
	if got := h.ok("exec", "web", "cat", "/run/key"); got != secret {
		t.Errorf("inside: %q", got)
	}
	writeFile(t, src, newer)
	h.until("web", "has started again", func(v view.Container) bool { return running(v) && v.Pid != first.Pid })
	h.endDaemon(syscall.SIGTERM)
	writeFile(t, src, secret)
	for _, args := range [][]string{{"plan"}, {"plan", "-o", "json"}} {
		told += h.stead(args...).out + h.stead(args...).err
	}
	h.startDaemon("--log-format", "json")
	h.write("web.yaml", web(", onChange: none"))
	h.write("web.yaml", strings.Replace(web(", onChange: none"), inline, newer, 1))
	h.until("web", "is as declared", func(v view.Container) bool { return v.Sync == view.Synced })
	os.Chmod(src, 0)
	os.Remove(src)
	h.until("web", "is refused", func(v view.Container) bool { return v.Sync == view.SyncError })
	writeFile(t, src, secret)
	h.until("web", "is mended", func(v view.Container) bool { return v.Sync == view.Synced })
	for _, args := range [][]string{{"ps", "-o", "json"}, {"status"}, {"events", "-o", "json"}, {"logs", "web"}, {"inspect", "web"}} {
		told += h.ok(args...)
	}
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		b, _ := os.ReadFile(f)
		told += string(b)
	}
	seen := 0
	for _, dir := range []string{h.dir + "/state", h.run} {
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			b, _ := os.ReadFile(path)
			inMemory := strings.HasPrefix(path, h.run+"/files/") && strings.Contains(path, "/data/")
			if has := strings.Contains(string(b), secret) || strings.Contains(string(b), newer) || strings.Contains(string(b), inline); has && inMemory {
				seen++
			} else if has && !(filepath.Base(path) == "container.json" && !strings.Contains(string(b), secret)) { // the manifest itself
				t.Errorf("%s tells it", path)
			}
			return nil
		})
	}
	told += h.endDaemon(syscall.SIGTERM)
	for line := range strings.Lines(told) {
		if strings.Contains(line, secret) || strings.Contains(line, newer) || strings.Contains(line, inline) {
			t.Errorf("told: %s", line)
		}
	}
	if seen != 2 || !strings.Contains(told, "spec.files[/run/key] (changed)") {
		t.Errorf("found in %d files in memory; or nothing is told of it at all: the test proves nothing", seen)
	}
}
