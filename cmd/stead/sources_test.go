package main

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"stead/reconcile/view"
)

// Drop-ins, and manifests that are not to be trusted, through the daemon and the
// verbs: what ps, validate and the log say, and that the process stays the same.
func TestSources(t *testing.T) {
	h := newHost(t)
	h.write("web.yaml", manifest("web", ""))
	h.startDaemon()
	web := h.until("web", "running", well)
	dropIn := h.manifests + "/web.container.d/10-memory.yaml"
	if err := os.Mkdir(h.manifests+"/web.container.d", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(h.manifests + "/web.container.d") })

	t.Run("a drop-in changes a limit in place", func(t *testing.T) {
		h.within(t)
		writeFile(t, dropIn, "spec: {resources: {memory: 64Mi}}\n")
		h.ok("apply")
		if got := h.limit(t, "web"); got != 64<<20 {
			t.Errorf("the cgroup says %d", got)
		}
	})
	wrong := func(what, text string, breakIt, mendIt func() error) {
		t.Run(what, func(t *testing.T) {
			h.within(t)
			if err := breakIt(); err != nil {
				t.Fatal(err)
			}
			v := h.until("web", "in error", func(v view.Container) bool { return v.Sync == view.SyncError })
			if v.Pid != web.Pid || v.State != view.Running || v.Message != text {
				t.Errorf("got %+v, want %q", v, text)
			}
			if c := h.stead("validate"); c.code != exitInvalid || !strings.HasPrefix(c.err, text+"\n") {
				t.Errorf("validate: %+v", c)
			}
			if c := h.stead("apply"); c.code != exitInvalid {
				t.Errorf("apply: %+v", c)
			}
			if err := mendIt(); err != nil {
				t.Fatal(err)
			}
			if v := h.until("web", "well", well); v.Pid != web.Pid {
				t.Errorf("another process: %+v", v)
			}
		})
	}
	wrong("a broken drop-in", dropIn+`:1:28: spec.resources.memory: found "64M": "M" means different things in different tools; write 64Mi (1024-based)`,
		func() error { return os.WriteFile(dropIn, []byte("spec: {resources: {memory: 64M}}\n"), 0o644) },
		func() error { return os.WriteFile(dropIn, []byte("spec: {resources: {memory: 64Mi}}\n"), 0o644) })
	for _, path := range []string{dropIn, h.manifests + "/web.yaml"} {
		wrong("everybody can write "+path[len(h.dir):], path+": "+path+" can be written by others than its owner (mode 0666): chmod go-w "+path,
			func() error { return os.Chmod(path, 0o666) }, func() error { return os.Chmod(path, 0o644) })
	}
	wrong("the folder belongs to somebody else", h.manifests+"/web.container.d: "+h.manifests+"/web.container.d belongs to daemon, who is not trusted: chown root "+h.manifests+"/web.container.d, or add the owner to trustedOwners",
		func() error { return os.Chown(h.manifests+"/web.container.d", 1, 1) }, func() error { return os.Chown(h.manifests+"/web.container.d", 0, 0) })
	log := h.endDaemon(syscall.SIGTERM)
	for _, want := range []string{"means different things", "can be written by others", "who is not trusted"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say %q", want)
		}
	}
}
