package runtime

import (
	"strings"
	"testing"

	"stead/runtime/status"
)

// A pool that changes moves nothing that exists, running or not, and nothing
// new overlaps it.
func TestPoolChanges(t *testing.T) {
	w := newWorld(t)
	w.o.FirstID, w.o.IDs = 100_000, 2*65_536
	w.reopen()
	base := func(name string) uint32 {
		d, err := w.Inspect(name)
		if err != nil {
			t.Fatal(err)
		}
		return d.IDBase
	}
	w.create("a", script(forever))
	s := w.create("b", script(forever))
	if _, err := w.Create(ctx, parse(t, "c", script(forever)), origin); err == nil || !strings.Contains(err.Error(), "all 2 ranges") {
		t.Errorf("a third in a pool of two: %v", err)
	}
	w.o.FirstID, w.o.IDs = 150_000, 9*65_536
	w.reopen()
	w.create("d", script(forever))
	if a, b, d := base("a"), base("b"), base("d"); a != 100_000 || b != 165_536 || d < b+65_536 {
		t.Errorf("ids begin at %d, %d and %d", a, b, d)
	}
	if now, _ := w.Get("b"); now.Pid != s.Pid || now.State != status.Running {
		t.Errorf("b is %+v", now)
	}
	if err := w.Restart(ctx, parse(t, "b", script(forever)+"\nenv: {A: b}"), origin, false); err != nil {
		t.Error(err)
	}
	if b := base("b"); b != 165_536 {
		t.Errorf("after a restart its ids begin at %d", b)
	}
	w.o.FirstID = 1
	if r, err := Open(ctx, w.o); err == nil || !strings.Contains(err.Error(), "first id of containers is 1") {
		t.Errorf("opened %v, %v", r, err)
	}
	w.o.FirstID = 150_000
}
