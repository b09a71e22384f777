package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"stead/reconcile/view"
	"stead/runtime/roottest"
)

// A restart by hand goes by what was applied where the manifest is broken, and
// says so.
func TestRestartWithABrokenManifest(t *testing.T) {
	h := newHost(t)
	h.write("web.yaml", manifest("web", ""))
	h.startDaemon()
	h.until("web", "running", running)
	if c := h.stead("restart", "web"); c != (call{0, "web restarted\n", ""}) {
		t.Errorf("with a manifest in order: %+v", c)
	}
	h.write("web.yaml", strings.Replace(manifest("web", ""), "command:", "comand:", 1))
	h.until("web", "in error", func(v view.Container) bool { return v.Sync == view.SyncError })
	c := h.stead("restart", "web")
	want := "stead: web restarted with its last applied manifest, since the current one is invalid: " + h.manifests + "/web.yaml:6:3: spec.comand: unknown field; did you mean command?\n"
	if c != (call{0, "web restarted\n", want}) {
		t.Errorf("got %+v, want %q", c, want)
	}
}

// logs -f of a container that is removed ends, and says why.
func TestFollowedLogOfARemovedContainer(t *testing.T) {
	h := newHost(t)
	h.write("web.yaml", strings.Replace(manifest("web", ""), "[sh,", "[sh, -c, 'echo one; exec sleep 1000'] #", 1))
	h.ok("apply")
	var said bytes.Buffer
	logs := h.command("logs", "-f", "web")
	logs.Stderr = &said
	out, err := logs.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := logs.Start(); err != nil {
		t.Fatal(err)
	}
	defer logs.Process.Kill()
	first := make([]byte, len("one\n"))
	if _, err := io.ReadFull(out, first); err != nil || string(first) != "one\n" { // it follows
		t.Fatalf("%v: %q, %s", err, first, &said)
	}
	os.Remove(h.manifests + "/web.yaml")
	h.ok("apply", "--confirm-removal=web")
	patience := time.AfterFunc(roottest.Patience, func() { _ = logs.Process.Kill() })
	defer patience.Stop()
	rest, _ := io.ReadAll(out)
	if err := logs.Wait(); err != nil || len(rest) > 0 || said.String() != "stead: web was removed; its log ends here\n" {
		t.Errorf("%v: %q, %q", err, rest, said.String())
	}
}

// What an admin stopped will not complete: who waits is told at once.
func TestWaitForTheEndOfWhatIsStopped(t *testing.T) {
	h := newHost(t)
	h.write("job.yaml", manifest("job", "  restart: {policy: never}\n"))
	h.ok("apply")
	h.ok("stop", "job")
	began := time.Now()
	c := h.stead("wait", "--for=completed", "job")
	if c.code != exitFailure || !strings.Contains(c.err, "stead: job is Stopped (stopped by admin since ") || !strings.HasSuffix(c.err, "), and cannot become completed by itself\n") {
		t.Errorf("%+v", c)
	}
	if took := time.Since(began); took > 20*time.Second { // of a minute that it may wait
		t.Errorf("it took %s", took)
	}
}

// A verb that an admin interrupts says whether its work goes on.
func TestInterrupted(t *testing.T) {
	h := newHost(t)
	h.write("deaf.yaml", strings.Replace(manifest("deaf", "  stop: {timeout: 3s}\n"), `trap "exit 0" TERM`, `trap "" TERM`, 1))
	h.startDaemon()
	h.untilLogged("deaf", "I am deaf") // and is from here on
	var said bytes.Buffer
	stop := h.command("stop", "deaf")
	stop.Stderr = &said
	if err := stop.Start(); err != nil {
		t.Fatal(err)
	}
	h.until("deaf", "stopping", func(v view.Container) bool { return v.State == view.Stopping })
	if err := stop.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = stop.Wait()
	if code := stop.ProcessState.ExitCode(); code != exitFailure || said.String() != "stead: interrupted; the daemon continues: stead status deaf\n" {
		t.Errorf("code %d: %q", code, said.String())
	}
	h.until("deaf", "stopped", func(v view.Container) bool { return v.State == view.Stopped }) // it went on
}

// exec in a container that is not running says why it is not.
func TestExecInOneThatEnded(t *testing.T) {
	h := newHost(t)
	h.write("job.yaml", strings.Replace(manifest("job", "  restart: {policy: never}\n"), "[sh,", "[sh, -c, 'exit 3'] #", 1))
	h.startDaemon()
	h.until("job", "failed", func(v view.Container) bool { return v.State == view.Failed })
	want := call{exitExec, "", "stead: job is not running: Failed, exit code 3, restart policy never; see stead logs job\n"}
	if c := h.stead("exec", "job", "true"); c != want {
		t.Errorf("%+v, want %+v", c, want)
	}
	if c := h.stead("exec", "jbo", "true"); c != (call{exitExec, "", "stead: no container jbo; did you mean job?\n"}) {
		t.Errorf("a mistyped name: %+v", c)
	}
}

