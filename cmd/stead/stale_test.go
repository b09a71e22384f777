package main

import (
	"os"
	"strings"
	"testing"

	"stead/reconcile/view"
)

// A source that the host replaced or deleted under a running container is shown, and not acted
// upon; a restart takes what is there.
func TestReplacedSources(t *testing.T) {
	h := newHost(t)
	root := h.busyRoot()
	for _, dir := range []string{"/dir", "/gone"} {
		if err := os.Mkdir(h.dir+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, h.dir+"/file", "old")
	mounts := "  mounts: {/d: {source: " + h.dir + "/dir}, /g: {source: " + h.dir + "/gone}, /f: {source: " + h.dir + "/file, readOnly: true}}\n"
	h.write("binds.yaml", manifest("binds", mounts))
	h.write("root.yaml", strings.Replace(manifest("root", ""), "host: {}", "path: "+root, 1))
	h.startDaemon()
	binds, own := h.until("binds", "running", running), h.until("root", "running", running)
	h.ok("reload")
	if c := h.stead("status"); c.code != 0 || strings.Contains(c.out, "note") {
		t.Errorf("before: %+v", c)
	}

	writeFile(t, h.dir+"/file~", "new")
	for _, err := range []error{os.Rename(h.dir+"/file~", h.dir+"/file"), os.Rename(h.dir+"/dir", h.dir+"/dir.old"), os.Mkdir(h.dir+"/dir", 0o755), os.Remove(h.dir + "/gone"), os.Rename(root, root+".old")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	h.ok("reload")
	replaced := func(v view.Container) bool { return v.Reason == view.ReasonSourceReplaced }
	b, r := h.until("binds", "shown", replaced), h.until("root", "shown", replaced)
	if b.Why != "mount /d has a source that was replaced on the host, mount /f has a source that was replaced on the host, mount /g has a source that was deleted on the host; stead restart binds takes what is there now" || b.Pid != binds.Pid || b.Sync != view.Synced {
		t.Errorf("%+v", b)
	}
	if r.Why != "root "+root+" was deleted on the host; stead restart root takes what is there now" || r.Pid != own.Pid {
		t.Errorf("%+v", r)
	}
	if c := h.stead("status"); c.code != 0 || !strings.Contains(c.out, "binds: "+b.Why) {
		t.Errorf("status: %+v", c)
	}
	if err := os.Mkdir(h.dir+"/gone", 0o755); err != nil {
		t.Fatal(err)
	}
	h.ok("restart", "binds")
	h.ok("reload")
	h.until("binds", "well", func(v view.Container) bool { return running(v) && v.Reason == "" })
}
