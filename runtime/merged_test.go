package runtime

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"stead/runtime/drift"
	"stead/runtime/image"
	"stead/runtime/launch"
	"stead/runtime/record"
	"stead/runtime/roottest"
	"stead/runtime/status"
	"stead/runtime/store"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// image puts an image into the store, as the store has it on disk: each layer is a list of files
// with their contents, "" for a directory, or "-> TARGET" for a link. The lowest layer gets what
// a root needs to run the programs of the host's /usr, which mounts show (imageMounts).
func (w *world) image(name string, layers ...map[string]string) *image.Image {
	w.t.Helper()
	base := map[string]string{
		"usr/": "", "proc/": "", "sys/": "", "dev/": "", "tmp/": "", "etc/": "", "run/": "", "var/": "",
		"bin": "-> usr/bin", "sbin": "-> usr/sbin", "lib": "-> usr/lib", "lib64": "-> usr/lib64",
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n", "etc/group": "root:x:0:\napp:x:1000:\n",
	}
	store := filepath.Join(w.o.StateDir, "images")
	img := image.Image{Root: image.RootDir{Mode: 0o755}}
	sum := sha256.Sum256([]byte(fmt.Sprint(name, layers)))
	img.Digest = "sha256:" + hex.EncodeToString(sum[:])
	for i, files := range append([]map[string]string{base}, layers...) {
		have, _ := filepath.Glob(store + "/layers/*.json")
		n := len(have) + 1
		dir := filepath.Join(store, "layers", fmt.Sprint(n))
		w.must(os.MkdirAll(dir, 0o755))
		for file, text := range files {
			path := filepath.Join(dir, file)
			w.must(os.MkdirAll(filepath.Dir(path), 0o755))
			if target, ok := strings.CutPrefix(text, "-> "); ok {
				w.must(os.Symlink(target, path))
			} else if strings.HasSuffix(file, "/") {
				w.must(os.MkdirAll(path, 0o755))
			} else {
				w.must(os.WriteFile(path, []byte(text), 0o755))
			}
		}
		if i == 0 {
			w.must(os.Chmod(dir+"/tmp", 0o777|fs.ModeSticky))
		}
		img.Layers = append(img.Layers, image.Layer{Number: n})
		w.record(fmt.Sprintf("layers/%d.json", n), img.Layers[i])
	}
	w.record(filepath.Join("images", hex.EncodeToString(sum[:])+".json"), img)
	w.name(name, img.Digest)
	return &img
}

// imageOf makes an image of a directory, which becomes its only layer.
func (w *world) imageOf(dir string) string {
	w.t.Helper()
	name := filepath.Base(dir)
	if _, err := w.images.Lookup(name); err == nil {
		return name
	}
	img := w.image(name)
	layer := filepath.Join(w.images.LayersDir(), fmt.Sprint(img.Layers[0].Number))
	w.must(os.RemoveAll(layer))
	w.must(os.Rename(dir, layer))
	return name
}

// name makes a name stand for an image.
func (w *world) name(name, digest string) {
	w.t.Helper()
	of := sha256.Sum256([]byte(name))
	w.record(filepath.Join("refs", hex.EncodeToString(of[:16])+".json"), map[string]string{"name": name, "digest": digest})
}

func (w *world) record(file string, v any) {
	w.t.Helper()
	b, err := json.Marshal(v)
	w.must(err)
	file = filepath.Join(w.o.StateDir, "images", file)
	w.must(os.MkdirAll(filepath.Dir(file), 0o700))
	w.must(os.WriteFile(file, b, 0o600))
}

// onImage is a manifest whose root is an image, with the host's /usr.
func onImage(t testing.TB, name, img, body string) *spec.Container {
	t.Helper()
	if !strings.Contains(body, "mounts:") {
		body += "\nmounts: {/usr: {source: /usr, readOnly: true}}"
	}
	m := parse(t, name, body)
	m.Spec.Rootfs = spec.Rootfs{Image: img}
	return m
}

func (w *world) createOn(name, img, body string) status.Status {
	w.t.Helper()
	if _, err := w.Create(ctx, onImage(w.t, name, img, body), origin); err != nil {
		w.t.Fatalf("create %s: %v\n%s", name, err, w.output(name))
	}
	s, _ := w.Get(name)
	return s
}

