package store

import (
	"errors"
	"log/slog"
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

// shed is a directory of removed containers.
func shed(t *testing.T, entries ...string) *Removed {
	t.Helper()
	state := t.TempDir()
	for _, e := range entries {
		if err := os.MkdirAll(filepath.Join(state, "removed", e, "upper"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r, err := OpenRemoved(state)
	if err != nil {
		t.Fatal(err)
	}
	r.FinishDeletions(t.Context(), slog.New(slog.DiscardHandler))
	return r
}

func (r *Removed) shelf(t *testing.T) (names []string) {
	entries, err := os.ReadDir(r.dir)
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
		if _, err := r.Purge(t.Context(), name); !errors.Is(err, status.ErrMissing) {
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
	if err := os.Mkdir(filepath.Join(r.dir, doomedPrefix+"db@20260101T000000Z"), 0o700); err != nil { // under way
		t.Fatal(err)
	}
	if all, err := r.List(); err != nil || len(all) != 2 || all[0].Name != "db" || !all[0].Deleting || all[1].Name != "web" || all[1].Deleting {
		t.Errorf("removed: %+v, %v", all, err)
	}
	if err := os.Remove(filepath.Join(r.dir, doomedPrefix+"db@20260101T000000Z")); err != nil {
		t.Fatal(err)
	}
	if left := r.shelf(t); !slices.Equal(left, []string{"web@20250101T000000Z"}) {
		t.Errorf("left: %q", left)
	}
	if r.newest["web"] != "web@20250101T000000Z" {
		t.Errorf("would be brought back: %q", r.newest["web"])
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
	target := filepath.Join(r.dir, "web@20260101T000000Z/upper")
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
		stamp := func(ago time.Duration) string { return time.Now().UTC().Add(-ago).Format(entryTime) }
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

// Private files move with all that describes them, wherever a move was interrupted.
func TestPutAwayUpper(t *testing.T) {
	for _, interrupted := range []string{"", "reset~/upper", "reset~/work"} { // what had moved by then
		r := shed(t, "db@20260101T000000Z")
		dir := filepath.Join(t.TempDir(), "web")
		for _, name := range []string{"upper", "work"} {
			if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"etc.json", "names.json", "container.json"} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if interrupted != "" {
			if err := os.Mkdir(filepath.Join(dir, resetDir), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(dir, filepath.Base(interrupted)), filepath.Join(dir, interrupted)); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.PutAwayUpper("web", dir, &Facts{}); err != nil {
			t.Fatal(err)
		}
		names := func(pattern string) (all []string) {
			found, _ := filepath.Glob(pattern)
			for _, f := range found {
				all = append(all, filepath.Base(f))
			}
			return all
		}
		if left := names(dir + "/*"); !slices.Equal(left, []string{"container.json"}) {
			t.Errorf("interrupted at %q: %q stay", interrupted, left)
		}
		for _, name := range []string{"upper", "etc.json", "names.json"} {
			if moved := names(r.dir + "/web@*.reset/" + name); len(moved) != 1 {
				t.Errorf("interrupted at %q: %s did not move: %q", interrupted, name, r.shelf(t))
			}
		}
	}
}
