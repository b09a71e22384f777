package image

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func digestOf(c string) string { return "sha256:" + strings.Repeat(c, 64) }

// put writes a record as it would be found on disk.
func put(t *testing.T, file string, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(file), 0o700)
	}
	if err == nil {
		err = os.WriteFile(file, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestLookup(t *testing.T) {
	s := Open(t.TempDir())
	one, two, index := digestOf("1"), digestOf("2"), digestOf("e")
	for _, digest := range []string{one, two} {
		file, err := s.imageFile(digest)
		if err != nil {
			t.Fatal(err)
		}
		put(t, file, Image{Digest: digest})
	}
	put(t, s.refFile("debian-12"), ref{Name: "debian-12", Digest: one})
	put(t, s.refFile("docker.io/library/nginx:1.27"), ref{Name: "docker.io/library/nginx:1.27", Digest: two, Index: index})
	put(t, s.refFile("lost"), ref{Name: "lost", Digest: digestOf("3")})
	for _, c := range []struct{ name, want string }{
		{"debian-12", one},
		{"docker.io/library/nginx:1.27", two},
		{"docker.io/library/nginx:1.27@" + two, two},
		{"docker.io/library/nginx@" + index, two},
		{"docker.io/library/nginx:1.27@" + digestOf("4"), ""},
		{"lost", ""},
		{"other", ""},
		{"../../etc", ""},
	} {
		m, err := s.Lookup(c.name)
		switch {
		case c.want == "" && !errors.Is(err, ErrNotFound):
			t.Errorf("%s: %v, want ErrNotFound", c.name, err)
		case c.want != "" && (err != nil || m.Digest != c.want || m.Name != c.name):
			t.Errorf("%s: %+v, %v, want %s", c.name, m, err, c.want)
		}
	}
	for _, digest := range []string{"", "sha256:", "sha256:../../../../etc/passwd", "sha256:" + strings.Repeat("A", 64), "sha512:" + strings.Repeat("1", 64)} {
		if _, err := s.ByDigest(digest); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("digest %q: %v, want that it is no digest", digest, err)
		}
	}
}
