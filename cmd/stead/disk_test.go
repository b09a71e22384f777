package main

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"stead/reconcile/view"
	"stead/runtime/roottest"

	"golang.org/x/sys/unix"
)

// What fills the disk can be stopped, and stays stopped; what runs beside it can be restarted;
// status says that the disk is full.
func TestFullDisk(t *testing.T) {
	roottest.Need(t)
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=8m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) }) // after the containers are gone
	h := newHost(t)
	h.env = []string{"STEAD_STATE_DIR=" + disk}
	fill := strings.Replace(manifest("fill", ""), "echo", "cat /dev/zero >/var/full; echo", 1)
	h.write("fill.yaml", fill)
	h.write("other.yaml", manifest("other", ""))
	h.startDaemon()
	t.Cleanup(func() { os.Remove(disk + "/containers/fill/upper/var/full") }) // else the clean-up has no space
	h.until("fill", "running", running)
	other := h.until("other", "running", running)
	for full := false; !full; full = strings.Contains(h.stead("status").out, "the disk of "+disk+" is full: ") {
		if t.Context().Err() != nil {
			t.Fatal(h.stead("status"))
		}
	}
	if c := h.stead("restart", "other"); c.code != 0 {
		t.Errorf("restart: %+v", c)
	}
	h.until("other", "restarted", func(v view.Container) bool { return running(v) && v.Pid != other.Pid })
	c := h.stead("stop", "fill")
	if c.code != exitFailure || !strings.Contains(c.err, "fill is stopped, but the disk is full") {
		t.Errorf("stop: %+v", c)
	}
	isStopped := func(v view.Container) bool { return v.State == view.Stopped && v.Reason == view.ReasonStoppedByAdmin }
	h.until("fill", "stopped", isStopped)
	h.ok("reload")
	h.until("fill", "stopped after another pass", isStopped)

	if err := os.Remove(disk + "/containers/fill/upper/var/full"); err != nil {
		t.Fatal(err)
	}
	for saved := false; !saved; { // the next attempt
		b, err := os.ReadFile(disk + "/containers/fill/container.json")
		if err != nil {
			t.Fatal(err)
		}
		saved = strings.Contains(string(b), "stoppedAt")
	}
	if c := h.stead("status"); strings.Contains(c.out, "is full") {
		t.Errorf("with space: %+v", c)
	}
	h.endDaemon(syscall.SIGKILL)
	h.startDaemon()
	h.until("fill", "stopped by then", isStopped)
}
