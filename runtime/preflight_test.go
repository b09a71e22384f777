package runtime

import (
	"strings"
	"testing"

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
		{"device", "command: [sh]\ndevices: {/dev/nonsuch: {}}", "devices[/dev/nonsuch]: no such file or directory"},
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