func (w *world) restartOn(name, img, body string) error {
	w.t.Helper()
	return w.Restart(ctx, onImage(w.t, name, img, body), origin, false)
}

func (w *world) read(path string) string {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Error(err)
	}
	return string(b)
}

// removedEntries are the names of what is in removed/.
func (w *world) removedEntries() (names []string) {
	entries, err := os.ReadDir(w.o.StateDir + "/removed")
	w.must(err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A container runs from an image, changes its own root and not the image, and keeps what it wrote
// when it is restarted, the daemon is, the host reboots, or it is removed and comes back.
func TestImageRoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	img := w.image("shop", map[string]string{"srv/site": "v1"})
	const body = "command: [sh, -c, 'cat /srv/site; id -un; stat -c %u:%g /srv /srv/site; n=$(cat /srv/count 2>/dev/null); echo $((n + 1)) >/srv/count; echo up; sleep 1000']\nrestart: {policy: never}\nstop: {signal: KILL}"
	s := w.createOn("web", "shop", body)
	w.awaitOutput("web", "up")
	if out, want := w.output("web"), "v1root\n0:0\n0:0\nup\n"; out != want {
		t.Errorf("output %q, want %q", out, want)
	}
	dir := w.dir("web")
	if _, err := os.Lstat(filepath.Join(w.images.LayersDir(), fmt.Sprint(img.Layers[1].Number), "srv/count")); err == nil {
		t.Error("the layer was changed")
	}
	count := func(where string, want int) {
		t.Helper()
		if got := strings.TrimSpace(w.read(dir + "/" + where + "/srv/count")); got != fmt.Sprint(want) {
			t.Errorf("%s: it ran %s times, want %d", where, got, want)
		}
	}
	count("upper", 1)
	count("root", 1)
	var inUpper []string
	filepath.WalkDir(dir+"/upper", func(path string, d fs.DirEntry, err error) error {
		if !d.IsDir() {
			inUpper = append(inUpper, strings.TrimPrefix(path, dir+"/upper"))
		}
		return nil
	})
	if fmt.Sprint(inUpper) != "[/etc/hostname /etc/hosts /srv/count]" { // two targets of mounts
		t.Errorf("stead itself copied files up: %q", inUpper)
	}
	mount := w.mergedRoot("web")
	if mount == nil {
		t.Fatal("the merged root is not mounted")
	}
	var flags unix.Statfs_t
	if err := unix.Statfs(dir+"/root", &flags); err != nil || flags.Flags&unix.ST_NOSUID == 0 || flags.Flags&unix.ST_NODEV == 0 {
		t.Errorf("the host may run what is set-user-ID in it, or open devices: flags %#x, %v", flags.Flags, err)
	}
	if code, out, _, err := w.exec("web", "", ExecOptions{Argv: []string{"sh", "-c", "id -un; echo x >/tmp/by-exec"}, User: "app"}); code != 0 || out != "app\n" {
		t.Errorf("exec: %d %q %v", code, out, err)
	}
	if w.read(dir+"/root/tmp/by-exec") != "x\n" {
		t.Error("the host does not see a file of an exec")
	}

	w.must(w.Restart(ctx, s.Applied, origin, false))
	w.await("web", status.Running)
	w.awaitText(dir+"/root/srv/count", "2")
	if now := w.mergedRoot("web"); now == nil || *now != *mount {
		t.Errorf("after a restart: mount %v, was %v", now, mount)
	}
	w.reopen()
	w.must(w.Stop(ctx, "web", status.StopOptions{}))
	w.must(w.Start(ctx, "web", status.StartOptions{}))
	w.awaitText(dir+"/root/srv/count", "3")
	if now := w.mergedRoot("web"); now == nil || *now != *mount {
		t.Errorf("after a restart of the daemon: mount %v, was %v", now, mount)
	}

	w.must(w.Remove(ctx, "web"))
	entries := w.removedEntries()
	if len(entries) != 1 || strings.TrimSpace(w.read(w.o.StateDir+"/removed/"+entries[0]+"/upper/srv/count")) != "3" {
		t.Errorf("removed: %q", entries)
	}
	w.createOn("web", "shop", body)
	w.awaitText(dir+"/root/srv/count", "4")
	if entries := w.removedEntries(); len(entries) > 0 {
		t.Errorf("removed, after it is back: %q", entries)
	}
}

const forImage = "command: [sh, -c, 'cat /srv/site; echo mine >/srv/private; echo up; sleep 1000']\nrestart: {policy: never}\nstop: {signal: KILL}"

// A new image means new private files; the old ones are kept, and no container gets them back.
func TestImageChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := w.image("shop", map[string]string{"srv/site": "v1\n"})
	two := w.image("shop:2", map[string]string{"srv/site": "v2\n"}, map[string]string{"srv/other": ""})
	upper := w.dir("web") + "/upper/srv/"
	w.createOn("web", "shop", forImage)
	w.awaitOutput("web", "up")

	// The name moves on; the container stays with its image, until its manifest names another.
	w.name("shop", two.Digest)
	w.must(w.Restart(ctx, onImage(t, "web", "shop", forImage), origin, false))
	w.awaitOutput("web", "up")
	if out := w.output("web"); strings.Contains(out, "v2") {
		t.Errorf("the container changed its image: %q", out)
	}
	before, _ := w.Get("web")
	if err := w.restartOn("web", "shop:2", strings.Replace(forImage, "[sh,", "[nonsuch,", 1)); err == nil || !strings.Contains(err.Error(), "nonsuch") {
		t.Errorf("restart with a command that the new image lacks: %v", err)
	}
	if err := w.restartOn("web", "shop:3", forImage); err == nil || !strings.Contains(err.Error(), "image shop:3 is not in the store") {
		t.Errorf("restart with an image that is not there: %v", err)
	}
	if err := w.restartOn("web", "shop:2", forImage+"\nuser: nonsuch"); err == nil || !strings.Contains(err.Error(), "nonsuch") {
		t.Errorf("restart with a user that the new image lacks: %v", err)
	}
	if now, _ := w.Get("web"); now.Pid != before.Pid || w.read(upper+"private") != "mine\n" {
		t.Fatalf("a restart that could not succeed stopped the container: %+v", now)
	}
	w.must(w.restartOn("web", "shop:2", forImage))
	w.awaitOutput("web", "v2")
	entries := w.removedEntries()
	if len(entries) != 1 || !strings.Contains(entries[0], "web@") || !strings.Contains(entries[0], ".reset") {
		t.Fatalf("removed: %q", entries)
	}
	old, err := store.ReadFacts(w.o.StateDir + "/removed/" + entries[0])
	if err != nil || old.Image == nil || old.Image.Digest != one.Digest || w.read(w.o.StateDir+"/removed/"+entries[0]+"/upper/srv/private") != "mine\n" {
		t.Errorf("the old private files: %+v %v", old, err)
	}
	w.awaitText(upper+"private", "mine")

	// Removed and back: the newest private files, not those that were replaced.
	w.must(w.Remove(ctx, "web"))
	w.reopen()
	w.createOn("web", "shop:2", forImage)
	if left := w.removedEntries(); len(left) != 1 || left[0] != entries[0] {
		t.Errorf("removed: %q, want %q", left, entries)
	}
	// Back with another image: what comes back is put away.
	w.must(w.Remove(ctx, "web"))
	w.name("shop", one.Digest)
	w.createOn("web", "shop", strings.Replace(forImage, "echo mine", "cat /srv/private; echo his", 1))
	w.awaitText(upper+"private", "his")
	if left := w.removedEntries(); len(left) != 2 {
		t.Errorf("removed: %q, want two resets", left)
	}
	w.must(w.Remove(ctx, "web"))
	if _, err := w.Removed.Purge(ctx, "web"); err != nil || len(w.removedEntries()) > 0 {
		t.Errorf("purge: %v, %q", err, w.removedEntries())
	}
}