// Who is not root is told so in one line, with what to type.
func TestNeedsRoot(t *testing.T) {
	h := newHost(t)
	h.startDaemon()
	for verb, want := range map[string]string{
		"ps": "stead: ps needs root: sudo stead ps\n", "apply": "stead: apply needs root: sudo stead apply\n", "logs x": "stead: logs needs root: sudo stead logs\n",
	} {
		program, err := os.Open("/proc/self/exe") // nobody may not look it up
		if err != nil {
			t.Fatal(err)
		}
		defer program.Close()
		var out, said bytes.Buffer
		cmd := exec.Command("/proc/self/fd/3", append(strings.Fields(verb), "--config=/dev/null", "--state-dir="+h.dir+"/state", "--run-dir="+h.run, "--manifests="+h.manifests)...)
		cmd.ExtraFiles, cmd.Stdout, cmd.Stderr, cmd.Dir = []*os.File{program}, &out, &said, "/"
		cmd.Env = []string{asProgram + "=1"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		err = cmd.Run()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != exitFailure || out.String() != "" || said.String() != want {
			t.Errorf("%s: code %d, %q, want %q", verb, code, said.String(), want)
		}
	}
}

func TestFlagsThatWantNumbers(t *testing.T) {
	for args, want := range map[string]string{
		"logs web --tail x":      "stead: --tail x: want a whole number; see stead logs --help\n",
		"wait web --timeout 5":   "stead: --timeout 5: want a duration such as 10s or 1m30s; see stead wait --help\n",
		"logs web --follow=mayb": "stead: --follow mayb: want true or false; see stead logs --help\n",
		"ps -o xml":              "stead: --output xml: want table, wide, json, yaml or name; see stead ps --help\n",
	} {
		if got := run(t, "", strings.Fields(args)...); got != (call{exitUsage, "", want}) {
			t.Errorf("%s: %+v, want %q", args, got, want)
		}
	}
}

// A daemon whose socket somebody deleted makes it again.
func TestDeletedSocketOfTheDaemon(t *testing.T) {
	h := newHost(t)
	h.startDaemon()
	if err := os.Remove(h.run + "/daemon.sock"); err != nil {
		t.Fatal(err)
	}
	if err := h.daemon.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(roottest.Patience); ; time.Sleep(10 * time.Millisecond) {
		if c := h.stead("reload"); c.code == 0 {
			break
		} else if time.Now().After(end) {
			t.Fatalf("%+v", c)
		}
	}
	if log := h.endDaemon(syscall.SIGTERM); !strings.Contains(log, "the control socket was deleted by hand; created it again") {
		t.Errorf("the log does not say so:\n%s", log)
	}
	if _, err := os.Stat(h.run + "/daemon.sock"); !os.IsNotExist(err) {
		t.Errorf("the socket is left over: %v", err)
	}
}

// An apply sees what somebody has just changed by hand, with a daemon or without, and
// says so.
func TestApplyAfterHands(t *testing.T) {
	h := newHost(t)
	h.write("web.yaml", manifest("web", "  resources: {pids: 50}\n"))
	for _, with := range []string{"a daemon", "none"} {
		if with == "a daemon" {
			h.startDaemon()
			h.until("web", "running", running)
		} else {
			h.endDaemon(syscall.SIGTERM)
		}
		var v struct{ Cgroups []string }
		if err := json.Unmarshal([]byte(h.ok("inspect", "web")), &v); err != nil {
			t.Fatal(err)
		}
		for _, dir := range v.Cgroups {
			os.WriteFile(dir+"/pids.max", []byte("40"), 0) // where there is one
		}
		if out := h.ok("apply"); out != "update web  (changed by hand: spec.resources.pids is 40)\n" {
			t.Errorf("with %s: %q", with, out)
		}
		if out := h.ok("apply"); out != "all is as declared\n" {
			t.Errorf("with %s, again: %q", with, out)
		}
	}
}

// A mount that somebody took away is put back by a restart, which says why; what may
// not run twice only says so.
func TestMountTakenAway(t *testing.T) {
	h := newHost(t)
	h.write("web.yaml", manifest("web", "  mounts: {/data: {tmpfs: {}}}\n"))
	h.write("job.yaml", manifest("job", "  mounts: {/data: {tmpfs: {}}}\n  restart: {policy: never}\n"))
	h.startDaemon()
	web, job := h.until("web", "running", running), h.until("job", "running", running)
	for _, name := range []string{"web", "job"} {
		if err := os.Remove(h.dir + "/state/containers/" + name + "/upper/data"); err != nil {
			t.Fatal(err)
		}
	}
	h.ok("reload")
	h.until("web", "running anew", func(v view.Container) bool {
		return v.State == view.Running && v.Sync == view.Synced && v.Pid != web.Pid
	})
	v := h.until("job", "in error", func(v view.Container) bool { return v.Sync == view.SyncError })
	if v.Pid != job.Pid || v.Reason != view.ReasonChangedByHand || v.Why != "changed by hand: mount /data is gone; stead restart job puts it right" {
		t.Errorf("%+v", v)
	}
	h.ok("restart", "job")
	h.until("job", "as declared", func(v view.Container) bool { return v.Sync == view.Synced && v.Pid != job.Pid })
	if log := h.endDaemon(syscall.SIGTERM); !strings.Contains(log, `action=restart cause="changed by hand: mount /data is gone, which needs a restart"`) {
		t.Errorf("the log does not say why:\n%s", log)
	}
}
