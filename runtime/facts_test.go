package runtime

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"stead/runtime/status"
	"stead/runtime/store"
)

// writeNow is writeLater without the wait.
func (w *world) writeNow(c *container) {
	w.pending.add(c)
	w.writePending(true)
}

// TestFactsTwoWriters: the end of a run is written at a time of its own; what an
// admin says in that moment is not lost.
func TestFactsTwoWriters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("job", script("true")+"\nrestart: {policy: never}")
	w.await("job", status.Exited)
	c, _ := w.find("job")
	for i := range 50 {
		stop := i%2 == 0
		var both sync.WaitGroup
		both.Go(func() { w.writeNow(c) })
		both.Go(func() {
			if _, err := w.saveAdminIntent(c, stop); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		f, err := store.ReadFacts(w.dir("job"))
		if err != nil {
			t.Fatal(err)
		}
		if s, _ := w.Get("job"); (f.StoppedAt != nil) != stop || (s.StoppedAt != nil) != stop {
			t.Fatalf("round %d: stopped at %v on disk and %v in memory, want stopped %v", i, f.StoppedAt, s.StoppedAt, stop)
		}
	}
}

// TestFactsOfRemoved: the end of a container that is removed is not written
// over the facts of the one that has its name now.
func TestFactsOfRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("job", script("true")+"\nrestart: {policy: never}")
	w.await("job", status.Exited)
	old, _ := w.find("job")
	if err := w.Remove(context.Background(), "job"); err != nil {
		t.Fatal(err)
	}
	w.create("job", script("echo new")+"\nrestart: {policy: never}")
	w.writeNow(old)
	f, err := store.ReadFacts(w.dir("job"))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Manifest.Spec.Command[2]; got != "echo new" {
		t.Errorf("the disk has %q, the command of the removed one", got)
	}
}

// TestFactsBroughtBack: a create that dies right after it took the directory of
// a removed container leaves that, not the container as it was once.
func TestFactsBroughtBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("web", script(forever))
	w.awaitOutput("web", "up")
	if _, err := w.saveAdminIntent(w.byName["web"], true); err != nil {
		t.Fatal(err)
	}
	if err := w.Remove(context.Background(), "web"); err != nil {
		t.Fatal(err)
	}
	other := w.create("other", script("sleep 100")) // gets its ids
	if _, err := w.makeDir("web"); err != nil {
		t.Fatal(err)
	}
	w.reopen()
	if s, ok := w.Get("web"); ok {
		t.Errorf("web is back as it was: %s, stopped at %v, besides %s", s.State, s.StoppedAt, other.Name)
	}
	w.create("web", script("sleep 100"))
	a, _ := w.Inspect("web")
	if b, _ := w.Inspect("other"); a.IDBase == b.IDBase {
		t.Errorf("web and other share the ids from %d", a.IDBase)
	}
}

// TestStartGivenUp: a daemon that is told to end in the middle of a start knows
// whether the container runs; else the next one would run it twice.
func TestStartGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("web", script("sleep 1000")+"\nstop: {signal: KILL}")
	for i := range 40 {
		if err := w.Stop(context.Background(), "web", status.StopOptions{}); err != nil {
			t.Fatal(err)
		}
		soon, cancel := context.WithTimeout(context.Background(), time.Duration(i)*200*time.Microsecond)
		err := w.Start(soon, "web", status.StartOptions{})
		cancel()
		s, _ := w.Get("web")
		_, live, e := w.keeper.Ping(context.Background())
		if e != nil || (live == 1) != (s.State == status.Running) {
			t.Fatalf("attempt %d (%v): it is %s, and the keeper holds %d (%v)", i, err, s.State, live, e)
		}
	}
}