// awaitText waits until a file holds a text.
func (w *world) awaitText(file, want string) {
	w.t.Helper()
	got := ""
	for end := time.Now().Add(roottest.Patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got = strings.TrimSpace(w.read(file)); got == want {
			return
		}
	}
	w.t.Fatalf("%s has %q, want %q", file, got, want)
}

// The kind of root changes, to and fro: no root ever has the private files of another kind.
func TestImageAndOtherRoots(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.image("shop", map[string]string{"srv/site": "v1\n"})
	path := w.path("directory")
	for _, d := range []string{"usr", "proc", "sys", "dev", "srv", "etc"} {
		w.must(os.MkdirAll(path+"/"+d, 0o755))
	}
	for _, l := range []string{"bin", "lib", "lib64"} {
		w.must(os.Symlink("usr/"+l, path+"/"+l))
	}
	const say = "command: [sh, -c, 'cat /srv/who; echo IMAGE$PATH_IS >/srv/who; echo up; sleep 1000']\nrestart: {policy: never}\nstop: {signal: KILL}\nmounts: {/usr: {source: /usr, readOnly: true}}"
	roots := map[string]spec.Rootfs{"image": {Image: "shop"}, "host": {Host: &spec.HostRoot{}}, "path": {Path: path}}
	for i, step := range []struct{ kind, finds string }{
		{"host", ""}, {"image", ""}, {"path", ""}, {"image", "image"}, {"host", ""}, {"path", "path"}, {"host", "host"}, {"image", ""},
	} {
		m := parse(t, "web", strings.Replace(say, "IMAGE$PATH_IS", step.kind, 1))
		m.Spec.Rootfs = roots[step.kind]
		if step.kind == "host" {
			m.Spec.Mounts = nil
		}
		if i == 0 {
			_, err := w.Create(ctx, m, origin)
			w.must(err)
		} else {
			w.must(w.Restart(ctx, m, origin, false))
		}
		var runs []string
		for end := time.Now().Add(roottest.Patience); len(runs) <= i+1 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			runs = strings.Split(w.output("web"), "up\n")
		}
		found := strings.TrimSpace(runs[i])
		if strings.Contains(found, "No such file") {
			found = ""
		}
		if found != step.finds {
			t.Errorf("step %d, %s: it found %q, want %q", i, step.kind, found, step.finds)
		}
		if _, err := os.Stat(w.dir("web") + "/root/srv"); err != nil {
			t.Errorf("step %d, %s: the host does not see its root: %v", i, step.kind, err)
		}
		if passwd := w.read(w.dir("web") + "/root/etc/passwd"); step.kind == "host" && !strings.Contains(passwd, "nobody:") {
			t.Errorf("step %d: a host root has the passwd %q", i, passwd)
		}
	}
}

