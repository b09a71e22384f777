package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// manifestWith is a manifest of a container with a host root.
func manifestWith(name, script, more string) string {
	return fmt.Sprintf(`apiVersion: stead/v1
kind: Container
metadata: {name: %s}
spec:
  rootfs: {host: {}}
  command: [sh, -c, %q]
  network: {mode: none}
  stop: {signal: KILL}
%s`, name, script, more)
}

// A backup has volumes, and directories of the host that the manifest includes; it says so of every
// mount. They come back on another host. What is there is not touched without a word.
func TestBackupVolumes(t *testing.T) {
	h := newHost(t)
	for _, dir := range []string{"in", "out"} {
		if err := os.Mkdir(h.dir+"/"+dir, 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, h.dir+"/"+dir+"/mark", dir)
	}
	mounts := fmt.Sprintf(`  mounts:
    /data: {volume: web-data}
    /in: {source: %[1]s/in}
    /out: {source: %[1]s/out}
    /mem: {tmpfs: {}}
  backup: {include: [root, volumes, /in]}
`, h.dir)
	h.write("web.yaml", manifestWith("web", "echo first > /data/mark; echo root > /root/mark; exec sleep 1000000", mounts))
	if c := h.stead("validate"); c.code != 0 || !strings.Contains(c.out+c.err, "spec.mounts[/out]: "+h.dir+"/out is not in backups of the container; add /out to spec.backup.include") {
		t.Errorf("validate: %+v", c)
	}
	h.startDaemon()
	data := h.dir + "/state/volumes/web-data/mark"
	h.awaitFile(data, "first")
	c := h.stead("backup", "web", "-o", h.dir+"/web.tar.zst")
	for _, want := range []string{"in the backup: /data (volume web-data)", "in the backup: /in (bind " + h.dir + "/in)", "not in the backup: /out (bind " + h.dir + "/out)", "not in the backup: /mem (tmpfs)"} {
		if !strings.Contains(c.err, "web: "+want+"\n") {
			t.Errorf("no %q in %+v", want, c)
		}
	}
	file := h.dir + "/web.tar.zst"

	// as another container: two would write to the directories of the host
	if c := h.stead("restore", file, "--as", "shop"); c.code == 0 || !strings.Contains(c.err, "writable mount ("+h.dir+"/in) at /in") {
		t.Errorf("--as: %+v", c)
	}
	// in place
	writeFile(t, data, "second")
	writeFile(t, h.dir+"/in/mark", "second")
	writeFile(t, h.dir+"/in/new", "")
	h.ok("stop", "web")
	c = h.stead("restore", "--replace", file)
	if c.code != 0 || !strings.Contains(c.err, "the data from before is in the volume web-data.replaced-") || !strings.Contains(c.err, h.dir+"/in.replaced-") || !strings.Contains(c.err, "removed/web@") {
		t.Errorf("restore --replace: %+v", c)
	}
	h.awaitFile(data, "first")
	h.awaitFile(h.dir+"/in/mark", "in")
	if _, err := os.Stat(h.dir + "/in/new"); err == nil {
		t.Error("a file that is not in the backup is still there")
	}
	for _, pattern := range []string{"/state/volumes/web-data.replaced-*/mark", "/in.replaced-*/mark"} {
		kept, _ := filepath.Glob(h.dir + pattern)
		if len(kept) != 1 {
			t.Fatalf("%s: %v", pattern, kept)
		}
		h.awaitFile(kept[0], "second")
	}
	h.ok("start", "web")

	// on another host
	other := hostOf(t) // a second instance of stead stands for it
	if c := other.stead("restore", file); c.code == 0 || !strings.Contains(c.err, h.dir+"/in is there, and not empty") {
		t.Errorf("over a directory that has something: %+v", c)
	}
	if left, _ := filepath.Glob(other.dir + "/state/*/*"); len(left) > 0 {
		t.Errorf("a refused restore left %v", left)
	}
	h.ok("stop", "web")
	if err := os.RemoveAll(h.dir + "/in"); err != nil {
		t.Fatal(err)
	}
	other.ok("restore", file)
	other.awaitFile(other.dir+"/state/volumes/web-data/mark", "first")
	other.awaitFile(h.dir+"/in/mark", "in")
	other.ok("apply")
	other.awaitFile(other.dir+"/state/containers/web/upper/root/mark", "root")
	if out := other.ok("exec", "web", "cat", "/data/mark", "/in/mark"); out != "first\nin" {
		t.Errorf("inside: %q", out)
	}
	other.ok("stop", "web")
	if left, _ := filepath.Glob(h.dir + "/in.restore-*"); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// A copy under another name has volumes of its own.
func TestRestoreVolumesAs(t *testing.T) {
	h := newHost(t)
	more := "  mounts: {/data: {volume: web-data}, /more: {volume: other}}\n  backup: {include: [root, volumes]}\n"
	h.write("web.yaml", manifestWith("web", "test -e /data/mark || echo first > /data/mark; exec sleep 1000000", more))
	h.startDaemon()
	h.awaitFile(h.dir+"/state/volumes/web-data/mark", "first")
	file := h.archiveOf("web")
	writeFile(t, h.dir+"/state/volumes/web-data/mark", "second")
	h.ok("restore", file, "--as", "shop")
	h.until("shop", "running", running)
	h.awaitFile(h.dir+"/state/volumes/shop-data/mark", "first")
	h.awaitFile(h.dir+"/state/volumes/web-data/mark", "second")
	b, err := os.ReadFile(h.manifests + "/shop.yaml")
	if text := string(b); err != nil || !strings.Contains(text, "volume: shop-data") || !strings.Contains(text, "volume: shop-other") || strings.Contains(text, "backup") || strings.Contains(text, "hostname: web") {
		t.Errorf("%s %v", text, err)
	}
	if c := h.stead("restore", file, "--as", "third"); c.code != 0 {
		t.Errorf("a third: %+v", c)
	}
	// a volume that is there stays as it is
	os.Remove(h.manifests + "/third.yaml")
	h.ok("apply", "--confirm-removal=third")
	h.ok("purge", "third")
	if c := h.stead("restore", file, "--as", "third"); c.code == 0 || !strings.Contains(c.err, "there is a volume third-") {
		t.Errorf("over a volume: %+v", c)
	}
}

// A backup of a container freezes the others that write its volumes: what they wrote first is there
// if what they wrote later is.
func TestBackupFreezesAllWhoWrite(t *testing.T) {
	h := newHost(t)
	more := "  mounts: {/data: {volume: db, shared: true}}\n"
	h.write("web.yaml", manifestWith("web", "exec sleep 1000000", more))
	h.write("writer.yaml", manifestWith("writer", `i=0; mkdir -p /data/m; while [ $i -lt 2000 ]; do : > /data/m/$i; i=$((i+1)); done; echo > /root/ready; while :; do printf x >> /data/a; printf x >> /data/z; done`, more))
	h.startDaemon()
	h.until("web", "running", running)
	h.awaitFile(h.dir+"/state/containers/writer/upper/root/ready", "")
	for i := range 5 {
		h.ok("backup", "web", "-o", fmt.Sprintf("%s/%d.tar.zst", h.dir, i))
		time.Sleep(10 * time.Millisecond) // it goes on
	}
	h.ok("stop", "web")
	h.ok("stop", "writer")
	last := int64(0)
	for i := range 5 {
		h.ok("restore", "--replace", fmt.Sprintf("%s/%d.tar.zst", h.dir, i))
		size := func(name string) int64 {
			st, err := os.Stat(h.dir + "/state/volumes/db/" + name)
			if err != nil {
				t.Fatal(err)
			}
			return st.Size()
		}
		a, z := size("a"), size("z")
		if a != z && a != z+1 {
			t.Errorf("backup %d: a has %d bytes, z %d", i, a, z)
		}
		if a <= last {
			t.Errorf("backup %d: the writer stands still at %d", i, a)
		}
		last = a
	}
}
