package main

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"stead/reconcile/view"
)

const slow = `apiVersion: stead/v1
kind: Container
metadata: {name: NAME}
spec:
  rootfs: {host: {}}
  command: [sh, -c, 'trap "echo got TERM; exit 1" TERM; trap "echo got INT; exit 0" INT; echo up; while :; do sleep 5 & wait $!; done']
  network: {mode: none}
  stop: {signal: INT, timeout: 60s}
`

// At a shutdown of the host all containers are stopped with their own settings, those that
// started last first, with and without a daemon, and started again by the next daemon.
func TestShutdown(t *testing.T) {
	h := newHost(t)
	h.startDaemon()
	for _, name := range []string{"first", "second"} {
		h.write(name+".yaml", strings.Replace(slow, "NAME", name, 1))
		h.untilLogged(name, "up")
	}
	deaf := strings.Replace(strings.Replace(slow, "NAME", "third", 1), "echo got INT; exit 0", "", 1) // ignores INT
	h.write("third.yaml", deaf)
	h.untilLogged("third", "up")
	began := time.Now()
	c := h.stead("shutdown", "--timeout", "4s")
	if c.code != 0 || time.Since(began) > 30*time.Second {
		t.Errorf("after %v: %+v", time.Since(began), c)
	}
	if left := h.processes(); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	if err := h.daemon.Wait(); err != nil {
		t.Errorf("the daemon: %v", err)
	}
	h.daemon = nil
	for _, name := range []string{"first", "second"} {
		if out := h.ok("logs", name); out != "up\ngot INT\n" {
			t.Errorf("%s wrote %q", name, out)
		}
	}
	third, second, first := strings.Index(c.err, "stopping container=third"), strings.Index(c.err, "stopping container=second"), strings.Index(c.err, "stopping container=first")
	if third < 0 || third > second || second > first {
		t.Errorf("the order of stops: %s", c.err)
	}
	h.startDaemon()
	for _, name := range []string{"first", "second", "third"} {
		h.until(name, "running again", func(v view.Container) bool { return running(v) && v.Restarts == 0 })
	}
	h.endDaemon(syscall.SIGKILL)
	if c := h.stead("shutdown", "--timeout", "3s"); c.code != 0 || len(h.processes()) > 0 {
		t.Errorf("without a daemon: %+v", c)
	}
}

// daemon --stop-containers says what it waits for, and a second signal ends it with a word.
func TestStopOfAllIsInterrupted(t *testing.T) {
	h := newHost(t)
	h.write("deaf.yaml", strings.Replace(strings.Replace(slow, "NAME", "deaf", 1), "echo got INT; exit 0", "", 1))
	h.startDaemon("--stop-containers")
	h.untilLogged("deaf", "up")
	_ = h.daemon.Process.Signal(syscall.SIGINT)
	for _, want := range []string{"msg=stopping container=deaf timeout=1m0s", `msg="waiting for containers to end" containers=[deaf]`} {
		for end := time.Now().Add(20 * time.Second); !strings.Contains(h.log.String(), want); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no %s: %s", want, h.log.String())
			}
		}
	}
	if log := h.endDaemon(syscall.SIGINT); !strings.Contains(log, "ended by a second signal; these containers may run on") || !strings.Contains(log, "containers=[deaf]") {
		t.Errorf("the log: %s", log)
	}
	_ = syscall.Kill(h.views()[0].Pid, syscall.SIGKILL) // or the clean-up waits for its stop timeout
}

// The units that come with stead are valid.
func TestUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	for _, unit := range []string{"systemd/stead.service", "systemd/stead-shutdown.service", "gitops/stead-sync.service", "gitops/stead-sync.timer"} {
		b, err := os.ReadFile("../../examples/" + unit)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer("/usr/local/bin/stead", "/bin/true").Replace(string(b)) // it is not installed here
		writeFile(t, dir+"/"+unit[strings.Index(unit, "/")+1:], text)
	}
	out, err := exec.Command("systemd-analyze", "verify", dir+"/stead.service", dir+"/stead-shutdown.service").CombinedOutput()
	if err != nil || strings.Contains(string(out), dir) {
		t.Errorf("%v: %s", err, out)
	}
}