// A container that gets another name takes its private files with it.
func TestImageRename(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.image("shop", map[string]string{"srv/site": "v1\n"})
	w.createOn("web", "shop", forImage)
	w.awaitText(w.dir("web")+"/root/srv/private", "mine")
	w.must(w.Rename(ctx, "web", onImage(t, "web-0", "shop", strings.Replace(forImage, "echo mine", "echo his", 1)), origin))
	w.awaitText(w.dir("web-0")+"/root/srv/private", "his")
	if mount := w.mergedRoot("web-0"); mount == nil {
		t.Error("not mounted under its new name")
	}
	if left, _ := os.ReadDir(w.o.RunDir + "/roots"); len(left) != 1 || left[0].Name() != "web-0.json" {
		t.Errorf("records of roots: %v", left)
	}
}

// Nobody gets a second mount of the same private files: who still uses a root that was unmounted
// is named, and a mount namespace that has a copy of it loses it.
func TestImageHeld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.image("shop", map[string]string{"srv/site": "v1\n"})
	w.createOn("web", "shop", forImage)
	w.awaitText(w.dir("web")+"/root/srv/private", "mine")

	copied := exec.Command("sleep", "1000")
	copied.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	w.must(copied.Start())
	defer func() { copied.Process.Kill(); copied.Wait() }()
	w.must(w.Remove(ctx, "web"))
	if b := w.read(fmt.Sprintf("/proc/%d/mountinfo", copied.Process.Pid)); strings.Contains(b, w.dir("web")) {
		t.Error("another mount namespace still has the root")
	}
	w.createOn("web", "shop", forImage)
	w.awaitText(w.dir("web")+"/root/srv/private", "mine")

	shell := exec.Command("sleep", "1000")
	shell.Dir = w.dir("web") + "/root/srv"
	w.must(shell.Start())
	defer func() { shell.Process.Kill(); shell.Wait() }()
	w.must(w.Remove(ctx, "web"))
	want := fmt.Sprintf("used by process %d (sleep), which has cwd in an overlay that is unmounted", shell.Process.Pid)
	if _, err := w.Create(ctx, onImage(t, "web", "shop", forImage), origin); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("create while a shell is in the root: %v, want %s", err, want)
	}
	shell.Process.Kill()
	shell.Wait()
	w.must(w.Start(ctx, "web", status.StartOptions{}))
	w.awaitText(w.dir("web")+"/root/srv/private", "mine")
}

