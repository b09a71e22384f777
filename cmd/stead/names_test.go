package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Names and addresses follow the manifest, in roots that have no files of their own for them.
func TestNamesFollowTheManifest(t *testing.T) {
	h := newHost(t)
	root := h.busyRoot()
	text := func(name, hostname string, own bool) string {
		s := manifest(name, "  hostname: "+hostname+"\n")
		if own {
			s = strings.Replace(s, "host: {}", "path: "+root, 1)
		}
		return s
	}
	show := func(name string) string {
		t.Helper()
		return h.ok("exec", name, "sh", "-c", "cat /etc/hostname /etc/hosts")
	}
	for _, hostname := range []string{"alpha", "beta.example.com"} {
		h.write("host.yaml", text("host", hostname, false))
		h.write("path.yaml", text("path", hostname, true))
		h.ok("apply")
		h.ok("wait", "host", "path")
		short, _, _ := strings.Cut(hostname, ".")
		for _, name := range []string{"host", "path"} {
			if got := show(name); !strings.HasPrefix(got, hostname+"\n") || !strings.Contains(got, "127.0.1.1\t"+hostname) || !strings.Contains(got, short+"\n") {
				t.Errorf("%s as %s: %q", name, hostname, got)
			}
		}
	}
	if b, err := os.ReadFile(root + "/etc/hosts"); err != nil || len(b) > 0 {
		t.Errorf("the root of a path has %q %v, want an empty file to mount over", b, err)
	}
	// A file of the root's own stays.
	writeFile(t, root+"/etc/hosts", "127.0.0.1 mine\n")
	h.ok("restart", "path")
	if got := show("path"); got != "beta.example.com\n127.0.0.1 mine\n" {
		t.Errorf("with a file of its own: %q", got)
	}
	// On the host's network the host's names are valid.
	h.write("path.yaml", strings.Replace(text("path", "beta", true), "mode: none", "mode: host", 1))
	os.Remove(root + "/etc/hosts")
	h.ok("apply")
	h.ok("wait", "path")
	host, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	if got := h.ok("exec", "path", "cat", "/etc/hosts"); !strings.HasPrefix(got, strings.TrimSpace(string(host))) {
		t.Errorf("on the host's network: %q", got)
	}
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err == nil {
		if got := h.ok("exec", "path", "cat", "/etc/resolv.conf"); got != string(resolv) {
			t.Errorf("resolv.conf: %q, want %q", got, resolv)
		}
	}
}

// busyRoot makes a root directory of a path: the host's programs by links into a bound /usr
// would not be its own, so it has a busybox-like copy of what sh needs.
func (h *testHost) busyRoot() string {
	h.t.Helper()
	root := h.dir + "/root"
	for _, dir := range []string{"bin", "etc", "dev", "proc", "sys", "usr", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			h.t.Fatal(err)
		}
	}
	for _, program := range []string{"sh", "cat", "sleep"} {
		h.copyProgram(program, root)
	}
	return root
}

// copyProgram copies a program and its libraries into a root.
func (h *testHost) copyProgram(name, root string) {
	h.t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		h.t.Skip(err)
	}
	out, err := exec.Command("ldd", path).Output()
	if err != nil {
		h.t.Skip("ldd: ", err)
	}
	copies := map[string]string{path: "/bin/" + name}
	for _, word := range strings.Fields(string(out)) {
		if strings.HasPrefix(word, "/") {
			copies[word] = word
		}
	}
	for from, to := range copies {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(root+to), 0o755)
		}
		if err == nil {
			err = os.WriteFile(root+to, b, 0o755)
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
}

// A host root takes over a system user that the host gets later.
func TestUserThatTheHostGetsLater(t *testing.T) {
	h := newHost(t)
	h.write("a.yaml", manifest("a", ""))
	h.ok("apply")
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, h.dir+"/passwd", string(passwd)+"stead-late:x:899:65534::/:/bin/sh\n")
	h.write("a.yaml", manifest("a", "  user: stead-late\n"))
	apply := h.command("apply")
	apply.Path, apply.Args = "/bin/sh", append([]string{"sh", "-c", `mount --bind "$0" /etc/passwd && exec "$@"`, h.dir + "/passwd"}, apply.Args...)
	apply.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS} // which makes all mounts private
	if out, err := apply.CombinedOutput(); err != nil {
		t.Fatalf("apply: %v\n%s", err, out)
	}
	h.ok("wait", "a")
	if got := h.ok("exec", "a", "id", "-un"); got != "stead-late\n" {
		t.Errorf("it runs as %q", got)
	}
}
