package hostpath

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"stead/runtime/roottest"

	"golang.org/x/sys/unix"
)

// A directory is known by all paths under which the host shows it, or a part of it,
// as soon as something is mounted.
func TestNames(t *testing.T) {
	roottest.Need(t)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var m Mounts
	for _, d := range []string{"git/m/shop", "etc/m", "mnt", "other/m", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.Names(dir + "/git"); !slices.Equal(got, []string{dir + "/git"}) {
		t.Errorf("with nothing mounted: %q", got)
	}
	before, reads := m.Refresh(), 0
	for ; reads < 100 && m.Refresh() != before; reads++ { // others mount too
		before = m.Refresh()
	}
	if reads == 100 {
		t.Error("read again with nothing mounted")
	}
	mount := func(source, target, kind string, flags uintptr) {
		t.Helper()
		if err := unix.Mount(source, dir+target, kind, flags, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(dir+target, unix.MNT_DETACH) })
	}
	mount(dir+"/git/m", "/etc/m", "", unix.MS_BIND)
	mount(dir+"/git", "/mnt", "", unix.MS_BIND)
	mount("tmpfs", "/tmp", "tmpfs", 0)
	if m.Refresh() == before {
		t.Error("not read again after a mount")
	}
	for path, want := range map[string][]string{
		"/git":        {"/git", "/etc/m", "/mnt"},                    // of it /etc/m shows a part
		"/git/m/shop": {"/git/m/shop", "/etc/m/shop", "/mnt/m/shop"}, // by a directory above it
		"/etc/m/shop": {"/etc/m/shop", "/git/m/shop", "/mnt/m/shop"},
		"/etc":        {"/etc", "/git/m", "/mnt/m"}, // by what is mounted below it
		"/tmp/x":      {"/tmp/x"},
		"/other":      {"/other"},
		"/nonsuch":    {"/nonsuch"},
	} {
		var got []string
		m.Refresh()
		for _, name := range m.Names(dir + path) {
			if Within(name, dir) { // the test's directory may itself be shown elsewhere
				got = append(got, name[len(dir):])
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(slices.Compact(got), want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