// What was done to the mounts by hand, or by a crash or a reboot, is put right at the next start.
func TestImageMounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.image("shop", map[string]string{"srv/site": "v1\n"})
	at := w.dir("web") + "/root"
	recorded := func() *record.Root { return record.ReadRoot(w.o.RunDir, "web") }
	for _, tt := range []struct {
		summary string
		do      func()
		warns   bool
	}{
		{"nothing", func() {}, false},
		{"unmounted", func() { w.must(unix.Unmount(at, unix.MNT_DETACH)) }, true},
		{"something else mounted over it", func() { w.must(unix.Mount("t", at, "tmpfs", 0, "")) }, true},
		{"replaced by another", func() {
			w.must(unix.Unmount(at, unix.MNT_DETACH))
			w.must(unix.Mount("t", at, "tmpfs", 0, ""))
		}, true},
		{"its record deleted", func() { w.must(record.ForgetRoot(w.o.RunDir, "web")) }, true},
		{"its record of another boot", func() {
			r := recorded()
			r.BootID = "another"
			w.must(r.Write(w.o.RunDir))
		}, true},
		{"the mount point removed", func() {
			w.must(unix.Unmount(at, unix.MNT_DETACH))
			w.must(os.Remove(at))
		}, true},
		{"its record of other layers", func() {
			r := recorded()
			r.Layers = append(r.Layers, 7)
			w.must(r.Write(w.o.RunDir))
		}, false},
	} {
		t.Run(tt.summary, func(t *testing.T) {
			defer func() { w.must(w.Remove(ctx, "web")) }()
			w.createOn("web", "shop", forImage)
			w.awaitOutput("web", "up")
			var log bytes.Buffer
			w.inspector.Close()
			w.inspector = drift.New(driftView{w.Runtime}, w.host, w.RunDir, false, slog.New(slog.NewTextHandler(&log, nil)))
			tt.do()
			for range 2 {
				w.must(w.Check(ctx, true))
			}
			if code, out, _, err := w.exec("web", "", ExecOptions{Argv: []string{"id", "-un"}, User: "app"}); code != 0 || out != "app\n" {
				t.Errorf("exec: %d %q %v", code, out, err)
			}
			if warned := strings.Count(log.String(), "its next start mounts it again"); warned > 1 || (warned == 1) != tt.warns {
				t.Errorf("warned %d times, want %v:\n%s", warned, tt.warns, log.String())
			}
			if s, _ := w.Get("web"); s.State != status.Running || len(s.Lost)+len(s.Drift) > 0 {
				t.Errorf("%+v", s)
			}
			w.must(w.Stop(ctx, "web", status.StopOptions{}))
			w.must(w.Start(ctx, "web", status.StartOptions{}))
			if w.mergedRoot("web") == nil || strings.Count(w.read("/proc/self/mountinfo"), at+" ") != 1 {
				t.Errorf("mounts after the next start:\n%s", w.read("/proc/self/mountinfo"))
			}
			w.awaitText(at+"/srv/private", "mine")
		})
	}
}

// Mounts that belong to no container are unmounted when the daemon starts.
func TestImageLeftovers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	img := w.image("shop", map[string]string{"srv/site": "v1\n"})
	w.createOn("web", "shop", forImage)
	w.createOn("idle", "shop", forImage)
	w.must(w.Stop(ctx, "idle", status.StopOptions{}))
	mount := func(dir string) {
		t.Helper()
		w.must(os.MkdirAll(dir+"/upper", 0o755))
		w.must(os.MkdirAll(dir+"/root", 0o755))
		w.must(os.MkdirAll(dir+"/work", 0o755))
		_, err := w.keeper.MountRoot(ctx, &launch.Overlay{Dir: dir, Layers: w.images.LayersDir(), Lower: layersOf(img), Fresh: true})
		w.must(err)
	}
	ghost, removed := w.dir("ghost"), w.o.StateDir+"/removed/ghost@20260101T000000Z"
	mount(ghost)
	mount(removed)
	w.must(record.ForgetRoot(w.o.RunDir, "idle")) // as if the daemon had died before it wrote the record
	w.must((&record.Root{Name: "ghost", BootID: record.BootID()}).Write(w.o.RunDir))
	w.reopen()
	for dir, want := range map[string]bool{w.dir("web"): true, w.dir("idle"): false, ghost: false, removed: false} {
		if _, is := launch.MountedAt(dir + "/root"); is != want {
			t.Errorf("%s: mounted %v, want %v", dir, is, want)
		}
	}
	if names, _ := record.RootNames(w.o.RunDir); len(names) != 1 || names[0] != "web" {
		t.Errorf("records: %q", names)
	}
	w.must(os.RemoveAll(ghost))
	w.must(w.Start(ctx, "idle", status.StartOptions{}))
}

