package runtime

import (
	"slices"
	"testing"

	"stead/runtime/record"
	"stead/runtime/status"
	"stead/runtime/store"
	"stead/spec"
)

// What a pass may skip it knows by the pointer: it must change with whatever a
// status is derived from, and with nothing else.
func TestListMakesAStatusAnewWhenSomethingIsNew(t *testing.T) {
	r := &Runtime{registry: registry{byName: map[string]*container{}}}
	for _, name := range []string{"c", "a", "b"} {
		r.put(&container{name: name, facts: &store.Facts{Manifest: &spec.Container{}}})
	}
	names := func() (all []string) {
		for _, s := range r.List() {
			all = append(all, s.Name)
		}
		return all
	}
	if got := names(); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Fatalf("listed %v", got)
	}
	b := r.byName["b"]
	found := func(fields ...string) (all status.Differences) {
		for _, f := range fields {
			all = append(all, status.Difference{Field: f})
		}
		return all
	}
	for _, story := range []struct {
		of     string
		change func()
		shows  func(s *status.Status) bool
	}{
		{"facts", func() { b.facts = &store.Facts{Manifest: b.facts.Manifest, From: status.Origin{File: "/b.yaml"}} }, func(s *status.Status) bool { return s.From.File == "/b.yaml" }},
		{"record", func() { b.rec = &record.Record{State: record.Running, Pid: 7} }, func(s *status.Status) bool { return s.Pid == 7 }},
		{"a stop under way", func() { b.stopping = true }, func(s *status.Status) bool { return s.State == status.Stopping }},
		{"a start under way", func() { b.starting = true }, func(s *status.Status) bool { return s.State == status.Starting }},
		{"drift", func() { b.drift = found("pids") }, func(s *status.Status) bool { return slices.Equal(s.Drift, found("pids")) }},
		{"other drift", func() { b.drift = found("cpu") }, func(s *status.Status) bool { return slices.Equal(s.Drift, found("cpu")) }},
		{"losses", func() { b.lost = found("mount") }, func(s *status.Status) bool { return slices.Equal(s.Lost, found("mount")) }},
		{"missingFiles files", func() { b.missingFiles = found("record") }, func(s *status.Status) bool { return slices.Equal(s.Drift, found("cpu", "record")) }},
		{"drift mended", func() { b.drift, b.missingFiles = nil, nil }, func(s *status.Status) bool { return s.Drift == nil }},
	} {
		before := r.List()
		if again := r.List(); !slices.Equal(again, before) {
			t.Errorf("%s: new without a change", story.of)
		}
		story.change()
		after := r.List()
		if after[1] == before[1] || !story.shows(after[1]) {
			t.Errorf("%s: not seen: %+v", story.of, after[1])
		}
		if after[0] != before[0] || after[2] != before[2] {
			t.Errorf("%s: others are new too", story.of)
		}
	}
	r.drop("a")
	r.drop("nobody")
	if got := names(); !slices.Equal(got, []string{"b", "c"}) || len(r.byName) != 2 {
		t.Errorf("after a drop: %v", got)
	}
}
