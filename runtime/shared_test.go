package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"stead/runtime/hostpath"
	"stead/runtime/launch"
	"stead/runtime/status"
)

// A directory that is away when the daemon starts, with the disk that it is on,
// comes back with the links that a container left there.
func TestSharedAway(t *testing.T) {
	dir := t.TempDir()
	file, data := filepath.Join(dir, "shared"), filepath.Join(dir, "disk/data")
	var before, after sharedDirs
	if err := errors.Join(before.open(file), before.add([]string{data}), after.open(file)); err != nil {
		t.Fatal(err)
	}
	if !after.has(data) {
		t.Error("a directory was forgotten that was not there for a while")
	}
}

// What the launch gets has no links: none that another container may make
// meanwhile is followed.
func TestPathsWithoutLinks(t *testing.T) {
	w := newWorld(t)
	for _, d := range []string{"real/root", "real/data"} {
		if err := os.MkdirAll(w.path(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("real", w.path("link")); err != nil {
		t.Fatal(err)
	}
	root := launch.Root{Path: w.path("link/root")}
	mounts := []launch.Mount{{Target: "/data", Source: w.path("link/data")}, {Target: "/tmp"}}
	if _, err := w.lookAtPaths(&root, mounts); err != nil {
		t.Fatal(err)
	}
	if root.Path != w.path("real/root") || mounts[0].Source != w.path("real/data") || mounts[1].Source != "" {
		t.Errorf("root %s, mounts %+v", root.Path, mounts)
	}
}

// Containers of a stead that kept no list of shared directories are asked what
// they can write, also those that run on.
func TestSharedOfBefore(t *testing.T) {
	w := newWorld(t)
	for _, d := range []string{"data", "seen"} {
		if err := os.Mkdir(w.path(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.create("web", script("exec sleep 60")+"\nmounts: {/data: {source: "+w.path("data")+"}, /seen: {source: "+w.path("seen")+", readOnly: true}, /t: {tmpfs: {}}}")
	w.Close()
	if err := os.Remove(filepath.Join(w.o.StateDir, "shared")); err != nil {
		t.Fatal(err)
	}
	w.open()
	w.reopen() // it is on the disk, too
	for _, d := range []string{"data", "seen"} {
		if err := os.Symlink("/etc", w.path(d+"/link")); err != nil {
			t.Fatal(err)
		}
		_, _, err := hostpath.Open(w.path(d+"/link"), w.isShared)
		var refused *hostpath.LinkError
		if got, want := errors.As(err, &refused), d == "data"; got != want {
			t.Errorf("a link in %s: %v", d, err)
		}
	}
	if s, _ := w.Get("web"); s.State != status.Running || s.Pid == 0 {
		t.Errorf("web: %+v", s)
	}
}