// What stead can't do as the manifest says, it refuses with the reason.
func TestImageRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.Create(ctx, onImage(t, "web", "shop", forImage), origin); err == nil || !strings.Contains(err.Error(), "image shop is not in the store of this host") {
		t.Errorf("an image that is not there: %v", err)
	}
	if _, err := os.Lstat(w.dir("web")); err == nil {
		t.Error("a directory was made for it")
	}
	img := w.image("shop", map[string]string{"srv/site": "v1\n"})
	img.HighestID, img.HighestIDPath = 70000, "/srv/site"
	w.record("images/"+strings.TrimPrefix(img.Digest, "sha256:")+".json", img)
	const want = "image shop: /srv/site belongs to id 70000, and a container has the ids 0 to 65535"
	if _, err := w.Create(ctx, onImage(t, "web", "shop", forImage), origin); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("ids out of the map: %v", err)
	}
	if s, _ := w.Get("web"); s.Exit == nil || s.Exit.Reason != status.ReasonIdmapUnsupported {
		t.Errorf("%+v", s.Exit)
	}
	w.must(w.restartOn("web", "shop", forImage+"\nsecurity: {userns: host}"))
	w.awaitText(w.dir("web")+"/upper/srv/private", "mine")

	// What was recorded and is gone.
	w.must(w.Stop(ctx, "web", status.StopOptions{}))
	w.must(os.Remove(w.o.StateDir + "/images/images/" + strings.TrimPrefix(img.Digest, "sha256:") + ".json"))
	if err := w.Start(ctx, "web", status.StartOptions{}); err == nil || !strings.Contains(err.Error(), "image shop is not in the store") {
		t.Errorf("a start without the image: %v", err)
	}
}

// The ways in which a root may be made otherwise: read-only, without a user namespace.
func TestImageRootOptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.image("shop", map[string]string{"srv/site": "v1\n", "srv/su": "#!/bin/sh\n"})
	m := onImage(t, "ro", "shop", "command: [sh, -c, 'touch /tmp/x; touch /mnt/x; cat /srv/site; ls -d /new; echo up']\nrestart: {policy: never}\nmounts: {/usr: {source: /usr, readOnly: true}, /mnt: {tmpfs: {}}, /new/deep: {tmpfs: {}}}")
	m.Spec.Rootfs.ReadOnly = true
	_, err := w.Create(ctx, m, origin)
	w.must(err)
	w.await("ro", status.Exited)
	if out := w.output("ro"); !strings.Contains(out, "touch: cannot touch '/tmp/x': Read-only file system") || !strings.HasSuffix(out, "v1\n/new\nup\n") {
		t.Errorf("read-only: %q", out)
	}
	w.createOn("host", "shop", "command: [sh, -c, 'head -1 /proc/self/uid_map; echo x >/srv/private; stat -c %u /srv/private /srv/site; echo up']\nrestart: {policy: never}\nsecurity: {userns: host}")
	w.await("host", status.Exited)
	if out := strings.Join(strings.Fields(w.output("host")), " "); out != "0 0 4294967295 0 0 up" {
		t.Errorf("without a user namespace: %q", out)
	}
	var st unix.Stat_t
	if err := unix.Stat(w.dir("host")+"/root/srv/private", &st); err != nil || st.Uid != 0 {
		t.Errorf("without a user namespace, on the host: %d %v", st.Uid, err)
	}
	// Its ids change: the root is mounted anew, and the private files stay.
	w.must(w.restartOn("host", "shop", "command: [sh, -c, 'cat /srv/private; stat -c %u /srv/private; echo up again; sleep 1000']\nstop: {signal: KILL}"))
	w.awaitOutput("host", "up again")
	if out := w.output("host"); !strings.HasSuffix(out, "x\n0\nup again\n") {
		t.Errorf("with a user namespace: %q", out)
	}
}

