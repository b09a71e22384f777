//go:build fault

package image

import (
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"stead/runtime/fault"
	"stead/runtime/image/registry"
	"stead/runtime/roottest"
)

// points returns the fault points of this package, in the order of the files.
func points(t *testing.T) (all []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`fault\.Point\("([^"]+)"\)`).FindAllStringSubmatch(string(b), -1) {
			all = append(all, m[1])
		}
	}
	return all
}

// A job that is killed between any two steps of an import or a pull leaves either the whole image
// or none, and what it leaves is in nobody's way: the next one adds the image, and deleting it (by
// its name, or by a prune) leaves nothing, whether that is killed too or not.
func TestKilledBetweenSteps(t *testing.T) {
	roottest.Need(t)
	file := filepath.Join(t.TempDir(), "image.tar")
	source := newStore(t)
	dir := filepath.Join(roottest.TempDir(t, "/var/tmp"), "root")
	makeRoot(t, dir)
	if _, err := source.Import(t.Context(), "a", dir, nil, Options{}); err != nil {
		t.Fatal(err)
	}
	if err := source.ExportFile(t.Context(), "a", file); err != nil {
		t.Fatal(err)
	}
	r := newRegistry(t, httptest.NewServer)
	r.push(t, "a:1", threeLayers(t))
	client(t)
	insecure := map[string]registry.Settings{r.host: {Insecure: true}}
	all := points(t)
	if len(all) < 8 {
		t.Fatalf("found %q only", all)
	}
	for _, way := range []struct {
		add  func(j Jobs) error
		kind string // of the job that deletes
	}{
		{func(j Jobs) error { _, err := j.Import(t.Context(), "a", file, nil, Options{}); return err }, removeKind},
		{func(j Jobs) error { _, err := j.Pull(t.Context(), r.host+"/a:1", Options{}); return err }, pruneKind},
	} {
		killBetweenSteps(t, all, Jobs{Registries: insecure}, way.add, way.kind)
	}
}

func killBetweenSteps(t *testing.T, all []string, j Jobs, add func(Jobs) error, deleting string) {
	name := map[string]string{removeKind: "a", pruneKind: ""}[deleting]
	hit := 0
	for _, point := range all {
		t.Run(deleting+"/"+point, func(t *testing.T) {
			faultDir = t.TempDir()
			defer func() { faultDir = "" }()
			arm := func() {
				if err := os.WriteFile(faultDir+"/fault", []byte(point+" "+fault.Self), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := newStore(t)
			j := j
			j.Store = s
			check := func() {
				t.Helper()
				list, err := s.List(nil)
				if err != nil || len(list) > 1 {
					t.Errorf("list: %+v, %v", list, err)
				}
				for _, e := range list {
					if m, err := s.ByDigest(e.Digest); err != nil || !s.isComplete(m) {
						t.Errorf("%s is listed and not complete: %v", e.Name, err)
					}
				}
			}
			arm()
			err := add(j)
			if _, e := os.Stat(faultDir + "/fault.hit"); e == nil {
				hit++
				if err == nil {
					t.Error("the job was killed, and the import succeeded")
				}
			}
			os.Remove(faultDir + "/fault")
			check()
			if err := add(j); err != nil {
				t.Fatal(err)
			}
			check()
			os.Remove(faultDir + "/fault.hit")
			arm()
			_, err = j.run(t.Context(), deleting, jobRequest{Name: name}, nil, nil)
			if _, e := os.Stat(faultDir + "/fault.hit"); e == nil {
				hit++
			}
			os.Remove(faultDir + "/fault")
			check()
			if name != "" {
				if err := s.Remove(t.Context(), name, nil); err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
			}
			if _, err := s.Prune(t.Context(), nil); err != nil {
				t.Error(err)
			}
			if left := s.contents(t); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
	if hit < len(all) || slices.Contains(all, "") {
		t.Errorf("%d of %d points were reached", hit, len(all))
	}
}
