package main

import (
	"os"
	"strings"
	"testing"

	"stead/reconcile/view"
	"stead/runtime/status"
)

// What only a start can tell is told in ps and in the log as soon as a manifest
// asks for it; what ran keeps running, and so do all others.
func TestBadStarts(t *testing.T) {
	h := newBadInput(t)
	// A root of its own, in which the host's programs run.
	own := func(name, more string) string {
		root := h.dir + "/" + name
		for _, dir := range []string{"", "/usr", "/mnt"} {
			if err := os.Mkdir(root+dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for link, to := range map[string]string{"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "out": "../../../../../../tmp"} {
			if err := os.Symlink(to, root+"/"+link); err != nil {
				t.Fatal(err)
			}
		}
		text := manifest(name, "  mounts:\n    /usr: {source: /usr, readOnly: true}\n"+more)
		return strings.Replace(text, "host: {}", "path: "+root, 1)
	}
	if err := os.Mkdir(h.dir+"/data", 0o755); err != nil {
		t.Fatal(err)
	}
	gone := h.dir + "/nonsuch"
	rows := []struct {
		summary, name, good string
		old, new            string // the edit
		reason, want        string
	}{
		{"a command that is not in the root", "command", manifest("command", ""), "[sh,", "[nonsuch,",
			status.ReasonCommandNotFound, "execute nonsuch: no such file or directory (the file or its interpreter does not exist in the container's root)"},
		{"a root that is not there", "root", own("root", ""), h.dir + "/root", gone,
			status.ReasonRootfsMissing, "rootfs.path " + gone + ": no such file or directory"},
		{"a user that does not exist", "user", manifest("user", "  user: nobody\n"), "user: nobody", "user: nonsuch",
			status.ReasonUserNotFound, "user nonsuch is not in the root's /etc/passwd"},
		{"a mount whose source is missing", "source", own("source", "    /mnt: {source: "+h.dir+"/data}\n"), h.dir + "/data", gone,
			status.ReasonMountSourceMissing, "open mount source " + gone + ": no such file or directory"},
		{"a mount target that leads out of the root", "target", own("target", "    /mnt: {source: "+h.dir+"/data}\n"), "/mnt:", "/out/mnt:",
			status.ReasonMountTarget, "mount at /out/mnt: invalid cross-device link (a symbolic link there leads out of the root"},
	}
	manifests := map[string]string{"bystander": manifest("bystander", "")}
	for _, row := range rows {
		manifests[row.name] = row.good
	}
	h.begin(manifests)
	for _, row := range rows {
		t.Run(row.summary, func(t *testing.T) {
			h.row(t)
			file, path := row.name+".yaml", h.manifests+"/"+row.name+".yaml"
			h.write(file, strings.Replace(row.good, row.old, row.new, 1))
			v := h.until(row.name, "refused", func(v view.Container) bool { return strings.Contains(v.Message, row.want) })
			if v.State != view.Running || v.Pid != h.before[row.name].Pid || v.Sync != view.SyncError {
				t.Errorf("it does not run on as process %d: %+v", h.before[row.name].Pid, v)
			}
			if c := h.stead("validate", path); c.code != 0 {
				t.Errorf("what only a start can tell is no error of a manifest: %+v", c)
			}
			h.othersRunOn(row.name)
			h.logged = append(h.logged, logLine{row.name, "start " + row.name + ": " + row.want})
			h.write(file, mended+row.good)
			h.mend(row.name)
			h.othersRunOn()
		})
	}
	if left, err := os.ReadDir(h.dir + "/data"); err != nil || len(left) != 0 {
		t.Errorf("data: %v, %v", left, err)
	}
	h.endAndReadLog()
}