// TestFactsUnread: what runs goes on while its container.json can't be read, nothing of the
// container is changed, and it is managed again once the file can be read.
func TestFactsUnread(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.image("shop", map[string]string{"srv/site": "v1\n"})
	before := w.createOn("web", "shop", forImage)
	w.awaitText(w.dir("web")+"/root/srv/private", "mine")
	mount, facts := w.mergedRoot("web"), w.dir("web")+"/container.json"
	was := w.read(facts)
	w.must(os.WriteFile(facts, []byte("{"), 0o600))
	w.reopen()
	if !alive(before.Pid) {
		t.Fatal("the container was killed")
	}
	if _, err := w.Create(ctx, onImage(t, "web", "shop", forImage), origin); err == nil || !strings.Contains(err.Error(), "container.json can't be read") {
		t.Errorf("create: %v", err)
	}
	host := parse(t, "web", script("sleep 100"))
	if _, err := w.Create(ctx, host, origin); err == nil || len(w.removedEntries()) > 0 {
		t.Errorf("create on a host root: %v, removed %q", err, w.removedEntries())
	}
	w.create("other", script("sleep 100"))
	if err := w.Rename(ctx, "other", host, origin); err == nil || !strings.Contains(err.Error(), "there is a container web") {
		t.Errorf("rename: %v", err)
	}
	w.must(os.WriteFile(facts, []byte(was), 0o600))
	if note, err := w.Create(ctx, host, origin); err != nil || !strings.Contains(note, "can be read again") {
		t.Errorf("create, when it can be read again: %q %v", note, err)
	}
	s, _ := w.Get("web")
	if s.State != status.Running || s.Pid != before.Pid || s.Applied.Spec.Rootfs.Image != "shop" {
		t.Errorf("managed again: %+v", s)
	}
	if now := w.mergedRoot("web"); now == nil || *now != *mount {
		t.Errorf("its root: %v, was %v", now, mount)
	}
	a, _ := w.Inspect("web")
	if b, _ := w.Inspect("other"); a.IDBase == 0 || a.IDBase == b.IDBase {
		t.Errorf("ids from %d, those of other from %d", a.IDBase, b.IDBase)
	}
	w.must(w.Stop(ctx, "web", status.StopOptions{}))
	w.await("web", status.Exited)
}

// TestFactsUnwritten: a disk that takes no facts leaves a container that is brought back in
// removed/, and one that is renamed under its new name.
func TestFactsUnwritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := w.image("shop", map[string]string{"srv/site": "v1\n"})
	w.image("shop:2")
	w.createOn("web", "shop", forImage)
	w.awaitText(w.dir("web")+"/root/srv/private", "mine")
	w.must(w.Remove(ctx, "web"))
	obstacle := func(dir string) string { return dir + "/container.json~" }
	w.must(os.Mkdir(obstacle(w.o.StateDir+"/removed/"+w.removedEntries()[0]), 0o700))
	if _, err := w.Create(ctx, onImage(t, "web", "shop", forImage), origin); err == nil {
		t.Fatal("create: no error")
	}
	entries := w.removedEntries()
	if left, _ := os.ReadDir(w.dir("")); len(left) > 0 || len(entries) != 1 {
		t.Fatalf("left: %v, removed: %q", left, entries)
	}
	w.must(os.Remove(obstacle(w.o.StateDir + "/removed/" + entries[0])))
	if _, err := w.makeDir("web"); err != nil { // a Create that is killed now
		t.Fatal(err)
	}
	w.reopen()
	entries = w.removedEntries()
	if len(entries) != 1 {
		t.Fatalf("removed after an interrupted create: %q", entries)
	}
	if f, err := store.ReadFacts(w.o.StateDir + "/removed/" + entries[0]); err != nil || f.Image == nil || f.Image.Digest != one.Digest {
		t.Errorf("its facts: %+v %v", f, err)
	}
	if note, err := w.Create(ctx, onImage(t, "web", "shop:2", "command: [sleep, '1000']\nstop: {signal: KILL}"), origin); err != nil || !strings.Contains(note, "stays in removed/") {
		t.Errorf("create on another image: %q %v", note, err)
	}

	w.must(os.Mkdir(obstacle(w.dir("web")), 0o700))
	w.must(w.Rename(ctx, "web", onImage(t, "web-0", "shop:2", "command: [sleep, '2000']\nstop: {signal: KILL}"), origin))
	w.await("web-0", status.Running)
	w.must(os.Remove(obstacle(w.dir("web-0"))))
	c, err := w.find("web-0")
	w.must(err)
	w.writeNow(c)
	if f, err := store.ReadFacts(w.dir("web-0")); err != nil || f.Manifest.Spec.Command[1] != "2000" {
		t.Errorf("facts after the rename: %+v %v", f, err)
	}
}
