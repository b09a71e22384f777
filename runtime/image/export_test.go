package image

import (
	"bytes"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"stead/runtime/roottest"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"golang.org/x/sys/unix"
)

// An exported image is a valid layout, and comes back as it was: files, whiteouts, configuration.
func TestExport(t *testing.T) {
	roottest.Need(t)
	s := newStore(t)
	r := newRegistry(t, httptest.NewServer)
	r.push(t, "app:1", threeLayers(t))
	if _, err := s.Pull(t.Context(), r.host+"/app:1", client(t, r.host), Options{}); err != nil {
		t.Fatal(err)
	}
	r.push(t, "opaque:1", imageOf(t, runtime.GOARCH, layerOf(t, "etc/", "etc/one", "old"), layerOf(t, "etc/", "etc/.wh..wh..opq", "etc/two")))
	if _, err := s.Pull(t.Context(), r.host+"/opaque:1", client(t, r.host), Options{}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(roottest.TempDir(t, "/var/tmp"), "root")
	makeRoot(t, dir)
	if _, err := s.Import(t.Context(), "root", dir, nil, Options{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{r.host + "/app:1", r.host + "/opaque:1", "root"} {
		t.Run(name, func(t *testing.T) {
			at := t.TempDir()
			file := filepath.Join(at, "image.tar")
			if err := s.ExportFile(t.Context(), name, file); err != nil {
				t.Fatal(err)
			}
			var piped bytes.Buffer
			if err := s.Export(t.Context(), name, &piped); err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, piped.Bytes()) {
				t.Errorf("the same again differs: %d and %d bytes, %v", len(b), piped.Len(), err)
			}
			shell(t, `mkdir "$1/x" && tar -xf "$1/image.tar" -C "$1/x"`, at)
			p, err := layout.ImageIndexFromPath(at + "/x")
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Index(p); err != nil {
				t.Errorf("the layout is not valid: %v", err)
			}
			other := newStore(t)
			back, err := other.Import(t.Context(), "back", file, nil, Options{})
			if err != nil {
				t.Fatal(err)
			}
			was, err := s.Lookup(name)
			if err != nil {
				t.Fatal(err)
			}
			if len(back.Layers) != len(was.Layers) || back.HighestID != was.HighestID || back.Root != was.Root || !slices.Equal(back.Config.Env, was.Config.Env) {
				t.Errorf("came back as %+v, was %+v", back, was)
			}
			for i := range was.Layers {
				if want, got := withoutRoot(tree(t, s.layerDir(was.Layers[i].Number))), withoutRoot(tree(t, other.layerDir(back.Layers[i].Number))); got != want {
					t.Errorf("layer %d came back as\n%s\nwas\n%s", i, got, want)
				}
			}
		})
	}
	null := filepath.Join(t.TempDir(), "null")
	if err := unix.Mknod(null, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	if err := s.ExportFile(t.Context(), "root", null); err != nil {
		t.Error(err)
	}
	if info, err := os.Lstat(null); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("the device was replaced: %v, %v", info.Mode(), err)
	}
	if err := s.ExportFile(t.Context(), "none", filepath.Join(t.TempDir(), "x")); !errors.Is(err, ErrNotFound) {
		t.Errorf("export nothing: %v", err)
	}
	if tmp, err := os.ReadDir(filepath.Join(s.dir, "tmp")); err != nil || len(tmp) > 0 {
		t.Errorf("left: %v, %v", tmp, err)
	}
}

// withoutRoot leaves out the line of the root directory, which a layer may not say.
func withoutRoot(tree string) string {
	_, rest, _ := strings.Cut(tree, "\n")
	return rest
}
