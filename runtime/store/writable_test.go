package store

import (
	"path/filepath"
	"testing"
)

// A directory that is away when the daemon starts, with the disk that it is on,
// comes back with the links that a container left there.
func TestWritableAway(t *testing.T) {
	state := t.TempDir()
	data := filepath.Join(state, "disk/data")
	before, err := OpenWritable(state)
	if err != nil {
		t.Fatal(err)
	}
	if err := before.Add([]string{data}); err != nil {
		t.Fatal(err)
	}
	after, err := OpenWritable(state)
	if err != nil {
		t.Fatal(err)
	}
	if !after.Has(data) {
		t.Error("a directory was forgotten that was not there for a while")
	}
}
