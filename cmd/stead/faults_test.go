package main

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"stead/reconcile/view"
	"stead/runtime/status"
)

// A manifest that goes bad is told in ps, in validate and in the log; its
// container and all others run on.
func TestBrokenManifests(t *testing.T) {
	h := newHost(t)
	good := manifest("victim", "  resources: {memory: 64Mi}\n")
	h.write("victim.yaml", good)
	h.write("bystander.yaml", manifest("bystander", ""))
	h.startDaemon()
	h.ok("wait", "victim", "bystander")
	victim, bystander := h.until("victim", "running", running), h.until("bystander", "running", running)
	for _, test := range []struct {
		summary string
		file    string
		text    string
		why     string
	}{
		{"an unknown field", "victim.yaml", strings.Replace(good, "network", "netwrok", 1), "victim.yaml:7:3: spec.netwrok: unknown field; did you mean network?"},
		{"no name", "victim.yaml", strings.Replace(good, "name: victim, ", "", 1), "victim.yaml:3:1: metadata.name: missing"},
		{"a bad quantity", "victim.yaml", strings.Replace(good, "64Mi", "64M", 1), `victim.yaml:8:23: spec.resources.memory: found "64M"`},
		{"a file cut to half", "victim.yaml", good[:len(good)/2], "victim.yaml:6:"},
		{"an empty file", "victim.yaml", "", "victim.yaml:1: holds no manifest"},
		{"a second claim of the name", "thief.yaml", manifest("victim", ""), `metadata.name: "victim" is taken by `},
	} {
		t.Run(test.summary, func(t *testing.T) {
			h.within(t)
			h.write(test.file, test.text)
			row := "victim"
			if test.file != "victim.yaml" {
				row = h.manifests + "/" + test.file // who holds the name is as declared
			}
			h.until(row, "in error: "+test.why, func(v view.Container) bool {
				return v.Sync == view.SyncError && strings.Contains(v.Why, test.why)
			})
			v := h.until("victim", "there", func(view.Container) bool { return true })
			if v.Pid != victim.Pid || v.State != view.Running {
				t.Errorf("it does not run on: %+v", v)
			}
			if c := h.stead("validate"); c.code != exitInvalid || !strings.Contains(c.err, test.why) {
				t.Errorf("validate: %+v", c)
			}
			if c := h.stead("status"); c.code != exitDiffers || !strings.Contains(c.out, test.why) {
				t.Errorf("status: %+v", c)
			}
			if test.file != "victim.yaml" {
				os.Remove(h.manifests + "/" + test.file)
			}
			h.write("victim.yaml", good)
			h.until("victim", "as declared again", func(v view.Container) bool {
				return v.Sync == view.Synced && v.Pid == victim.Pid
			})
			if v := h.until("bystander", "running", running); v.Pid != bystander.Pid || v.Sync != view.Synced {
				t.Errorf("a bystander was touched: %+v", v)
			}
		})
	}
	t.Run("a slow writer", func(t *testing.T) {
		h.within(t)
		f, err := os.OpenFile(h.manifests+"/victim.yaml", os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			t.Fatal(err)
		}
		better := strings.Replace(good, "64Mi", "80Mi", 1)
		if _, err := f.WriteString(better[:100]); err != nil {
			t.Fatal(err)
		}
		h.until("victim", "waiting for the writer", func(v view.Container) bool {
			return v.Reason == view.ReasonWaitingForWriter && v.Pid == victim.Pid
		})
		if _, err := f.WriteString(better[100:]); err != nil {
			t.Fatal(err)
		}
		f.Close()
		h.until("victim", "as declared again", func(v view.Container) bool {
			return v.Sync == view.Synced && v.Pid == victim.Pid && h.limit(t, "victim") == 80<<20
		})
	})
	log := h.endDaemon(syscall.SIGTERM)
	for _, want := range []string{"spec.netwrok: unknown field", "metadata.name: missing", "holds no manifest", "manifests are valid again"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
}

// A container that can't be started is told with the reason, and tried again; it
// harms no other.
func TestStartsThatFail(t *testing.T) {
	h := newHost(t)
	root := h.dir + "/root"
	for _, dir := range []string{root + "/bin", root + "/dev", root + "/proc", root + "/sys"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../../../../../etc", root+"/out"); err != nil {
		t.Fatal(err)
	}
	h.write("bystander.yaml", manifest("bystander", ""))
	own := strings.NewReplacer("host: {}", "path: "+root).Replace
	faults := []struct {
		name, text, reason, why string
	}{
		{"command", strings.Replace(manifest("command", ""), "[sh,", "[nonsuch,", 1), status.ReasonCommandNotFound, "nonsuch: no such file"},
		{"root", strings.Replace(manifest("root", ""), "host: {}", "path: "+h.dir+"/nonsuch", 1), status.ReasonRootfsMissing, h.dir + "/nonsuch"},
		{"user", manifest("user", "  user: nonsuch\n"), status.ReasonUserNotFound, "nonsuch"},
		{"source", manifest("source", "  mounts: {/mnt: {source: "+h.dir+"/nonsuch}}\n"), status.ReasonMountSourceMissing, h.dir + "/nonsuch"},
		{"target", own(manifest("target", "  mounts: {/out/passwd: {source: /usr/lib/os-release}}\n")), status.ReasonMountTarget, "/out/passwd"},
	}
	for _, f := range faults {
		h.write(f.name+".yaml", f.text)
	}
	before, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	h.startDaemon()
	for _, f := range faults {
		v := h.until(f.name, "in back-off: "+f.reason, func(v view.Container) bool { return v.State == view.BackOff && v.Reason == f.reason })
		if !strings.Contains(v.Why, f.why) || !strings.Contains(v.Why, "next start in") {
			t.Errorf("%s: why %q, want %q", f.name, v.Why, f.why)
		}
	}
	if v := h.until("bystander", "running", running); v.Sync != view.Synced || v.Restarts != 0 {
		t.Errorf("a bystander was touched: %+v", v)
	}
	if after, _ := os.ReadFile("/etc/passwd"); string(after) != string(before) {
		t.Error("the host's /etc/passwd was changed")
	}
	if c := h.stead("validate"); c.code != 0 {
		t.Errorf("what only a start can tell is no error of a manifest: %+v", c)
	}
	log := h.endDaemon(syscall.SIGTERM)
	for _, f := range faults {
		if !strings.Contains(log, "container="+f.name+" ") {
			t.Errorf("the log does not tell of %s:\n%s", f.name, log)
		}
	}
}

// The manifest directory may be missing, at the start and later.
func TestMissingDirectory(t *testing.T) {
	h := newHost(t)
	away := h.dir + "/away"
	if err := os.Remove(h.manifests); err != nil {
		t.Fatal(err)
	}
	h.startDaemon()
	if c := h.stead("status"); !strings.Contains(c.out, h.manifests+": missing") {
		t.Errorf("status: %+v", c)
	}
	if err := os.Mkdir(h.manifests, 0o755); err != nil {
		t.Fatal(err)
	}
	h.write("a.yaml", manifest("a", ""))
	a := h.until("a", "running", running)
	if err := os.Rename(h.manifests, away); err != nil {
		t.Fatal(err)
	}
	v := h.until("a", "held", func(v view.Container) bool { return v.Sync == view.Held })
	if v.Pid != a.Pid || !strings.Contains(v.Why, "directory "+h.manifests+" is missing") {
		t.Errorf("%+v", v)
	}
	if c := h.stead("apply"); c.code != exitInvalid || !strings.Contains(c.err, "removal held") { // as plan says
		t.Errorf("apply: %+v", c)
	}
	time.Sleep(100 * time.Millisecond) // nothing to wait for: nothing must happen
	if err := os.Rename(away, h.manifests); err != nil {
		t.Fatal(err)
	}
	h.until("a", "as declared again", func(v view.Container) bool { return v.Sync == view.Synced && v.Pid == a.Pid })
}
