package record

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// The record of one container is found by its name alone, whatever a daemon that
// died left behind.
func TestRecordOfOneContainer(t *testing.T) {
	run := t.TempDir()
	if err := MakeDirs(run); err != nil {
		t.Fatal(err)
	}
	write := func(name, nonce string, point bool) *Record {
		t.Helper()
		r := &Record{Name: name, Nonce: nonce}
		if err := r.Write(run); err != nil {
			t.Fatal(err)
		}
		if point {
			if err := r.Point(run); err != nil {
				t.Fatal(err)
			}
		}
		return r
	}
	want := func(what, name string, ids ...string) {
		t.Helper()
		all, err := ReadAll(run, name)
		if err != nil || len(all) != len(ids) {
			t.Fatalf("%s: %d records, %v; want %v", what, len(all), err, ids)
		}
		for i, r := range all {
			if r.ID() != ids[i] {
				t.Errorf("%s: %s, want %s", what, r.ID(), ids[i])
			}
		}
	}
	write("db", "1", true)
	want("before its first start", "web")
	old := write("web", "1", true)
	want("started once", "web", "web.1")
	if err := os.Symlink("web.0", filepath.Join(run, CurrentDir, "web~")); err != nil {
		t.Fatal(err)
	}
	write("web", "2", true) // after a daemon that died with its link half made
	want("started again: the last one, though the old one is still there", "web", "web.2")
	if err := Forget(run, old.ID()); err != nil {
		t.Fatal(err)
	}
	want("the old one forgotten", "web", "web.2")
	write("web", "3", false)
	if err := Forget(run, "web.2"); err != nil {
		t.Fatal(err)
	}
	want("with no link: looked for", "web", "web.3")
	three := &Record{Name: "web", Nonce: "3"}
	for range 2 {
		if err := three.Point(run); err != nil {
			t.Fatal(err)
		}
	}
	if at, err := os.Readlink(filepath.Join(run, CurrentDir, "web")); err != nil || at != "web.3" {
		t.Errorf("after recovery the name leads to %q, %v", at, err)
	}
	if err := Forget(run, "web.3"); err != nil {
		t.Fatal(err)
	}
	want("gone", "web")
	left, _ := filepath.Glob(run + "/*/web*")
	if len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// A record that an earlier release wrote is read in full.
func TestRecordOfBefore(t *testing.T) {
	all, err := ReadAll("testdata/before-rooms")
	if err != nil || len(all) != 1 {
		t.Fatalf("%d records, %v", len(all), err)
	}
	at := time.Date(2026, 11, 27, 9, 30, 0, 123456789, time.UTC)
	want := &Record{
		Name: "web", Nonce: "4f1c22a0", BootID: "0b1d2c3e-0000-4000-8000-000000000001", State: Exited,
		Pid: 4711, StartTime: 123456, IDBase: 524288,
		CreatedAt: at, StartedAt: at.Add(time.Second), FinishedAt: at.Add(time.Minute),
		Ending: &Ending{Code: 137, Signal: 9, OOM: true, OOMLimit: 64 << 20}, Stopping: true, Restarts: 2, Failures: 1,
		Previous: &Run{StartedAt: at.Add(-time.Hour), FinishedAt: at.Add(-time.Minute)},
		LogDir:   "/var/lib/stead/containers/web/log", LogSize: 10 << 20, LogKeep: 5,
	}
	if !reflect.DeepEqual(all[0], want) {
		t.Errorf("read %+v, want %+v", all[0], want)
	}
}
