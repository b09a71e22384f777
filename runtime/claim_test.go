package runtime

import (
	"context"
	"errors"
	"os"
	"testing"
)

// A mistyped directory must not end what runs, nor run it twice.
func TestMismatch(t *testing.T) {
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
		var m *Mismatch
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
	if s, _ := w.Get("web"); s.State != Running || s.Pid != before.Pid {
		t.Errorf("%+v", s)
	}
	w.Close()
	w.o.StateDir = link
	w.open()
}
