package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stead/runtime/launch"
	"stead/runtime/status"
)

// A manifest that can't start takes nothing down that runs.
func TestRestartThatCannotStart(t *testing.T) {
	w := newWorld(t)
	before := w.create("web", script(forever))
	w.awaitOutput("web", "up")
	for _, tt := range []struct{ summary, body, want string }{
		{"command", "command: [/bin/nope]", "execute /bin/nope: no such file or directory"},
		{"command without a slash", "command: [nope]", "execute nope: no such file or directory"},
		{"not executable", "command: [/etc/passwd]", "execute /etc/passwd: permission denied"},
		{"root", "command: [sh]\nrootfs: {path: /nonexistent}", "rootfs.path /nonexistent: no such file or directory"},
		{"user", "command: [sh]\nuser: nosuchuser", "user nosuchuser is not in the root's /etc/passwd"},
		{"source", "command: [sh]\nmounts: {/data: {source: /nonexistent}}", "open mount source /nonexistent: no such file or directory"},
		{"device", "command: [sh]\nsecurity: {devices: [/dev/nonsuch]}", "security.devices /dev/nonsuch: no such file or directory"},
	} {
		err := w.Restart(ctx, parse(t, "web", tt.body), origin, false)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.summary, err, tt.want)
		}
		if s, _ := w.Get("web"); s.State != status.Running || s.Pid != before.Pid || s.Applied.Spec.Command[0] != "sh" {
			t.Errorf("%s: %+v", tt.summary, s)
		}
	}
	if err := w.Restart(ctx, parse(t, "web", script(forever)+"\nenv: {A: b}"), origin, false); err != nil {
		t.Error(err)
	}
	if s, _ := w.Get("web"); s.State != status.Running || s.Pid == before.Pid {
		t.Errorf("%+v", s)
	}
}

// The command is found as the container would find it: through links, in mounts.
func TestCheckCommand(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"root/usr", "root/opt/real", "root/bare", "host/bin", "tool"} {
		os.MkdirAll(filepath.Join(dir, d), 0o755)
	}
	for _, f := range []string{"root/opt/real/run", "host/bin/sh", "tool/x"} {
		os.WriteFile(filepath.Join(dir, f), nil, 0o755)
	}
	os.WriteFile(filepath.Join(dir, "root/bare/data"), nil, 0o644)
	for link, target := range map[string]string{"bin": "usr/bin", "opt/link": "/opt/real", "out": "/../../../bin", "loop": "loop", "abs": "/usr/bin/sh"} {
		os.Symlink(target, filepath.Join(dir, "root", link))
	}
	v := view{root: dir + "/root", mounts: map[string]string{"/usr": dir + "/host", "/tool": dir + "/tool", "/mem": "", "/one": dir + "/tool/x"}}
	for path, want := range map[string]string{
		"/usr/bin/sh": "", "/bin/sh": "", "/abs": "", "/opt/link/run": "", "/tool/x": "", "/one": "", "/mem/anything": "",
		"/tool/y": "no such file", "/opt/run": "no such file", "/loop": "no such file", "/bare/data": "permission denied",
		"/out/sh": "", // .. ends at the root: it is /bin/sh of the container
		"/out/ls": "no such file",
	} {
		err := v.checkCommand(launch.Process{Argv: []string{path}, Paths: []string{path}, WorkingDir: "/"})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
}
