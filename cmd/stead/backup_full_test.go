package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stead/runtime/roottest"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a file system of some megabytes.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	roottest.Need(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// A full disk, at the target of a backup and at that of a restore, leaves nothing and touches nothing; the
// verb says why.
func TestBackupFullDisk(t *testing.T) {
	target, place := smallDisk(t, "size=2m"), smallDisk(t, "size=6m")
	h := newHost(t)
	h.write("web.yaml", manifestWith("web", "head -c 4000000 /dev/urandom > /var/data; echo up > /var/up; while :; do echo x >> /root/n; sleep 0.01; done", ""))
	h.startDaemon()
	upper := h.dir + "/state/containers/web/upper"
	h.awaitFile(upper+"/var/up", "up")
	web := h.until("web", "running", running)
	c := h.stead("backup", "web", "-o", target)
	if c.code != exitFailure || !strings.Contains(c.err, "no space left on device") {
		t.Errorf("a full target: %+v", c)
	}
	if left, _ := filepath.Glob(target + "/*"); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	if left, _ := filepath.Glob(target + "/.*"); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	h.goesOn(upper + "/root/n")
	if v := h.until("web", "running", running); v.Pid != web.Pid {
		t.Error("it was restarted")
	}
	file := h.archiveOf("web")

	other := hostOf(t)
	other.env = []string{"STEAD_STATE_DIR=" + place}
	if err := os.WriteFile(place+"/ballast", make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	c = other.stead("restore", file)
	if c.code != exitFailure || !strings.Contains(c.err, "free space") && !strings.Contains(c.err, "no space left") {
		t.Errorf("a full place: %+v", c)
	}
	for _, pattern := range []string{"/restore/*", "/removed/*", "/containers/*"} {
		if left, _ := filepath.Glob(place + pattern); len(left) > 0 {
			t.Errorf("left over: %v", left)
		}
	}
	if _, err := os.Stat(other.manifests + "/web.yaml"); err == nil {
		t.Error("a manifest was written")
	}
	os.Remove(place + "/ballast")
	other.ok("restore", file)
}

// A container that does not stand still in time goes on, and there is no backup: the reason is told.
func TestBackupCannotFreeze(t *testing.T) {
	h := newHost(t)
	mount := h.dir + "/fuse"
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	fuse := roottest.MountFUSE(t, mount, map[string]string{"file": "text"})
	h.write("web.yaml", manifestWith("web", "echo up > /var/up; cat /fuse/file; while :; do echo x >> /root/n; sleep 0.01; done", "  mounts: {/fuse: {source: "+mount+", readOnly: true, idmap: false}}\n"))
	fuse.HangReads()
	h.startDaemon()
	h.awaitFile(h.dir+"/state/containers/web/upper/var/up", "up")
	c := h.stead("backup", "web", "-o", h.dir+"/web.tar.zst", "--max-freeze", "1s")
	if c.code != exitFailure || !strings.Contains(c.err, "can't freeze the container") {
		t.Errorf("%+v", c)
	}
	if _, err := os.Stat(h.dir + "/web.tar.zst"); err == nil {
		t.Error("there is an archive")
	}
	fuse.End()
	h.goesOn(h.dir + "/state/containers/web/upper/root/n")
}
