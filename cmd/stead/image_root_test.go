package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"stead/reconcile/view"
	"stead/runtime/image"
)

// imageRoot makes a directory that holds a root with a shell and some programs, and a file that
// says which one it is.
func (h *testHost) imageRoot(name string) string {
	h.t.Helper()
	root := h.dir + "/roots/" + name
	for _, dir := range []string{"bin", "etc", "data", "proc", "sys", "dev", "tmp", "root"} {
		if err := os.MkdirAll(root+"/"+dir, 0o755); err != nil {
			h.t.Fatal(err)
		}
	}
	for _, program := range []string{"sh", "sleep", "cat", "id"} {
		path, err := exec.LookPath(program)
		if err != nil {
			h.t.Fatal(err)
		}
		h.copyWithLibraries(path, root, "/bin/"+program)
	}
	writeFile(h.t, root+"/etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n")
	writeFile(h.t, root+"/etc/group", "root:x:0:\napp:x:1000:\n")
	writeFile(h.t, root+"/data/which", name+"\n")
	return root
}

// copyWithLibraries copies a program and the libraries that it needs.
func (h *testHost) copyWithLibraries(program, root, to string) {
	h.t.Helper()
	files := map[string]string{program: to}
	out, _ := exec.Command("ldd", program).Output() // fails for a static one
	for _, word := range strings.Fields(string(out)) {
		if strings.HasPrefix(word, "/") {
			files[word] = word
		}
	}
	for from, to := range files {
		data, err := os.ReadFile(from)
		if err != nil {
			h.t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(root+to), 0o755); err != nil {
			h.t.Fatal(err)
		}
		if err := os.WriteFile(root+to, data, 0o755); err != nil {
			h.t.Fatal(err)
		}
	}
}

// ofImage is a manifest of a container whose root is an image.
func ofImage(name, image, more string) string {
	return `apiVersion: stead/v1
kind: Container
metadata: {name: ` + name + `}
spec:
  rootfs: {image: ` + image + `}
  command: [sh, -c, 'echo "I am $STEAD_NAME of $(cat /data/which)"; exec sleep 1000000']
  stop: {signal: KILL}
  network: {mode: none}
` + more
}

// The life of a container whose root is a local image: import, apply, exec, edit, another image,
// delete.
func TestImage(t *testing.T) {
	h := newHost(t)
	h.ok("image", "import", "t", h.imageRoot("one"))
	h.write("web.yaml", ofImage("web", "t", ""))
	h.startDaemon()
	if out := h.ok("apply"); !strings.Contains(out, "create web") && out != "all is as declared\n" {
		t.Errorf("apply: %q", out)
	}
	h.untilLogged("web", "I am web of one")
	web := h.until("web", "running", running)
	h.ok("exec", "web", "sh", "-c", "echo mine > /data/mine")
	if out := h.ok("exec", "web", "cat", "/data/which", "/data/mine"); out != "one\nmine\n" {
		t.Errorf("exec: %q", out)
	}

	h.write("web.yaml", ofImage("web", "t", "  user: app\n"))
	h.ok("apply")
	if out := h.ok("exec", "web", "sh", "-c", "id -u; cat /data/mine"); out != "1000\nmine\n" {
		t.Errorf("after an edit: %q", out)
	}
	if v := h.until("web", "running", running); v.Pid == web.Pid {
		t.Error("it was not restarted")
	}

	inspected := h.ok("inspect", "web")
	for _, want := range []string{`"reference": "t"`, `"digest": "sha256:`, `"user": "app"`, `"workingDir": "/"`, `"stopSignal": "KILL"`} {
		if !strings.Contains(inspected, want) {
			t.Errorf("inspect does not show %s: %s", want, inspected)
		}
	}

	// The image that its name stands for changes: it keeps the one that it has.
	h.ok("image", "import", "t", h.imageRoot("two"))
	h.ok("restart", "web")
	if out := h.ok("exec", "web", "cat", "/data/which"); out != "one\n" {
		t.Errorf("after a restart: %q", out)
	}
	if c := h.stead("plan"); c.code != 0 {
		t.Errorf("plan: %+v", c)
	}

	// Unless somebody says that it shall move: a fresh root, and the old private files are kept.
	h.ok("image", "import", "--use", "t", h.imageRoot("two"))
	h.ok("apply")
	if out := h.ok("exec", "web", "sh", "-c", "cat /data/which; test -e /data/mine || echo fresh"); out != "two\nfresh\n" {
		t.Errorf("after --use: %q", out)
	}
	if kept, _ := filepath.Glob(h.dir + "/state/removed/web@*/upper/data/mine"); len(kept) != 1 {
		t.Errorf("the private files of the first image are not kept: %v", kept)
	}
	h.ok("exec", "-u", "0", "web", "sh", "-c", "echo mine > /data/mine")
	if c := h.stead("plan"); c.code != 0 {
		t.Errorf("plan: %+v", c)
	}
	if events := h.ok("events", "web"); !strings.Contains(events, "restart web  spec.rootfs.image t@sha256:") {
		t.Errorf("events: %s", events)
	}

	// Another name: a fresh root.
	h.ok("image", "import", "other", h.imageRoot("three"))
	h.write("web.yaml", ofImage("web", "other", ""))
	h.ok("apply")
	if events := h.ok("events", "web"); !strings.Contains(events, "spec.rootfs.image t → other") {
		t.Errorf("events: %s", events)
	}
	if out := h.ok("exec", "web", "sh", "-c", "cat /data/which; test -e /data/mine || echo fresh"); out != "three\nfresh\n" {
		t.Errorf("of another image: %q", out)
	}
	if out := h.ok("image", "list", "-o", "json"); !strings.Contains(out, "container web") {
		t.Errorf("image list: %s", out)
	}
	if c := h.stead("image", "remove", "other"); c.code != exitFailure || !strings.Contains(c.err, "container web") {
		t.Errorf("image remove of one in use: %+v", c)
	}
	h.write("web.yaml", strings.Replace(ofImage("web", "t", ""), "image: t", "image: t, onImageChange: refuse", 1))
	if c := h.stead("apply"); c.code != exitHeld || !strings.Contains(c.err+c.out, "onImageChange: refuse keeps its private files") {
		t.Errorf("apply of a change that is refused: %+v", c)
	}
	if c := h.stead("status"); c.code != exitDiffers || !strings.Contains(c.out, "changes of images held:") {
		t.Errorf("status of a change that is refused: %+v", c)
	}
	if out := h.ok("exec", "web", "cat", "/data/which"); out != "three\n" {
		t.Errorf("after a change that is refused: %q", out)
	}

	os.Remove(h.manifests + "/web.yaml")
	h.ok("apply", "--confirm-removal=web")
	if out := h.ok("ps", "-o", "name"); out != "" {
		t.Errorf("ps: %q", out)
	}
}

