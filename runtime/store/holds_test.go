package store

import (
	"os"
	"path/filepath"
	"testing"

	"stead/runtime/status"
)

func TestHolds(t *testing.T) {
	state := t.TempDir()
	var r *Holds
	load := func() *status.Holds {
		t.Helper()
		var err error
		if r, err = OpenHolds(state); err != nil {
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
	if err := os.WriteFile(filepath.Join(state, "holds.json"), []byte("{half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenHolds(state); err == nil {
		t.Error("a broken file is taken for no hold")
	}
}

// Holds that an earlier release wrote hold on.
func TestHoldsOfBefore(t *testing.T) {
	r, err := OpenHolds("testdata/before-rooms")
	if err != nil {
		t.Fatal(err)
	}
	h := r.Holds()
	if web, db := h.Of("web"), h.Of("db"); web == nil || web.Reason != "surgery" || web.Since.Unix() != 1795839300 || db == nil || db.Reason != "migration" {
		t.Errorf("web %+v, db %+v", web, db)
	}
	if h.Removals["old"] != "would remove all 2 containers" {
		t.Errorf("held removals: %v", h.Removals)
	}
}
