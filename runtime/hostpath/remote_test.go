package hostpath

import (
	"os"
	"testing"

	"stead/runtime/roottest"
)

// What lies on a file system that may hang is found in the mount table, through links and in
// time, and is not touched: nobody answers for the one of this test.
func TestRemote(t *testing.T) {
	roottest.Need(t)
	dir := roottest.TempDir(t, "/var/tmp")
	for _, d := range []string{"mnt", "here"} {
		if err := os.Mkdir(dir+"/"+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"link": dir + "/mnt", "far": "link/deep", "near": dir + "/here"} {
		if err := os.Symlink(to, dir+"/"+link); err != nil {
			t.Fatal(err)
		}
	}
	if m := Remote(dir + "/mnt/x"); m != nil {
		t.Errorf("before the mount: %v", m)
	}
	t.Run("mounted", func(t *testing.T) { testRemote(t, dir) })
	if m := Remote(dir + "/mnt/x"); m != nil {
		t.Errorf("after the unmount: %v", m)
	}
}

func testRemote(t *testing.T, dir string) {
	roottest.HungFUSE(t, dir+"/mnt")
	for name, want := range map[string]bool{
		"/mnt": true, "/mnt/x/y": true, "/link/x": true, "/far": true, "/here/../mnt": true,
		"/here": false, "/near": false, "/near/x": false, "": false, "/mnt2": false, "/nonsuch/mnt": false,
	} {
		m := Remote(dir + name)
		if (m != nil) != want || m != nil && (m.Point != dir+"/mnt" || m.Type != "fuse") {
			t.Errorf("%s: %v, want %v", name, m, want)
		}
	}
	if real, want := Resolver(nil).ResolveLocal(dir+"/far/x"), dir+"/mnt/deep/x"; real != want {
		t.Errorf("resolved to %s, want %s", real, want)
	}
}