// The names in an image are of the machine that made it; those that the container wrote are its own.
func TestImageNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.image("shop", map[string]string{"etc/hostname": "builder\n", "etc/hosts": "10.9.8.7 builder\n", "etc/resolv.conf": "nameserver 10.9.8.7\n", "srv/site": ""})
	const body = "command: [sh, -c, 'cat /etc/hostname; tail -1 /etc/hosts; echo up; sleep 1000']\nstop: {signal: KILL}\nhostname: shop.example\nrestart: {policy: never}"
	w.createOn("web", "shop", body)
	w.awaitOutput("web", "up")
	if out, want := w.output("web"), "shop.example\n127.0.1.1\tshop.example shop\nup\n"; out != want {
		t.Errorf("%q, want %q", out, want)
	}
	w.must(w.Stop(ctx, "web", status.StopOptions{}))
	w.must(os.MkdirAll(w.dir("web")+"/upper/etc", 0o755))
	w.must(w.unmountRoot(ctx, "web"))
	w.must(os.WriteFile(w.dir("web")+"/upper/etc/hosts", []byte("127.0.0.1 mine\n"), 0o644))
	w.must(w.Start(ctx, "web", status.StartOptions{}))
	w.awaitOutput("web", "mine")
	if out := w.output("web"); !strings.Contains(out, "shop.example\n127.0.0.1 mine\n") {
		t.Errorf("after it wrote its own: %q", out)
	}
}

// What an image declares as a volume begins with what the image has there, and outlives the image.
func TestImageVolumes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	declare := func(img *image.Image, volumes ...string) {
		img.Config = spec.ImageConfig{Volumes: volumes, Env: []string{"FROM=image", "GREETING=hi"}, Cmd: []string{"sh", "-c", "echo $FROM $GREETING; ls /data/db /opt/empty; stat -c %u:%g:%a /data/db /data/db/seed; echo row >>/data/db/rows; echo up; sleep 1000"}}
		layer := filepath.Join(w.images.LayersDir(), fmt.Sprint(img.Layers[1].Number))
		w.must(os.Chown(layer+"/data/db", 1000, 1001))
		w.must(os.Chmod(layer+"/data/db", 0o750))
		w.record("images/"+strings.TrimPrefix(img.Digest, "sha256:")+".json", img)
	}
	volumes := []string{"/data/db", "/opt/empty", "/", "/proc/x", "/link", "/mnt/below"}
	declare(w.image("shop", map[string]string{"data/db/seed": "1", "link": "-> data/other", "data/other/": ""}), volumes...)
	declare(w.image("shop:2", map[string]string{"data/db/seed": "2"}), "/data/db", "/opt/empty")
	const body = "command: [COMMAND]\nrestart: {policy: never}\nstop: {signal: KILL}\nenv: {GREETING: hello}\nmounts: {/usr: {source: /usr, readOnly: true}, /mnt: {tmpfs: {}}}"
	manifest := func(img string) *spec.Container {
		m := onImage(t, "web", img, body)
		m.Spec.Command = nil // the image's
		return m
	}
	_, err := w.Create(ctx, manifest("shop"), origin)
	w.must(err)
	w.awaitOutput("web", "up")
	if out, want := w.output("web"), "image hello\n/data/db:\nseed\n\n/opt/empty:\n1000:1001:750\n0:0:755\nup\n"; out != want {
		t.Errorf("%q, want %q", out, want)
	}
	dir := w.dir("web") + "/volumes/"
	entries, _ := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if fmt.Sprint(names) != "[data%2Fdb link opt%2Fempty]" {
		t.Errorf("volumes: %q", names)
	}
	w.awaitText(dir+"data%2Fdb/rows", "row")
	if b := w.read(w.dir("web") + "/upper/data/db/rows"); b != "" {
		t.Error("it is in upper")
	}
	w.must(w.Restart(ctx, manifest("shop:2"), origin, false))
	w.awaitText(dir+"data%2Fdb/rows", "row\nrow")
	if w.read(dir+"data%2Fdb/seed") != "1" {
		t.Error("the volume was seeded again")
	}
	w.must(w.Remove(ctx, "web"))
	_, err = w.Create(ctx, manifest("shop:2"), origin)
	w.must(err)
	w.awaitText(dir+"data%2Fdb/rows", "row\nrow\nrow")
	w.image("bare")
	if err := w.Restart(ctx, manifest("bare"), origin, false); err == nil || !strings.Contains(err.Error(), "neither the manifest nor the image names a command") {
		t.Errorf("no command anywhere: %v", err)
	}
}

