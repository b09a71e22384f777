package hostpath

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a container may write neither is, holds nor lies in a place that stead takes
// orders from, whatever links lead to either.
func TestOverlap(t *testing.T) {
	dir, _ := filepath.EvalSymlinks(t.TempDir())
	for _, d := range []string{"etc/stead", "git/m/shop", "git/m2", "srv", "state/containers/web/upper/x"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"etc/stead/manifests": "../../git/m", "srv/in": "../git/m/shop", "srv/out": "/nonsuch/x"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	orders := FindProtected(
		Protected{What: "the manifest directory", Path: dir + "/etc/stead/manifests"},
		Protected{What: "the manifest directory", Path: dir + "/usr/lib/stead/manifests"}, // missing
		Protected{What: "the configuration", Path: dir + "/etc/conf/config.yaml"},
		Protected{What: "the state directory", Path: dir + "/state", State: true},
	)
	for path, want := range map[string]string{
		"/git/m":                        "is the manifest directory DIR/etc/stead/manifests",
		"/etc/stead/manifests":          "is the manifest directory DIR/etc/stead/manifests",
		"/etc/stead/manifests/shop/new": "lies in the manifest directory DIR/etc/stead/manifests",
		"/srv/in":                       "lies in the manifest directory DIR/etc/stead/manifests",
		"/git":                          "contains the manifest directory DIR/etc/stead/manifests",
		"/etc/stead":                    "contains the manifest directory DIR/etc/stead/manifests",
		"/usr/lib":                      "contains the manifest directory DIR/usr/lib/stead/manifests",
		"/usr/lib/stead/manifests/x":    "lies in the manifest directory DIR/usr/lib/stead/manifests",
		"/etc/conf":                     "contains the configuration DIR/etc/conf/config.yaml",
		"/etc/conf/config.yaml":         "is the configuration DIR/etc/conf/config.yaml",
		"/state/containers":             "lies in the state directory DIR/state",
		"/state/containers/web":         "lies in the state directory DIR/state",
		"/state/containers/web/upper":   "",
		"/state/containers/web/upper/x": "",
		"/etc/conf/other":               "",
		"/git/m2":                       "",
		"/srv":                          "",
		"/srv/out":                      "",
		"/usr/lib/stead2":               "",
	} {
		real, _ := Resolve(dir + path)
		got := orders.Overlap([]string{real})
		if want = strings.Replace(want, "DIR", dir, 1); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if real, links := Resolve(dir + "/srv/../etc/stead/manifests/shop/./new"); real != dir+"/git/m/shop/new" || len(links) != 1 || links[0] != dir+"/etc/stead/manifests" {
		t.Errorf("resolved to %s by %v", real, links)
	}
	if got := orders.Overlap([]string{"/"}); got == "" {
		t.Error("the root holds all places")
	}
}
