package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stead/spec"
)

// Private files that a new image replaced are kept, wherever the move was interrupted, and no
// container gets them back.
func TestReset(t *testing.T) {
	facts := &Facts{Manifest: &spec.Container{}, Image: &Image{Reference: "shop", Digest: "sha256:1"}}
	for _, tt := range []struct {
		summary string
		before  []string // what an interrupted call has left
		entries int
	}{
		{"nothing before", []string{"upper/mine", "work/"}, 1},
		{"no work directory", []string{"upper/mine"}, 1},
		{"died after the facts", []string{"upper/mine", "work/", resetDir + "/container.json"}, 1},
		{"died after the work directory", []string{"upper/mine", resetDir + "/work/"}, 1},
		{"died before the last step", []string{"upper/mine", resetDir + "/upper/older", resetDir + "/work/"}, 2},
	} {
		t.Run(tt.summary, func(t *testing.T) {
			r := shed(t)
			dir := filepath.Join(t.TempDir(), "web")
			for _, name := range tt.before {
				path := filepath.Join(dir, name)
				if strings.HasSuffix(name, "/") {
					os.MkdirAll(path, 0o700)
					continue
				}
				os.MkdirAll(filepath.Dir(path), 0o700)
				os.WriteFile(path, []byte("{}"), 0o600)
			}
			os.MkdirAll(r.dir, 0o700)
			if err := r.PutAwayUpper("web", dir, facts); err != nil {
				t.Fatal(err)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			entries := r.shelf(t)
			if len(entries) != tt.entries {
				t.Fatalf("entries: %q, want %d", entries, tt.entries)
			}
			last := filepath.Join(r.dir, entries[len(entries)-1])
			if f, err := ReadFacts(last); err != nil || f.Image == nil || *f.Image != *facts.Image {
				t.Errorf("%s says %+v, %v", entries[len(entries)-1], f, err)
			}
			if _, err := os.Stat(last + "/upper/mine"); err != nil {
				t.Error(err)
			}
			again, err := OpenRemoved(filepath.Dir(r.dir))
			if err != nil {
				t.Fatal(err)
			}
			for _, shed := range []*Removed{r, again} {
				if note, err := shed.BringBack("web", dir+"-back"); note != "" || err != nil {
					t.Errorf("brought back: %q %v", note, err)
				}
			}
		})
	}
}
