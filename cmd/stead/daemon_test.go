package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"stead/reconcile/view"
)

// manifest is a container that runs until it is told to end.
func manifest(name, more string) string {
	return fmt.Sprintf(`apiVersion: stead/v1
kind: Container
metadata: {name: %s, labels: {app: test}}
spec:
  rootfs: {host: {}}
  command: [sh, -c, 'trap "exit 0" TERM; echo "I am $STEAD_NAME"; while :; do sleep 5 & wait $!; done']
  network: {mode: none}
%s`, name, more)
}

func running(v view.Container) bool { return v.State == view.Running }

// The life of a host: what is dropped in comes up, what is edited changes, what
// is broken harms nothing, what is deleted goes, and the daemon may die.
func TestDaemon(t *testing.T) {
	h := newHost(t)
	h.write("a.yaml", manifest("a", "  resources: {memory: 64Mi}\n"))
	h.write("b.yaml", manifest("b", ""))
	h.startDaemon()
	h.ok("wait", "--for=running", "--timeout=60s", "a", "b")
	a, b := h.until("a", "running", running), h.until("b", "running", running)
	if a.Pid == 0 || !a.Ready || a.Sync != view.Synced || a.Manifest != h.manifests+"/a.yaml" || a.StartedAt.IsZero() {
		t.Errorf("ps tells of a: %+v", a)
	}

	t.Run("a second daemon refuses and names the first", func(t *testing.T) {
		h.within(t)
		c := h.stead("daemon")
		if c.code != exitLocked || !strings.Contains(c.err, fmt.Sprintf("another stead (process %d)", h.daemon.Process.Pid)) {
			t.Errorf("%+v, want code %d and process %d", c, exitLocked, h.daemon.Process.Pid)
		}
	})
	t.Run("other sources than the daemon's are refused", func(t *testing.T) {
		h.within(t)
		if c := h.stead("apply", "--manifests", h.dir); c.code != exitUsage || !strings.Contains(c.err, "the daemon uses manifests "+h.manifests+", not "+h.dir) {
			t.Errorf("%+v", c)
		}
	})
	t.Run("a limit is edited in place", func(t *testing.T) {
		h.within(t)
		h.write("a.yaml", manifest("a", "  resources: {memory: 96Mi}\n"))
		h.ok("apply")
		if got := h.limit(t, "a"); got != 96<<20 {
			t.Errorf("the cgroup says %d", got)
		}
		if v := h.until("a", "running", running); v.Pid != a.Pid {
			t.Errorf("pid %d became %d", a.Pid, v.Pid)
		}
	})
	t.Run("a broken manifest harms nothing", func(t *testing.T) {
		h.within(t)
		h.write("a.yaml", manifest("a", "  resources: {memory: 96M}\n"))
		v := h.until("a", "in error", func(v view.Container) bool { return v.Sync == view.SyncError })
		if v.Pid != a.Pid || v.Reason != view.ReasonInvalidManifest || !strings.Contains(v.Why, "a.yaml:8:23: spec.resources.memory") {
			t.Errorf("%+v", v)
		}
		if c := h.stead("apply"); c.code != exitInvalid {
			t.Errorf("apply: %+v", c)
		}
		if c := h.stead("status"); c.code != exitDiffers || !strings.Contains(c.out, "broken manifests") {
			t.Errorf("status: %+v", c)
		}
		h.write("a.yaml", manifest("a", "  resources: {memory: 96Mi}\n"))
		h.until("a", "synced", func(v view.Container) bool { return v.Sync == view.Synced && v.Pid == a.Pid })
	})
	t.Run("a deleted manifest takes its container away", func(t *testing.T) {
		h.within(t)
		h.write("c.yaml", manifest("c", ""))
		h.ok("wait", "c")
		os.Remove(h.manifests + "/c.yaml")
		if out := h.ok("apply"); !strings.HasPrefix(out, "remove c  (manifest gone from ") {
			t.Errorf("apply says %q", out)
		}
		h.ok("wait", "--for=removed", "c")
		if kept, _ := filepath.Glob(h.dir + "/state/removed/c@*/upper"); len(kept) != 1 {
			t.Errorf("its root is not kept: %v", kept)
		}
	})
	t.Run("the daemon is killed, and ends", func(t *testing.T) {
		h.within(t)
		for _, end := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
			began := time.Now()
			h.endDaemon(end)
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("%v: it took %v to end", end, took)
			}
			for _, v := range h.views() { // without a daemon
				if want := map[string]int{"a": a.Pid, "b": b.Pid}[v.Name]; v.Pid != want {
					t.Errorf("%v: pid of %s is %d, was %d", end, v.Name, v.Pid, want)
				}
			}
			h.startDaemon()
			h.ok("apply")
			if v := h.until("a", "running", running); v.Pid != a.Pid {
				t.Errorf("%v: pid %d became %d", end, a.Pid, v.Pid)
			}
		}
	})
	t.Run("the removal of all is held", func(t *testing.T) {
		h.within(t)
		os.Rename(h.manifests+"/a.yaml", h.dir+"/a.yaml")
		os.Rename(h.manifests+"/b.yaml", h.dir+"/b.yaml")
		if c := h.stead("apply"); c.code != exitHeld || !strings.Contains(c.err, "stead apply --confirm-removal=a") {
			t.Errorf("%+v", c)
		}
		if v := h.until("a", "held", func(v view.Container) bool { return v.Sync == view.Held }); v.Pid != a.Pid {
			t.Errorf("%+v", v)
		}
		os.Rename(h.dir+"/a.yaml", h.manifests+"/a.yaml")
		os.Rename(h.dir+"/b.yaml", h.manifests+"/b.yaml")
		h.ok("apply")
	})
	t.Run("the daemon ends and takes the containers down", func(t *testing.T) {
		h.within(t)
		h.endDaemon(syscall.SIGKILL)
		h.startDaemon("--stop-containers")
		h.ok("apply")
		log := h.endDaemon(syscall.SIGTERM)
		if left := h.processes(); len(left) > 0 {
			t.Errorf("processes %v are left\n%s", left, log)
		}
		h.startDaemon() // and the next one starts them again
		h.until("a", "running", func(v view.Container) bool { return running(v) && v.Pid != a.Pid })
	})
}

