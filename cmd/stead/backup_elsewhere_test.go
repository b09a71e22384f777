package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// owning writes files as two users, in its root and in a volume, with a set-user-ID bit.
const owning = `echo root > /data/root; echo app > /data/app; chown app:app /data/app /vol; chmod 4755 /data/app; echo vol > /vol/app; chown app /vol/app; : > /data/ready; exec sleep 1000000`

// checkOwners checks the files of owning, on disk and inside.
func (h *testHost) checkOwners(upper, volume string) {
	h.t.Helper()
	for file, want := range map[string]uint32{upper + "/data/root": 0, upper + "/data/app": 1000, volume + "/app": 1000, volume: 1000} {
		var st unix.Stat_t
		if err := unix.Lstat(file, &st); err != nil || st.Uid != want {
			h.t.Errorf("%s: uid %d, %v; want %d", file, st.Uid, err, want)
		}
	}
	if out := h.ok("exec", "web", "stat", "-c", "%n %u %g %a", "/data/root", "/data/app", "/vol/app", "/vol"); out != "/data/root 0 0 644\n/data/app 1000 1000 4755\n/vol/app 1000 0 644\n/vol 1000 1000 755\n" {
		h.t.Errorf("inside: %s", out)
	}
}

// rootWith is imageRoot with more programs.
func (h *testHost) rootWith(name string, programs ...string) string {
	root := h.imageRoot(name)
	for _, p := range programs {
		h.copyWithLibraries("/usr/bin/"+p, root, "/bin/"+p)
	}
	if err := os.Mkdir(root+"/vol", 0o755); err != nil {
		h.t.Fatal(err)
	}
	return root
}

func owner(rootfs string) string {
	return `apiVersion: stead/v1
kind: Container
metadata: {name: web}
spec:
  rootfs: {` + rootfs + `}
  command: [sh, -c, "` + owning + `"]
  stop: {signal: KILL}
  network: {mode: none}
  mounts: {/vol: {volume: web-data}}
`
}

// A container with an image comes up on another host, with other ids of the host, and its files have
// the same owners.
func TestRestoreImageElsewhere(t *testing.T) {
	h := newHost(t)
	h.ok("image", "import", "t", h.rootWith("one", "chown", "chmod", "stat", "mv"))
	h.write("web.yaml", owner("image: t"))
	h.startDaemon()
	h.awaitFile(h.dir+"/state/containers/web/upper/data/ready", "")
	h.ok("exec", "web", "sh", "-c", "mv /data/which /data/gone")
	upper := h.dir + "/state/containers/web/upper"
	h.checkOwners(upper, h.dir+"/state/volumes/web-data")
	file := h.archiveOf("web")

	other := hostOf(t)
	other.write("first.yaml", manifestWith("first", "exec sleep 1000000", "")) // has the first ids
	other.startDaemon()
	other.until("first", "running", running)
	if c := other.stead("restore", file); c.code == 0 || !strings.Contains(c.err, "its files are changes of the image t (sha256:") || !strings.Contains(c.err, "which is not on this host") {
		t.Fatalf("without the image: %+v", c)
	}
	other.ok("image", "import", "t", other.rootWith("two", "chown", "chmod", "stat", "mv"))
	if c := other.stead("restore", file); c.code == 0 || !strings.Contains(c.err, "and that of this host has the digest sha256:") {
		t.Fatalf("with another image: %+v", c)
	}
	if left, _ := filepath.Glob(other.dir + "/state/{volumes,restore,removed}/*"); len(left) > 0 {
		t.Errorf("refused restores left %v", left)
	}
	h.ok("image", "export", "t", "-o", h.dir+"/t.tar")
	other.ok("image", "remove", "t")
	other.ok("image", "import", "t", h.dir+"/t.tar")
	other.ok("restore", file)
	there := other.dir + "/state/containers/web/upper"
	v := other.until("web", "running", running)
	other.checkOwners(there, other.dir+"/state/volumes/web-data")
	if out := other.ok("exec", "web", "sh", "-c", "cat /data/gone; test -e /data/which || echo no"); out != "one\nno\n" {
		t.Errorf("inside: %q", out)
	}
	if w := h.until("web", "running", running); v.Pid == w.Pid || hostID(t, v.Pid) == hostID(t, w.Pid) {
		t.Errorf("both have the same ids of the host: the test shows nothing")
	}
}

// hostID is the id on the host of root inside.
func hostID(t *testing.T, pid int) uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join("/proc", strconv.Itoa(pid)), &st); err != nil {
		t.Fatal(err)
	}
	return st.Uid
}

// A container with a directory of the host as its root comes up on another host.
func TestRestorePathElsewhere(t *testing.T) {
	h := newHost(t)
	root := h.rootWith("one", "chown", "chmod", "stat", "mv")
	h.write("web.yaml", owner("path: "+root))
	h.startDaemon()
	h.awaitFile(root+"/data/ready", "")
	file := h.archiveOf("web")
	h.ok("stop", "web")
	writeFile(t, root+"/data/app", "second")

	other := hostOf(t)
	other.startDaemon()
	if c := other.stead("restore", file); c.code == 0 || !strings.Contains(c.err, root+" is there, and not empty") {
		t.Fatalf("over another root: %+v", c)
	}
	if err := os.Rename(root, root+".away"); err != nil {
		t.Fatal(err)
	}
	other.ok("restore", file)
	other.until("web", "running", running)
	other.checkOwners(root, other.dir+"/state/volumes/web-data")
	other.awaitFile(root+"/data/app", "app")

	// and in place of what is there
	writeFile(t, root+"/data/app", "third")
	if c := other.stead("restore", "--replace", file); c.code == 0 || !strings.Contains(c.err, "it runs") {
		t.Errorf("while it runs: %+v", c)
	}
	other.ok("stop", "web")
	other.ok("restore", "--replace", file)
	other.ok("start", "web")
	other.checkOwners(root, other.dir+"/state/volumes/web-data")
	kept, _ := filepath.Glob(root + ".replaced-*/data/app")
	if len(kept) != 1 {
		t.Fatalf("the data from before: %v", kept)
	}
	other.awaitFile(kept[0], "third")
}