// On most hosts all mounts are shared: what is mounted there shows in other namespaces, and what
// is unmounted goes there as well.
func TestImageOnSharedMounts(t *testing.T) {
	roottest.Need(t)
	cmd := exec.Command("unshare", "--mount", "--propagation", "unchanged", "sh", "-c", `mount --make-rshared / && exec "$0" "$@"`,
		os.Args[0], "-test.run=^(TestImageRoot|TestImageHeld|TestImageMounts|TestImageAndOtherRoots)$", "-test.timeout=5m")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

// Every file of an image has inside the owner, mode and attributes that it has in its layer, and
// means there what it means anywhere: set-user-ID, file capabilities, FIFOs, hard links. A device
// node means nothing.
func TestImageFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	img := w.image("shop", map[string]string{"srv/a": "a", "srv/deep/b": "b", "srv/link": "-> deep/b", "srv/caps/": "", "srv/suid/": ""})
	layer := filepath.Join(w.images.LayersDir(), fmt.Sprint(img.Layers[1].Number), "srv")
	for i, id := range []int{0, 1, 1000, 65534, 65535} {
		file := fmt.Sprintf("%s/of-%d", layer, i)
		w.must(os.WriteFile(file, []byte("x"), 0o640))
		w.must(os.Chown(file, id, 65535-id))
		w.must(unix.Chmod(file, uint32(0o4711+i)))
	}
	w.must(os.Link(layer+"/a", layer+"/same"))
	w.must(unix.Mkfifo(layer+"/fifo", 0o622))
	w.must(unix.Mknod(layer+"/node", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
	for name, program := range map[string]string{"caps/cat": "/usr/bin/cat", "suid/id": "/usr/bin/id"} {
		b, err := os.ReadFile(program)
		w.must(err)
		w.must(os.WriteFile(layer+"/"+name, b, 0o755))
	}
	w.must(unix.Chmod(layer+"/suid/id", 0o4755))
	netRaw := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // version 2, effective, CAP_NET_RAW permitted
	w.must(unix.Setxattr(layer+"/caps/cat", "security.capability", netRaw, 0))
	w.must(unix.Setxattr(layer+"/a", "user.note", []byte("kept"), 0))

	const look = "find /srv | sort | xargs stat -c '%n %u:%g %a %h %F %s'"
	const body = "command: [sh, -c, \"" + look + "; /srv/suid/id -u; /srv/caps/cat /proc/self/status | grep CapEff; head -c1 /srv/node; echo end\"]\nuser: app\nrestart: {policy: never}\nsecurity: {noNewPrivileges: false}"
	w.createOn("web", "shop", body)
	w.await("web", status.Exited)
	outside, err := exec.Command("sh", "-c", "cd "+layer+"; "+strings.ReplaceAll(look, "/srv", ".")).Output()
	w.must(err)
	want := strings.ReplaceAll("\n"+string(outside), "\n.", "\n/srv")[1:]
	out := w.output("web")
	// The size of a directory is that of one layer or of several.
	if size := regexp.MustCompile("(directory) [0-9]+"); size.ReplaceAllString(out[:min(len(out), len(want))], "$1") != size.ReplaceAllString(want, "$1") {
		t.Errorf("inside:\n%s\nin the layer:\n%s", out, want)
	}
	for _, line := range []string{"\n0\n", "CapEff:\t0000000000002000\n", "head: cannot open '/srv/node' for reading: Permission denied\n"} {
		if !strings.Contains(out, line) {
			t.Errorf("%q is missing:\n%s", line, out)
		}
	}
	// Ten containers take the space of what they write.
	for i := range 3 {
		w.createOn(fmt.Sprint("more-", i), "shop", forImage)
		w.awaitText(w.dir(fmt.Sprint("more-", i))+"/root/srv/private", "mine")
		if used, err := exec.Command("du", "-sk", w.dir(fmt.Sprint("more-", i))+"/upper").Output(); err != nil || len(used) > len("99\t")+len(w.dir("more-0"))+len("/upper\n") {
			t.Errorf("upper takes %s kB, %v", used, err)
		}
	}
}