// limit is the memory limit that the kernel has.
func (h *testHost) limit(t *testing.T, name string) (n int64) {
	for _, file := range []string{"memory/" + h.group + "/" + name + ".*/memory.limit_in_bytes", h.group + "/" + name + ".*/memory.max"} {
		if found, _ := filepath.Glob("/sys/fs/cgroup/" + file); len(found) == 1 {
			b, _ := os.ReadFile(found[0])
			fmt.Sscan(string(b), &n)
			return n
		}
	}
	t.Errorf("no cgroup of %s", name)
	return 0
}

// Everything works without a daemon too, and a verb leaves no keeper behind that
// holds nothing.
func TestWithoutDaemon(t *testing.T) {
	h := newHost(t)
	h.write("a.yaml", manifest("a", "  env: {SECRET: hunter2}\n"))
	if c := h.stead("plan"); c.code != exitDiffers || c.out != "create a  (manifest a.yaml)\n" {
		t.Errorf("plan: %+v", c)
	}
	if c := h.stead("apply", "--exit-code"); c.code != exitDiffers || c.out != "create a  (manifest a.yaml)\n" {
		t.Errorf("apply: %+v", c)
	}
	if out := h.ok("apply", "--exit-code"); out != "all is as declared\n" {
		t.Errorf("apply again: %s", out)
	}
	a := h.until("a", "running", running)
	if out := h.ok("inspect", "a"); strings.Contains(out, "hunter2") || !strings.Contains(out, `"SECRET": "(hidden)"`) {
		t.Errorf("inspect shows: %s", out)
	}
	if out := h.ok("inspect", "a", "--show-env"); !strings.Contains(out, `"SECRET": "hunter2"`) {
		t.Errorf("inspect --show-env hides: %s", out)
	}
	h.ok("restart", "-l", "app=test")
	if v := h.until("a", "running", running); v.Pid == a.Pid {
		t.Error("restart left the process as it was")
	}
	h.ok("stop", "a")
	v := h.views()[0]
	if v.State != view.Stopped || v.Reason != view.ReasonStoppedByAdmin {
		t.Errorf("stopped: %+v", v)
	}
	if left := h.processes(); len(left) > 0 {
		t.Errorf("a keeper of nothing is left: %v", left)
	}
	if out := h.ok("apply"); out != "all is as declared\n" {
		t.Errorf("a stop is durable; apply says %s", out)
	}
	if c := h.stead("wait", "a", "--timeout=5s"); c.code != exitFailure || !strings.Contains(c.err, "cannot become ready by itself") {
		t.Errorf("wait: %+v", c)
	}
	h.ok("start", "a")
	h.ok("wait", "a")
	if out := h.ok("logs", "a"); !strings.HasPrefix(out, "I am a\nI am a\n") {
		t.Errorf("logs: %q", out)
	}
}

