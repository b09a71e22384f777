package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stead/runtime/roottest"

	"golang.org/x/sys/unix"
)

// copying is a container that stays, with a volume, a read-only bind and a tmpfs.
func (h *testHost) copying(name, rootfs, script string) string {
	ro := h.dir + "/ro"
	if err := os.MkdirAll(ro, 0o755); err != nil {
		h.t.Fatal(err)
	}
	return fmt.Sprintf(`apiVersion: stead/v1
kind: Container
metadata: {name: %s}
spec:
  rootfs: %s
  command: [sh, -c, %q]
  network: {mode: none}
  mounts: {/volume: {volume: %[1]s}, /ro: {source: %[4]s, readOnly: true}, /scratch: {tmpfs: {size: 4Mi}}}
  stop: {signal: KILL}
`, name, rootfs, script, ro)
}

// odd makes a directory with what is copied wrongly most easily.
func odd(t *testing.T) string {
	t.Helper()
	dir := t.TempDir() + "/odd"
	for _, err := range []error{
		os.MkdirAll(dir+"/sub/empty", 0o750), os.Chmod(dir, 0o711),
		os.WriteFile(dir+"/sub/file", []byte("content"), 0o640), os.Chown(dir+"/sub/file", 1000, 33),
		os.WriteFile(dir+"/program", []byte("#!/bin/sh\n"), 0o755),
		os.Link(dir+"/sub/file", dir+"/another name"), os.Symlink("/nowhere/at all", dir+"/link"),
		os.WriteFile(dir+"/holes", nil, 0o600), os.Truncate(dir+"/holes", 1<<20),
		os.WriteFile(dir+"/"+strings.Repeat("n", 255), []byte("long"), 0o644),
		unix.Setxattr(dir+"/program", "user.note", []byte("of odd"), 0),
		os.Chtimes(dir+"/sub/file", time.Time{}, time.Unix(1e9, 0)), os.Chtimes(dir+"/sub", time.Time{}, time.Unix(1e9+5, 0)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// describeTree lists all that a copy keeps of a tree.
func describeTree(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err != nil || unix.Lstat(path, &st) != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		text := ""
		switch d.Type() {
		case 0:
			b, _ := os.ReadFile(path)
			text = fmt.Sprintf("%d bytes %.20q, %d names, holes %v", len(b), b, st.Nlink, st.Blocks*512 < st.Size)
		case fs.ModeSymlink:
			text, _ = os.Readlink(path)
		}
		note := make([]byte, 100)
		n, _ := unix.Lgetxattr(path, "user.note", note)
		fmt.Fprintf(&out, "%s %o %d:%d %d %s %q\n", name, st.Mode, st.Uid, st.Gid, st.Mtim.Sec, text, note[:max(n, 0)])
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// Files are copied into containers and out of them as they are, with the ids that they have inside:
// in a root, a volume and a tmpfs, running and stopped, of each kind of root.
func TestCopy(t *testing.T) {
	h := newHost(t)
	h.imageRoot("tiny")
	h.ok("image", "import", "tiny", h.dir+"/roots/tiny")
	for kind, rootfs := range map[string]string{
		"host": "{host: {}}", "image": "{image: tiny}", "path": "{path: " + h.imageRoot("path") + "}",
	} {
		h.write(kind+".yaml", h.copying(kind, rootfs, "while :; do sleep 1; done"))
	}
	h.ok("apply")
	from := odd(t)
	want := describeTree(t, from)
	roundTrip := func(t *testing.T, name, at string) {
		t.Helper()
		h.ok("cp", from, name+":"+at)
		to := t.TempDir() + "/back"
		h.ok("cp", name+":"+at, to)
		if got := describeTree(t, to); got != want {
			t.Errorf("%s:%s:\n%s\nwant\n%s", name, at, got, want)
		}
	}
	for _, name := range []string{"host", "image", "path"} {
		for _, at := range []string{"/new", "/volume/new", "/scratch/new"} {
			roundTrip(t, name, at)
		}
		if got := h.ok("exec", name, "sh", "-c", "cat '/volume/new/another name' && id -u"); got != "content0\n" {
			t.Errorf("%s: %q", name, got)
		}
		refused := h.stead("cp", from+"/program", name+":/ro")
		if files, _ := os.ReadDir(h.dir + "/ro"); refused.code != 1 || !strings.Contains(refused.err, "read-only") || len(files) > 0 {
			t.Errorf("%s: %+v %v", name, refused, files)
		}
		h.ok("stop", name)
		roundTrip(t, name, "/stopped")
		for _, at := range []string{"/volume/x", "/scratch/x", "/ro/x", "/proc/x"} {
			if c := h.stead("cp", from+"/program", name+":"+at); c.code != 1 || !strings.Contains(c.err, "is mounted while the container runs") {
				t.Errorf("%s:%s, stopped: %+v", name, at, c)
			}
		}
	}
	for name, want := range map[string]int{"nobody:/x": exitMissing, "host:x": exitUsage, "/x": exitUsage} {
		if c := h.stead("cp", from, name); c.code != want {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// A source goes where cp(1) would put it, and a tar stream is one that tar reads and writes.
func TestCopyPlaces(t *testing.T) {
	h := newHost(t)
	h.write("web.yaml", h.copying("web", "{host: {}}", "mkdir -p /var/d/sub; ln -s d /var/l; echo old > /var/d/file; ln -s d/file /var/lf; mkfifo /var/fifo; echo ready; while :; do sleep 1; done"))
	h.ok("apply")
	h.untilLogged("web", "ready")
	dir := t.TempDir()
	writeFile(t, dir+"/file", "new\n")
	if err := os.Mkdir(dir+"/tree", 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/tree/leaf", "leaf\n")
	in := func(script string) string { return strings.TrimSpace(h.stead("exec", "web", "sh", "-c", script).out) }
	for _, tt := range []struct{ source, target, check, want string }{
		{"/file", "/var/d", "cat /var/d/file", "new"},
		{"/file", "/var/d/other", "cat /var/d/other", "new"},
		{"/file", "/var/l/through", "cat /var/d/through", "new"},
		{"/file", "/var/lf", "cat /var/d/file; readlink /var/lf", "new\nd/file"},
		{"/tree", "/var/d", "cat /var/d/tree/leaf; stat -c %a /var/d/tree", "leaf\n700"},
		{"/tree/.", "/var/d/sub", "cat /var/d/sub/leaf; stat -c %a /var/d/sub", "leaf\n755"}, // it keeps its mode
		{"/tree", "/var/new", "cat /var/new/leaf", "leaf"},
		{"/tree", "/../../../../var/up", "cat /var/up/leaf", "leaf"},
	} {
		h.ok("cp", dir+tt.source, "web:"+tt.target)
		if got := in(tt.check); got != tt.want {
			t.Errorf("%s to %s: %q, want %q", tt.source, tt.target, got, tt.want)
		}
	}
	for _, tt := range []struct{ from, to, want string }{
		{dir + "/file", "web:/var/nowhere/x", "there is no directory /var/nowhere"},
		{dir + "/file", "web:/var/missing/", "there is no such directory"},
		{dir + "/tree", "web:/var/d/file", "which no directory replaces"},
		{dir + "/file", "web:/var/d/sub/../tree/leaf/x", "not a directory"},
		{"web:/var/fifo", dir, "it is a FIFO, which is not copied"},
		{"web:/var/nothing", dir, "no such file"},
		{"web:/proc/meminfo", dir, "the kernel makes these files up"},
		{dir + "/nothing", "web:/var", "no such file"},
	} {
		if c := h.stead("cp", tt.from, tt.to); c.code != 1 || !strings.Contains(c.err, tt.want) {
			t.Errorf("%s to %s: %+v, want %q", tt.from, tt.to, c, tt.want)
		}
	}
	for _, both := range []string{"web:/var", dir + "/file"} {
		if c := h.stead("cp", both, both); c.code != exitUsage || !strings.Contains(c.err, "want one side in a container") {
			t.Errorf("%s to itself: %+v", both, c)
		}
	}
	c := h.stead("cp", "web:/var", dir+"/var")
	if _, err := os.Lstat(dir + "/var/fifo"); c.code != 0 || err == nil || !strings.Contains(c.err, "var/fifo: not copied: it is a FIFO") {
		t.Errorf("%+v %v", c, err)
	}
	stream := h.ok("cp", "web:/var/d/tree", "-")
	names := ""
	for r := tar.NewReader(strings.NewReader(stream)); ; {
		e, err := r.Next()
		if err != nil {
			break
		}
		names += e.Name + " "
	}
	if names != "tree/ tree/leaf " {
		t.Errorf("names in the stream: %s", names)
	}
	tarred, err := exec.Command("tar", "-C", dir, "-c", "tree", "file").Output()
	if err != nil {
		t.Fatal(err)
	}
	if c := h.steadWith(string(tarred), "cp", "-", "web:/volume"); c.code != 0 {
		t.Errorf("%+v", c)
	}
	if got := in("cat /volume/tree/leaf /volume/file"); got != "leaf\nnew" {
		t.Errorf("from a tar: %q", got)
	}
	if c := h.steadWith(string(tarred[:len(tarred)/3]), "cp", "-", "web:/volume"); c.code != 1 {
		t.Errorf("a tar that is cut off: %+v", c)
	}
	if left := in("find / -xdev -name '*.stead-cp~'; find /volume -name '*.stead-cp~'"); left != "" {
		t.Errorf("left: %s", left)
	}
}

// What a container makes of its files never leads a copy out of its root, gives it nothing of the
// host, and is not loaded by the program that copies.
func TestCopyHostile(t *testing.T) {
	h := newHost(t)
	secret := h.dir + "/secret" // of the host; the container knows its path
	if err := os.Mkdir(secret, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, secret+"/file", "host")
	h.imageRoot("tiny")
	h.ok("image", "import", "tiny", h.dir+"/roots/tiny")
	// CVE-2018-15664: the directory becomes a link while it is looked up.
	swap := fmt.Sprintf(`mkdir -p /real %[1]s; echo mine > /real/file; echo mine > %[1]s/file
		for f in /etc/localtime /etc/nsswitch.conf /etc/resolv.conf /lib/libnss_files.so.2 /usr/lib/locale; do rm -f $f; mkfifo $f; done 2>/dev/null
		ln -s /proc/1/root%[1]s /magic; ln -s ../../../../../..%[1]s /up; cp /bin/sh /set && chmod 4755 /set; echo ready
		while :; do mv -T /real /swap; mv -T /swap /kept; ln -s %[1]s /swap; rm /swap; mv -T /kept /swap; mv -T /swap /real; done`, secret)
	for _, rootfs := range []string{"{host: {}}", "{image: tiny}"} {
		if strings.Contains(rootfs, "tiny") {
			for _, program := range []string{"mkdir", "rm", "mkfifo", "ln", "mv", "cp", "chmod"} {
				path, err := exec.LookPath(program)
				if err != nil {
					t.Fatal(err)
				}
				h.copyWithLibraries(path, h.dir+"/roots/tiny", "/bin/"+program)
			}
			h.ok("image", "import", "tiny", h.dir+"/roots/tiny")
		}
		h.write("evil.yaml", h.copying("evil", rootfs, swap))
		h.ok("apply", "--confirm-removal=all")
		h.untilLogged("evil", "ready")
		before := describeTree(t, secret)
		dir := t.TempDir()
		writeFile(t, dir+"/file", "copied")
		copied := 0
		for i := range 5 {
			to := fmt.Sprint(dir, "/out", i)
			if c := h.stead("cp", "evil:/swap/file", to); c.code == 0 {
				copied++
				if b, err := os.ReadFile(to); err != nil || strings.Contains(string(b), "host") {
					t.Fatalf("a file of the host: %q %v", b, err)
				}
			}
			h.stead("cp", dir+"/file", "evil:/swap/file"+fmt.Sprint(i%2))
		}
		t.Logf("%s: %d of 5 copies met the directory", rootfs, copied)
		if c := h.stead("cp", "evil:/magic", dir); c.code != 1 {
			t.Errorf("through /proc/1/root: %+v", c)
		}
		h.ok("cp", "evil:/up/file", dir+"/up")
		if b, _ := os.ReadFile(dir + "/up"); string(b) != "mine\n" {
			t.Errorf("through ..: %q", b)
		}
		h.ok("cp", dir+"/file", "evil:/up/written")
		c := h.stead("cp", "evil:/set", dir+"/set")
		if st, err := os.Stat(dir + "/set"); err != nil || st.Mode()&fs.ModeSetuid != 0 || !strings.Contains(c.err, "set-user-ID") {
			t.Errorf("a set-user-ID program of the container: %v %v %+v", st.Mode(), err, c)
		}
		if after := describeTree(t, secret); after != before {
			t.Errorf("changed on the host:\n%s\nwas\n%s", after, before)
		}
	}
}

// The process that copies has the root and the ids of the container and no rights on the host, and
// ends with the command.
func TestCopyIsConfined(t *testing.T) {
	h := newHost(t)
	h.write("web.yaml", h.copying("web", "{host: {}}", "while :; do sleep 1; done"))
	h.ok("apply")
	pid := h.views()[0].Pid
	r, w := io.Pipe()
	cmd := h.command("cp", "-", "web:/volume")
	cmd.Stdin, cmd.Stderr = r, &h.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { w.Close(); cmd.Wait() }()
	out := tar.NewWriter(w)
	if err := out.WriteHeader(&tar.Header{Name: "file", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write(make([]byte, 300<<10)); err != nil {
		t.Fatal(err)
	}
	child := ""
	for end := time.Now().Add(roottest.Patience); child == "" && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", cmd.Process.Pid))
		all := ""
		for _, file := range threads {
			b, _ := os.ReadFile(file)
			all += string(b)
		}
		for c := range strings.FieldsSeq(all) {
			if line, _ := os.ReadFile("/proc/" + c + "/cmdline"); bytes.HasPrefix(line, []byte("stead-job")) {
				child = "/proc/" + c
			}
		}
	}
	tmp := h.dir + "/state/volumes/web/.file.stead-cp~"
	for end := time.Now().Add(roottest.Patience); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(tmp); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("nothing is written: %s", h.log.String())
		}
	}
	ids, _ := os.ReadFile(child + "/uid_map")
	its, _ := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", pid))
	var a, b unix.Stat_t
	err := unix.Stat(child+"/root", &a)
	if err == nil {
		err = unix.Stat(fmt.Sprintf("/proc/%d/root", pid), &b)
	}
	if err != nil || a.Ino != b.Ino || a.Dev != b.Dev || string(ids) != string(its) || len(ids) == 0 {
		t.Errorf("%s: root %d:%d, that of the container %d:%d; ids %s, %s (%v)", child, a.Dev, a.Ino, b.Dev, b.Ino, ids, its, err)
	}
	if seen := h.ok("exec", "web", "sh", "-c", "cat /proc/*/comm"); strings.Contains(seen, "stead-job") {
		t.Errorf("the container sees it: %s", seen)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(roottest.Patience); ; time.Sleep(5 * time.Millisecond) {
		_, err := os.Stat(child)
		_, left := os.Stat(tmp)
		if err != nil && left != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%s goes on: %v; %s is there: %v", child, err, tmp, left)
		}
	}
}
