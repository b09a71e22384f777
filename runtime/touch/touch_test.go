package touch

import (
	"errors"
	"os"
	"testing"
	"time"

	"stead/runtime/roottest"
)

// A file system that does not answer costs whoever asks the timeout and two processes; after
// that it is refused at once, for that mount alone, until it answers again.
func TestTouch(t *testing.T) {
	roottest.Need(t)
	dir := roottest.TempDir(t, "/var/tmp")
	for _, d := range []string{"hung", "well"} {
		if err := os.Mkdir(dir+"/"+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]string{"passwd": "root:x:0:0::/:/bin/sh\n"}
	hung := roottest.MountFUSE(t, dir+"/hung", files)
	roottest.MountFUSE(t, dir+"/well", files)
	var g Guard
	try := func(p Paths) (*HungError, time.Duration) {
		t.Helper()
		began := time.Now()
		err := g.Touch(t.Context(), p)
		var h *HungError
		if err != nil && !errors.As(err, &h) {
			t.Fatal(err)
		}
		return h, time.Since(began)
	}
	root := Paths{Root: dir + "/hung", Inside: []string{"/passwd", "/etc/nonsuch"}}
	for _, p := range []Paths{root, {Outside: []string{dir + "/hung", dir + "/hung/passwd", dir + "/hung/nonsuch"}}, {Outside: []string{"/etc/passwd"}}} {
		if h, _ := try(p); h != nil {
			t.Errorf("%+v: %v", p, h)
		}
	}
	hung.Hang()
	type result struct {
		h    *HungError
		took time.Duration
	}
	results := make(chan result)
	for range maxAbandoned {
		go func() { h, took := try(root); results <- result{h, took} }()
	}
	for range maxAbandoned {
		if r := <-results; r.h == nil || r.h.Mount.Point != dir+"/hung" || r.h.At != dir+"/hung" || r.took < timeout || r.took > 2*timeout {
			t.Errorf("%v after %s", r.h, r.took)
		}
	}
	if h, took := try(Paths{Outside: []string{dir + "/hung/x"}}); h == nil || took > time.Second {
		t.Errorf("the next: %v after %s", h, took)
	}
	if h, took := try(Paths{Outside: []string{dir + "/well/passwd"}}); h != nil || took > timeout/2 {
		t.Errorf("another mount: %v after %s", h, took)
	}
}