// A command in a container: streams, environment, signals, and exit codes.
func TestExec(t *testing.T) {
	h := newHost(t)
	h.env = []string{"STEAD_TEST_HERE=from here"}
	h.write("a.yaml", manifest("a", "  env: {GREETING: hello}\n"))
	h.ok("apply")
	for _, test := range []struct {
		summary string
		stdin   string
		args    string
		script  string
		want    call
	}{
		{"streams and code", "", "a", "echo out; echo err >&2; exit 7", call{7, "out\n", "err\n"}},
		{"no stdin unless asked for", "lost", "a", "cat", call{}},
		{"stdin", "kept", "-i a", "cat", call{0, "kept", ""}},
		{"environment", "", "-e NAME=you a", `echo "$GREETING $NAME"`, call{0, "hello you\n", ""}},
		{"environment of here", "", "-e STEAD_TEST_HERE a", `echo "$STEAD_TEST_HERE"`, call{0, "from here\n", ""}},
		{"user and directory", "", "-u nobody -w /tmp a --", "id -un; pwd", call{0, "nobody\n/tmp\n", ""}},
		{"a signal's code", "", "a", "kill -9 $$", call{137, "", ""}},
		{"what it leaves running is not waited for", "", "a", "sleep 60 & echo done", call{0, "done\n", ""}},
		{"all output, however slowly it is read", "", "a", "head -c 300000 /dev/zero | tr '\\0' x", call{0, strings.Repeat("x", 300000), ""}},
	} {
		t.Run(test.summary, func(t *testing.T) {
			h.within(t)
			args := append([]string{"exec"}, strings.Fields(test.args)...)
			if got := h.steadWith(test.stdin, append(args, "sh", "-c", test.script)...); got != test.want {
				t.Errorf("got %d %.200q %q", got.code, got.out, got.err)
			}
		})
	}
	if c := h.stead("exec", "-e", "STEAD_TEST_NOWHERE", "a", "true"); c.code != exitExec || !strings.Contains(c.err, "STEAD_TEST_NOWHERE has no value here") {
		t.Errorf("a variable that is not set: %+v", c)
	}
	if c := h.stead("exec", "a", "nonsuch"); c.code != 127 {
		t.Errorf("a command that isn't there: %+v", c)
	}
	if c := h.stead("exec", "a", "/etc"); c.code != 126 {
		t.Errorf("a command that can't be executed: %+v", c)
	}
	t.Run("a signal is passed on", func(t *testing.T) {
		h.within(t)
		cmd := h.command("exec", "a", "sh", "-c", `trap "echo caught; exit 3" TERM; echo ready; while :; do sleep 0.1; done`)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 64)
		n, _ := out.Read(buffer)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		m, _ := out.Read(buffer[n:])
		_ = cmd.Wait()
		if got := string(buffer[:n+m]); got != "ready\ncaught\n" || cmd.ProcessState.ExitCode() != 3 {
			t.Errorf("%q, code %d", got, cmd.ProcessState.ExitCode())
		}
	})
}
