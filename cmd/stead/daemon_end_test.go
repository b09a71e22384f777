package main

import (
	"os"
	"syscall"
	"testing"
	"time"

	"stead/runtime/keeper"
	"stead/runtime/roottest"
)

// A daemon whose log nobody reads any more (stead daemon 2>&1 | logger, and the logger ends)
// lives on.
func TestDaemonSurvivesTheReaderOfItsLog(t *testing.T) {
	h := newHost(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	h.daemon = h.command("daemon")
	h.daemon.Stderr = w
	if err := h.daemon.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	h.write("first.yaml", manifest("first", ""))
	h.until("first", "running", running)
	r.Close()
	for _, name := range []string{"second", "third"} { // each is a line of the log, or two
		h.write(name+".yaml", manifest(name, ""))
		h.until(name, "running", running)
	}
	if err := h.daemon.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the daemon is gone: %v", err)
	}
}

// A daemon that ends with no container left takes the keeper with it: nothing of stead runs
// afterwards. With containers the keeper stays.
func TestKeeperEndsWithTheLastContainer(t *testing.T) {
	h := newHost(t)
	h.startDaemon()
	h.write("web.yaml", manifest("web", ""))
	h.until("web", "running", running)
	pid, _, err := keeper.Client{Run: h.run}.Ping(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.endDaemon(syscall.SIGTERM)
	if _, _, err := (keeper.Client{Run: h.run}).Ping(t.Context()); err != nil {
		t.Fatalf("with a container that runs, the keeper is gone: %v", err)
	}
	h.startDaemon()
	h.ok("stop", "web")
	h.endDaemon(syscall.SIGTERM)
	end := time.Now().Add(roottest.Patience)
	for ; syscall.Kill(pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the keeper stays, though no container is left and no daemon runs")
		}
	}
}