// A container waits for its local image, and starts when it is there. One that is declared is
// imported, and again from another source; what needs no image is not delayed.
func TestImageWaits(t *testing.T) {
	h := newHost(t)
	h.write("web.yaml", ofImage("web", "t", ""))
	h.write("other.yaml", manifest("other", ""))
	h.startDaemon()
	h.until("other", "running", running)
	h.until("web", "waiting for its image", func(v view.Container) bool {
		return v.Reason == view.ReasonWaitingForImage && strings.HasPrefix(v.Why, "web.yaml:5:19: spec.rootfs.image: there is no image t here")
	})
	h.ok("image", "import", "t", h.imageRoot("one"))
	h.until("web", "running", running)

	two := h.imageRoot("two")
	declared := func(dir string) string {
		return "apiVersion: stead/v1\nkind: Image\nmetadata: {name: declared}\nspec: {source: {directory: " + dir + "}}\n"
	}
	h.write("image.yaml", declared(two))
	h.write("late.yaml", ofImage("late", "declared", "  replicas: 2\n"))
	h.ok("apply")
	h.untilLogged("late-1", "I am late-1 of two")
	h.write("image.yaml", declared(two+"x"))
	if c := h.stead("apply"); c.code != exitFailure || !strings.Contains(c.err, "image declared: import failed: ") || !strings.Contains(c.err, two+"x: no such file or directory") {
		t.Errorf("apply of a source that is not there: %+v", c)
	}
	if c := h.stead("status"); c.code != exitDiffers || !strings.Contains(c.out, "image       declared: import failed: ") {
		t.Errorf("status: %+v", c)
	}
	if err := os.Rename(two, two+"x"); err != nil {
		t.Fatal(err)
	}
	h.ok("apply")
	if c := h.stead("plan"); c.code != 0 {
		t.Errorf("plan: %+v", c)
	}
	if c := h.stead("events"); !strings.Contains(c.out, "import image declared") || !strings.Contains(c.out, "import failed image declared") {
		t.Errorf("events: %s", c.out)
	}
	if c := h.stead("image", "prune", "--yes"); c.code != 0 || strings.Contains(c.out, "declared") {
		t.Errorf("prune: %+v", c)
	}
	var all []image.Entry
	if err := json.Unmarshal([]byte(h.ok("image", "list", "-o", "json")), &all); err != nil || len(all) != 2 {
		t.Errorf("image list: %+v, %v", all, err)
	}
}

// The example of replicas and an image runs, and a replica that comes back has its files.
func TestWorkersExample(t *testing.T) {
	h := newHost(t)
	h.ok("image", "import", "worker", h.imageRoot("worker"))
	text, err := os.ReadFile("../../examples/workers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	h.write("workers.yaml", string(text))
	h.startDaemon()
	h.ok("apply")
	h.untilLogged("workers-2", "I am workers-2, and this is run I\n")
	for _, n := range []string{"2", "3"} {
		h.write("workers.yaml", strings.Replace(string(text), "replicas: 3", "replicas: "+n, 1))
		h.ok("apply")
	}
	h.untilLogged("workers-2", "I am workers-2, and this is run II\n")
	if out := h.ok("exec", "workers-1", "/bin/sh", "-c", "echo $SHARD"); out != "1\n" {
		t.Errorf("exec: %q", out)
	}
	if out := h.ok("logs", "workers"); strings.Contains(out, "workers-0, and this is run II") {
		t.Errorf("a replica that stayed was restarted:\n%s", out)
	}
}

// validate counts replicas and images, and holds the names of both apart.
func TestValidateReplicasAndImages(t *testing.T) {
	image := "apiVersion: stead/v1\nkind: Image\nmetadata: {name: web}\nspec: {source: {directory: /srv/web}}\n"
	text := replicated(3, "") + "---\n" + image
	if c := run(t, text, "validate", "-"); c.code != 0 || c.out != "1 file, 3 containers, 1 image: no errors\n" {
		t.Errorf("got %+v", c)
	}
	if c := run(t, text+"---\n"+manifest("web-2", ""), "validate", "-"); c.code != exitInvalid || !strings.Contains(c.err, `"web-2" is taken by `) {
		t.Errorf("got %+v", c)
	}
	if c := run(t, image+"---\n"+image, "validate", "-"); c.code != exitInvalid || !strings.Contains(c.err, `"web" is taken by `) {
		t.Errorf("got %+v", c)
	}
}
