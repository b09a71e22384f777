package image

import (
	"context"
	"slices"
	"testing"
)

// What the store has is read again when it changed, however soon; --use has containers leave all
// images that the name stood for before, but the one that it stands for now.
func TestStored(t *testing.T) {
	s := Open(t.TempDir() + "/images")
	add := func(digest string) {
		t.Helper()
		if err := s.commitImage(&Image{Digest: digest}, ref{Name: "t", Digest: digest, Source: "/srv/t"}); err != nil {
			t.Fatal(err)
		}
	}
	one, two, three := digestOf("1"), digestOf("2"), digestOf("3")
	if now, err := s.Stored(); err != nil || len(now.ByName)+len(now.Digests) > 0 {
		t.Errorf("an empty store: %+v, %v", now, err)
	}
	for _, digest := range []string{one, two, three, two} {
		add(digest)
		now, err := s.Stored()
		if err != nil || now.ByName["t"].Digest != digest || !now.Digests[digest] || now.ByName["t"].Source != "/srv/t" || len(now.ByName["t"].Superseded) > 0 {
			t.Errorf("after %s: %+v, %v", digest, now, err)
		}
	}
	if err := s.Use(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	now, err := s.Stored()
	if err != nil || !slices.Equal(now.ByName["t"].Superseded, []string{one, three}) {
		t.Errorf("after a use: %+v, %v", now, err)
	}
	add(one) // moved on: two is not superseded before the next use
	if now, err = s.Stored(); err != nil || !slices.Equal(now.ByName["t"].Superseded, []string{three}) || now.Superseded("t", two) || !now.Superseded("t", three) {
		t.Errorf("after another one: %+v, %v", now, err)
	}
	if err := s.Use(context.Background(), "none"); err == nil {
		t.Error("a name that is not there can be used")
	}
	if err := s.Name(t.Context(), &Image{Digest: two}, "other", "/srv/o", ""); err != nil {
		t.Fatal(err)
	}
	if now, err = s.Stored(); err != nil || now.ByName["other"].Digest != two || now.ByName["other"].Source != "/srv/o" {
		t.Errorf("after a name: %+v, %v", now, err)
	}
}
