package runtime

import (
	"context"
	"errors"
	"os"
	"testing"

	"stead/runtime/roottest"
	"stead/runtime/status"
	"stead/runtime/store"
)

// A mistyped directory must not end what runs, nor run it twice.
func TestMismatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.create("web", script(forever))
	w.awaitOutput("web", "up")
	w.Close()
	other := t.TempDir()
	for _, tt := range []struct {
		summary, flag string
		change        func(*Options)
	}{
		{"another state directory", "--state-dir", func(o *Options) { o.StateDir = other + "/state" }},
		{"another run directory", "--run-dir", func(o *Options) { o.RunDir = other + "/run" }},
		{"another cgroup parent", "--cgroup-parent", func(o *Options) { o.CgroupParent += "-other" }},
	} {
		o := w.o
		tt.change(&o)
		_, err := Open(context.Background(), o)
		var m *store.Mismatch
		if !errors.As(err, &m) || m.Flag != tt.flag {
			t.Errorf("%s: %v", tt.summary, err)
		} else {
			t.Log(err)
		}
	}
	link := other + "/link"
	os.Symlink(w.o.StateDir, link)
	w.o.StateDir, link = link, w.o.StateDir
	w.open() // another name of the same one is none
	if s, _ := w.Get("web"); s.State != status.Running || s.Pid != before.Pid {
		t.Errorf("%+v", s)
	}
	w.Close()
	w.o.StateDir = link
	w.open()
}

// Two instances below one cgroup parent leave each other's containers alone.
func TestSharedCgroupParent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.create("web", script(forever))
	w.awaitOutput("web", "up")
	o := w.o
	o.StateDir, o.RunDir = t.TempDir()+"/state", roottest.TempDir(t, "/dev/shm")
	other, err := Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if s, _ := w.Get("web"); s.State != status.Running || !alive(before.Pid) {
		t.Fatalf("the other instance ended it: %+v", s)
	}
	if _, err := other.Create(ctx, parse(t, "web", script(forever)), origin); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(other.Remove(ctx, "web"), other.QuitKeeper(ctx)); err != nil {
		t.Error(err)
	}
	w.reopen()
	if s, _ := w.Get("web"); s.State != status.Running || s.Pid != before.Pid {
		t.Errorf("%+v", s)
	}
}

// Groups that somebody made inside a container's hold no removal up.
func TestNestedGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("web", script(forever))
	w.awaitOutput("web", "up")
	for _, d := range w.host.Group("web." + w.byName["web"].rec.Nonce).Dirs() {
		if err := os.Mkdir(d+"/inner", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Remove(ctx, "web"); err != nil {
		t.Error(err)
	}
}
