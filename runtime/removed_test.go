package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stead/runtime/roottest"
	"stead/runtime/status"

	"golang.org/x/sys/unix"
)

// shed is a runtime with nothing but a directory of removed containers.
func shed(t *testing.T, entries ...string) *Runtime {
	t.Helper()
	r := &Runtime{Options: Options{StateDir: t.TempDir()}, removed: map[string]string{}}
	for _, e := range entries {
		if err := os.MkdirAll(filepath.Join(r.removedDir(), e, "upper"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	t.Cleanup(r.Close)
	if err := r.loadRemoved(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *Runtime) shelf(t *testing.T) (names []string) {
	entries, err := os.ReadDir(r.removedDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestPurge(t *testing.T) {
	all := []string{"db@20260101T000000Z", "web@20260101T000000Z", "web@20260202T000000Z", "web@20260202T000000Z.2"}
	for _, c := range []struct {
		name string
		left []string
	}{
		{"web", all[:1]},
		{"web@20260101T000000Z", []string{all[0], all[2], all[3]}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := shed(t, all...)
			if _, err := r.Purge(t.Context(), c.name); err != nil {
				t.Fatal(err)
			}
			if left := r.shelf(t); !slices.Equal(left, c.left) {
				t.Errorf("left: %q, want %q", left, c.left)
			}
		})
	}
	r := shed(t, all...)
	for _, name := range []string{"we", "web@", "../removed", ""} {
		if _, err := r.Purge(t.Context(), name); !errors.Is(err, ErrMissing) {
			t.Errorf("purge %q: %v, want that it is missing", name, err)
		}
	}
	if left := r.shelf(t); !slices.Equal(left, all) {
		t.Errorf("left: %q", left)
	}
}

// A deletion that was interrupted is final: the name gets nothing of it back,
// and the next start goes on with it.
func TestPurgeInterrupted(t *testing.T) {
	r := shed(t, doomedPrefix+"web@20260101T000000Z", "web@20250101T000000Z")
	r.watcher.Wait()
	if err := os.Mkdir(filepath.Join(r.removedDir(), doomedPrefix+"db@20260101T000000Z"), 0o700); err != nil { // under way
		t.Fatal(err)
	}
	if all, err := r.Removed(); err != nil || len(all) != 1 || all[0].Name != "web" {
		t.Errorf("removed: %+v, %v", all, err)
	}
	if err := os.Remove(filepath.Join(r.removedDir(), doomedPrefix+"db@20260101T000000Z")); err != nil {
		t.Fatal(err)
	}
	if left := r.shelf(t); !slices.Equal(left, []string{"web@20250101T000000Z"}) {
		t.Errorf("left: %q", left)
	}
	if r.removed["web"] != "web@20250101T000000Z" {
		t.Errorf("would be brought back: %q", r.removed["web"])
	}
}

// What an admin mounted in a root is not deleted with it.
func TestPurgeSparesMounts(t *testing.T) {
	roottest.Need(t)
	r := shed(t, "web@20260101T000000Z")
	data := t.TempDir()
	if err := os.WriteFile(data+"/precious", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(r.removedDir(), "web@20260101T000000Z/upper")
	if err := unix.Mount(data, target, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(target, unix.MNT_DETACH)
	_, err := r.Purge(t.Context(), "web")
	if err == nil || !strings.Contains(err.Error(), target+" is a mount") {
		t.Errorf("purge: %v", err)
	}
	if _, err := os.Stat(data + "/precious"); err != nil {
		t.Errorf("what was mounted there: %v", err)
	}
	if left := r.shelf(t); len(left) != 1 {
		t.Errorf("left: %q", left)
	}
}

// Expiry is patient with clocks: only what has been seen to be overdue for an
// hour goes.
func TestExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const retention = 30 * 24 * time.Hour
		stamp := func(ago time.Duration) string { return time.Now().UTC().Add(-ago).Format(stampFormat) }
		old, young := "web@"+stamp(retention+time.Minute), "web@"+stamp(retention-3*time.Hour)
		r := shed(t, old, young, "notes", "web@yesterday")
		expire := func() []string {
			gone, err := r.Expire(t.Context(), retention)
			if err != nil {
				t.Fatal(err)
			}
			return gone
		}
		if gone := expire(); len(gone) > 0 {
			t.Errorf("deleted at the first sight: %q", gone)
		}
		time.Sleep(expiryGrace - time.Second)
		if gone := expire(); len(gone) > 0 {
			t.Errorf("deleted within the hour: %q", gone)
		}
		time.Sleep(time.Second)
		if gone := expire(); !slices.Equal(gone, []string{old}) {
			t.Errorf("deleted: %q, want %q", gone, old)
		}
		time.Sleep(retention)
		expire()
		time.Sleep(expiryGrace)
		if gone := expire(); !slices.Equal(gone, []string{young}) {
			t.Errorf("deleted: %q, want %q", gone, young)
		}
		if left := r.shelf(t); !slices.Equal(left, []string{"notes", "web@yesterday"}) {
			t.Errorf("left: %q: what has another name is not ours", left)
		}
	})
}

func TestHolds(t *testing.T) {
	r := &Runtime{Options: Options{StateDir: t.TempDir()}}
	load := func() *status.Holds {
		t.Helper()
		r = &Runtime{Options: r.Options}
		if err := r.loadHolds(); err != nil {
			t.Fatal(err)
		}
		return r.Holds()
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if load().Of("web") != nil {
		t.Fatal("held from the start")
	}
	must(r.Hold([]string{"web"}, "surgery"))
	must(r.Hold(nil, "migration"))
	since := r.Holds().Of("web").Since
	must(r.Hold([]string{"web"}, "surgery goes on"))
	h := load() // as after a restart
	if web := h.Of("web"); web == nil || web.Reason != "surgery goes on" || !web.Since.Equal(since) {
		t.Errorf("web: %+v", web)
	}
	if db := h.Of("db"); db == nil || db.Reason != "migration" {
		t.Errorf("db: %+v, want the host's", db)
	}
	must(r.HoldRemovals(map[string]string{"old": "would remove all 2 containers"}))
	must(r.Release(nil))
	if h := load(); h.Removals["old"] == "" || h.Of("old") != nil {
		t.Errorf("held removals: %+v, want them kept, and no hold of an admin's", h)
	}
	if h := load(); h.Of("db") != nil || h.Of("web") == nil {
		t.Errorf("after the host's release: %+v", h)
	}
	must(r.Release([]string{"web"}))
	if h := load(); h.Of("web") != nil {
		t.Errorf("after its release: %+v", h)
	}
	if err := os.WriteFile(filepath.Join(r.StateDir, holdsFile), []byte("{half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.loadHolds(); err == nil {
		t.Error("a broken file is taken for no hold")
	}
}
