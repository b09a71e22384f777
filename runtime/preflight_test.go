package runtime

import (
	"path/filepath"
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

// A check whether a container can start on a host root looks at a host root, and leaves the
// private files that it has on another root alone.
func TestPreflightOfHostRoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.image("shop", map[string]string{"srv/site": "v1\n"})
	w.createOn("web", "shop", forImage)
	w.awaitText(w.dir("web")+"/root/srv/private", "mine")
	passwd := w.read(w.dir("web") + "/root/etc/passwd")
	for _, tt := range []struct{ summary, body, want string }{
		{"command", "command: [/bin/nope]", "execute /bin/nope: no such file or directory"},
		{"a user of the image", "command: [sh]\nuser: app", "user app is not in the root's /etc/passwd"},
	} {
		if err := w.Restart(ctx, parse(t, "web", tt.body), origin, false); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.summary, err, tt.want)
		}
	}
	if now := w.read(w.dir("web") + "/root/etc/passwd"); now != passwd {
		t.Errorf("the container on the image has the passwd %q", now)
	}
	if own, _ := filepath.Glob(w.dir("web") + "/upper/etc/*"); len(own) != 2 { // two targets of mounts
		t.Errorf("its private files: %q", own)
	}
	w.must(w.Restart(ctx, parse(t, "web", script(forever)+"\nuser: nobody"), origin, false))
	w.awaitOutput("web", "up")
	if err := w.restartOn("web", "shop", forImage+"\nuser: app"); err != nil {
		t.Errorf("back to the image, with a user that only it has: %v", err)
	}
}
