package events

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"stead/runtime/roottest"
)

func event(n int) Event {
	return Event{Time: time.Unix(int64(n), 0), Type: Done, Container: fmt.Sprintf("c%d", n), Action: "update"}
}

func journal(t *testing.T, dir string, max int64) *Journal {
	t.Helper()
	j := Open(dir)
	j.max = max
	t.Cleanup(func() { j.Close() })
	return j
}

func record(t *testing.T, j *Journal, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		if err := j.Record(event(n)); err != nil {
			t.Fatal(err)
		}
	}
}

func names(t *testing.T, dir string, q Query) (all []string) {
	t.Helper()
	err := Read(t.Context(), dir, q, func(e Event) error {
		all = append(all, e.Container)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestQueries(t *testing.T) {
	dir := t.TempDir()
	if got := names(t, dir, Query{Tail: -1}); len(got) > 0 {
		t.Errorf("from nothing: %v", got)
	}
	record(t, journal(t, dir, MaxSize), 1, 2, 3, 4, 5)
	for _, c := range []struct {
		what string
		q    Query
		want string
	}{
		{"all", Query{Tail: -1}, "c1 c2 c3 c4 c5"},
		{"the last two", Query{Tail: 2}, "c4 c5"},
		{"more than there are", Query{Tail: 9}, "c1 c2 c3 c4 c5"},
		{"none of the past", Query{Tail: 0}, ""},
		{"since", Query{Tail: -1, Since: time.Unix(4, 0)}, "c4 c5"},
		{"the last one of some", Query{Tail: 1, Match: func(e Event) bool { return e.Container < "c4" }}, "c3"},
	} {
		if got := strings.Join(names(t, dir, c.q), " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

// The journal is bounded, and what is lost is the oldest.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	j := journal(t, dir, 1000)
	for n := range 200 {
		record(t, j, n)
	}
	files, _ := filepath.Glob(dir + "/*")
	if len(files) != 2 {
		t.Errorf("files: %v", files)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Size() > 1000 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v bytes, mode %v", f, err, info.Size(), info.Mode())
		}
	}
	got := names(t, dir, Query{Tail: -1})
	first := 200 - len(got)
	for i, name := range got {
		if name != fmt.Sprintf("c%d", first+i) {
			t.Fatalf("a gap at %s: %v", name, got)
		}
	}
	if len(got) < 10 {
		t.Errorf("kept: %v", got)
	}
}

// A reader that is at the old file when the files are rotated misses nothing.
func TestRotationWhileReading(t *testing.T) {
	dir := t.TempDir()
	j := journal(t, dir, 300)
	record(t, j, 0, 1, 2, 3, 4) // three in the old file
	var got []string
	err := Read(t.Context(), dir, Query{Tail: -1}, func(e Event) error {
		if len(got) == 0 {
			record(t, j, 5, 6, 7)
		}
		got = append(got, e.Container)
		return nil
	})
	want := []string{"c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"}
	if _, old := os.Stat(dir + "/" + oldName); err != nil || old != nil || !slices.Equal(got, want) {
		t.Errorf("%v (%v, %v), want %v", got, err, old, want)
	}
}

// What is wrong with the file costs the events of that time, and no later ones.
func TestFileIsBack(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/"+fileName, 0o700); err != nil {
		t.Fatal(err)
	}
	j := journal(t, dir, MaxSize)
	if err := j.Record(event(1)); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("recorded into a directory: %v", err)
	}
	for n := 2; n < 4; n++ { // and the file that is deleted in the second round
		if err := os.Remove(dir + "/" + fileName); err != nil {
			t.Fatal(err)
		}
		record(t, j, n)
	}
	if got := names(t, dir, Query{Tail: -1}); !slices.Equal(got, []string{"c3"}) {
		t.Errorf("got %v, want c3", got)
	}
}

// A writer that died in the middle of a line costs that line and no other.
func TestTornLine(t *testing.T) {
	dir := t.TempDir()
	record(t, journal(t, dir, MaxSize), 1)
	f, err := os.OpenFile(filepath.Join(dir, fileName), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"time":"2026-11-23T00:00:00Z","type":"do`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	record(t, journal(t, dir, MaxSize), 2)
	if got := names(t, dir, Query{Tail: -1}); !slices.Equal(got, []string{"c1", "c2"}) {
		t.Errorf("read: %v", got)
	}
}

// A follower sees everything once, across rotations and another writer.
func TestFollow(t *testing.T) {
	dir := t.TempDir()
	record(t, journal(t, dir, 1000), 0, 1)
	enough := errors.New("enough")
	started, step := make(chan struct{}), make(chan struct{})
	result := make(chan error, 1)
	go func() {
		next := 1 // with a tail of one
		result <- Read(t.Context(), dir, Query{Tail: 1, Follow: true}, func(e Event) error {
			if e.Container != fmt.Sprintf("c%d", next) {
				return fmt.Errorf("found %s, want c%d", e.Container, next)
			}
			if next++; next == 2 {
				close(started)
			} else {
				step <- struct{}{}
			}
			if next == 40 {
				return enough
			}
			return nil
		})
	}()
	wait := func(c <-chan struct{}) {
		t.Helper()
		select {
		case <-c:
		case err := <-result:
			t.Fatal(err)
		case <-time.After(roottest.Patience):
			t.Fatal("nothing comes")
		}
	}
	wait(started)
	for n := 2; n < 40; {
		j := journal(t, dir, 1000)
		for range 19 {
			record(t, j, n)
			wait(step)
			n++
		}
	}
	if err := <-result; !errors.Is(err, enough) {
		t.Error(err)
	}
}

func TestFollowEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Read(ctx, t.TempDir(), Query{Follow: true}, func(Event) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestLastExits(t *testing.T) {
	dir := t.TempDir()
	j := journal(t, dir, 300)
	for n, name := range []string{"web", "db", "web", "db", "web"} {
		if err := j.Record(Event{Time: time.Unix(int64(n), 5), Type: Exited, Container: name}, event(n)); err != nil {
			t.Fatal(err)
		}
	}
	last, err := LastExits(dir)
	if err != nil || len(last) != 2 || !last["web"].Equal(time.Unix(4, 5)) || !last["db"].Equal(time.Unix(3, 5)) {
		t.Errorf("%v, %v", last, err)
	}
	if last, err := LastExits(t.TempDir()); err != nil || len(last) != 0 {
		t.Errorf("from nothing: %v, %v", last, err)
	}
}

// A journal that an earlier release wrote is read in full.
func TestJournalOfBefore(t *testing.T) {
	at := time.Date(2026, 11, 27, 9, 30, 0, 123456789, time.UTC)
	code := 137
	want := []Event{
		{Time: at, Type: Done, Container: "web", Action: "update", Cause: "manifest changed",
			Changes: []Change{{Path: "spec.resources.memory", Before: "64Mi", After: "128Mi"}}},
		{Time: at.Add(time.Minute), Type: Exited, Container: "web", ExitCode: &code, Reason: "OOMKilled",
			Cause: "killed at its memory limit of 64Mi", Message: "killed at its memory limit of 64Mi"},
		{Time: at.Add(2 * time.Minute), Type: Invalid, Container: "db", File: "/etc/stead/manifests/db.yaml", Message: "db.yaml:4:3: unknown field"},
	}
	var got []Event
	if err := Read(t.Context(), "testdata/before-rooms", Query{Tail: -1}, func(e Event) error {
		got = append(got, e)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, want %+v", got, want)
	}
	if last, err := LastExits("testdata/before-rooms"); err != nil || !last["web"].Equal(want[1].Time) {
		t.Errorf("last exits: %v, %v", last, err)
	}
}
