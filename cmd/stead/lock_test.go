package main

import (
	"errors"
	"os"
	"testing"
	"time"

	"stead/runtime/store"
)

// A daemon that is started right after the last one was killed gets its lock as
// soon as the kernel is done with that one; it does not wait for one that lives.
func TestLockOfADyingDaemon(t *testing.T) {
	d := &daemon{app: &app{stateDir: t.TempDir()}}
	release, err := store.Lock(d.stateDir)
	if err != nil {
		t.Fatal(err)
	}
	var locked *store.Locked
	if _, err := d.lock(t.Context()); !errors.As(err, &locked) || locked.Pid != os.Getpid() {
		t.Fatalf("while another lives: %v, want it named", err)
	}
	time.AfterFunc(unlockDelay/10, release)
	unlock, err := d.lock(t.Context())
	if err != nil {
		t.Fatalf("while another dies: %v", err)
	}
	unlock()
}
