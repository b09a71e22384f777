package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"stead/runtime/hostpath"
	"stead/runtime/launch"
	"stead/runtime/status"
	"stead/runtime/store"

	"golang.org/x/sys/unix"
)

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
	if _, err := w.paths.Resolve(&root, false, mounts); err != nil {
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
		_, _, err := hostpath.Open(w.path(d+"/link"), w.Writable.Contains)
		var refused *hostpath.LinkError
		if got, want := errors.As(err, &refused), d == "data"; got != want {
			t.Errorf("a link in %s: %v", d, err)
		}
	}
	if s, _ := w.Get("web"); s.State != status.Running || s.Pid == 0 {
		t.Errorf("web: %+v", s)
	}
}

// Nothing is started that could write where orders come from: what counts is what is
// opened for the start, whatever was looked at before, and what a mount shows of it.
func TestStartWritesNoProtectedPath(t *testing.T) {
	w := newWorld(t)
	for _, d := range []string{"m/shop", "git/repo/m", "bound", "root", "data"} {
		if err := os.MkdirAll(w.path(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"link": "data", "current": "git/repo/m"} {
		if err := os.Symlink(target, w.path(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(w.path("config.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(w.path("git/repo"), w.path("bound"), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(w.path("bound"), unix.MNT_DETACH)
	w.SetProtected(w.path("config.yaml"), []string{w.path("m"), w.path("bound/m"), w.path("gone/m")})
	command := "command: [sleep, \"60\"]\n"
	mount := func(source string) string { return command + "mounts: {/data: {source: " + source + "}}" }
	w.create("web", mount(w.path("link")))
	if s, _ := w.Get("web"); s.State != status.Running {
		t.Fatalf("web: %+v", s)
	}
	if err := errors.Join(os.Remove(w.path("link")), os.Symlink("m/shop", w.path("link"))); err != nil {
		t.Fatal(err)
	}
	lies := func(path, dir string) string {
		return w.path(path) + ": it lies in the manifest directory " + w.path(dir)
	}
	for name, row := range map[string]struct{ body, want string }{
		"dir":    {mount(w.path("m")), "open mount source " + w.path("m") + ": it is the manifest directory " + w.path("m")},
		"link":   {mount(w.path("link")), "open mount source " + lies("m/shop", "m")},
		"above":  {mount("/"), "open mount source /: it contains the "},
		"bound":  {mount(w.path("current")), "open mount source " + w.path("git/repo/m") + ": it is the manifest directory " + w.path("bound/m")},
		"shown":  {mount(w.path("git")), "open mount source " + w.path("git") + ": it contains the manifest directory " + w.path("bound/m")},
		"config": {mount(w.path("config.yaml")), "open mount source " + w.path("config.yaml") + ": it is the configuration "},
		"state":  {mount(w.o.StateDir), "open mount source " + w.o.StateDir + ": it is the state directory "},
		"run":    {mount(w.o.RunDir), "open mount source " + w.o.RunDir + ": it is the run directory "},
		"root":   {command + "rootfs: {path: " + w.path("m/shop") + "}", "rootfs.path " + lies("m/shop", "m")},
	} {
		_, err := w.Create(context.Background(), parse(t, name, row.body), origin)
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %s", name, err, row.want)
		}
	}
	// What runs is not stopped for a start that is refused.
	before, _ := w.Get("web")
	if err := w.Restart(context.Background(), parse(t, "web", mount(w.path("link"))), origin, false); err == nil || !strings.Contains(err.Error(), lies("m/shop", "m")) {
		t.Errorf("restart: %v", err)
	}
	if s, _ := w.Get("web"); s.Pid != before.Pid || s.State != status.Running {
		t.Errorf("web was stopped: %+v", s)
	}
	for _, ok := range []string{mount(w.path("data")), mount(w.path("m") + ", readOnly: true")} {
		if err := w.Restart(context.Background(), parse(t, "web", ok), origin, false); err != nil {
			t.Error(err)
		}
	}
}

// Files and directories that a container can write are noted by all paths that show
// them, for good.
func TestWritableIsNoted(t *testing.T) {
	w := newWorld(t)
	for _, d := range []string{"srv/data", "bound", "seen"} {
		if err := os.MkdirAll(w.path(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(w.path("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(w.path("srv"), w.path("bound"), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(w.path("bound"), unix.MNT_DETACH)
	w.create("web", fmt.Sprintf("command: [sleep, \"60\"]\nmounts: {/d: {source: %s}, /f: {source: %s}, /s: {source: %s, readOnly: true}}", w.path("bound/data"), w.path("file"), w.path("seen")))
	if err := w.Remove(context.Background(), "web"); err != nil {
		t.Fatal(err)
	}
	w.reopen()
	offline, err := store.OpenWritable(w.o.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]string{w.Writable.List(), offline.List()} {
		for path, want := range map[string]bool{"bound/data": true, "srv/data": true, "file": true, "seen": false, "state/containers": true, "state/removed": true} {
			if slices.Contains(list, w.path(path)) != want {
				t.Errorf("%s: not %v in %q", path, want, list)
			}
		}
	}
}
