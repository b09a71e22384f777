package disk

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"stead/runtime/roottest"
	"stead/runtime/touch"
)

func TestMain(m *testing.M) { os.Exit(roottest.Main(m)) }

// A file system that answers, each time after a while, holds up a round for a bounded time, and the
// next round begins anew.
func TestSlowFileSystem(t *testing.T) {
	roottest.Need(t)
	defer func(before time.Duration) { maxRound = before }(maxRound)
	maxRound = time.Second
	dir := roottest.TempDir(t, "/var/tmp")
	list := map[string]string{}
	var names []string
	for i := range 30 {
		name := fmt.Sprintf("%d.yaml", i)
		names, list[name] = append(names, name), "x"
	}
	fuse := roottest.MountFUSE(t, dir, list)
	answered := make(chan struct{}, 1)
	d := &Disk{Answered: func() { answered <- struct{}{} }}
	defer func() { d.Begin(); d.End() }() // ends its process
	look := func(wantHung bool) {
		t.Helper()
		d.Begin()
		began := time.Now()
		root, err := d.OpenRoot(dir, dir, func() []string { return names })
		if hung := errors.As(err, new(*touch.HungError)); hung != wantHung || !hung && err != nil {
			t.Errorf("got %v, want hung: %v", err, wantHung)
		}
		if took := time.Since(began); took > maxRound+patience {
			t.Errorf("a round took %s", took)
		}
		if err == nil {
			root.Close()
		}
	}
	look(false)
	fuse.Slow(300 * time.Millisecond) // for 30 names, 9 s
	look(true)
	if _, err := d.OpenRoot(dir, dir, func() []string { return names }); !errors.As(err, new(*touch.HungError)) {
		t.Errorf("the same round again: %v", err)
	}
	fuse.Slow(0)
	select {
	case <-answered:
	case <-time.After(roottest.Patience):
		t.Fatal("its answer is not noticed")
	}
	look(false)
}
