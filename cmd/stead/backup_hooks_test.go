package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Hooks run around a backup. One that fails or hangs is the reason of a failure, and the container goes on.
func TestBackupHooks(t *testing.T) {
	h := newHost(t)
	manifest := func(backup string) string {
		return manifestWith("web", "while :; do echo $$ >> /root/n; sleep 0.01; done", "  backup: {"+backup+"}\n")
	}
	h.write("web.yaml", manifest(""))
	h.startDaemon()
	web := h.until("web", "running", running)
	upper := h.dir + "/state/containers/web/upper"
	for i, row := range []struct{ summary, backup, want string }{
		{"both", "before: {exec: [sh, -c, 'echo here > /root/before']}, after: {exec: [sh, -c, 'rm /root/before; echo done > /root/after']}", ""},
		{"the first fails", "before: {exec: [sh, -c, 'exit 3']}, after: {exec: [sh, -c, 'echo done > /root/after']}", "web: backup.before: its command ended with exit code 3; see its log"},
		{"the first hangs", "before: {exec: [sleep, '1000'], timeout: 200ms}, after: {exec: [sh, -c, 'echo done > /root/after']}", "web: backup.before: sleep has not ended after 200ms, and was killed"},
		{"the first is no program", "before: {exec: [nonsuch]}, after: {exec: [sh, -c, 'echo done > /root/after']}", "web: backup.before: "},
		{"the last fails", "after: {exec: [sh, -c, 'echo done > /root/after; exit 4']}", "web: backup.after: its command ended with exit code 4; see its log"},
	} {
		t.Run(row.summary, func(t *testing.T) {
			h.within(t)
			os.Remove(upper + "/root/after")
			h.write("web.yaml", manifest(row.backup))
			h.ok("apply")
			file := h.dir + "/" + string(rune('a'+i)) + backupSuffix
			c := h.stead("backup", "web", "-o", file)
			if (c.code == 0) != (row.want == "") || !strings.Contains(c.err, row.want) {
				t.Errorf("%+v, want %q", c, row.want)
			}
			if _, err := os.Stat(file); (err == nil) != (row.want == "" || strings.HasPrefix(row.want, "web: backup.after")) {
				t.Errorf("the archive: %v", err)
			}
			h.awaitFile(upper+"/root/after", "done")
			h.goesOn(upper + "/root/n")
			if v := h.until("web", "running", running); v.Pid != web.Pid {
				t.Error("it was restarted")
			}
		})
	}
	other := hostOf(t)
	other.ok("restore", h.dir+"/a"+backupSuffix)
	if all, _ := filepath.Glob(other.dir + "/state/removed/web@*/upper/root/before"); len(all) != 1 {
		t.Errorf("what the hook wrote is not in the backup: %v", all)
	}
	if _, err := os.Stat(upper + "/root/before"); err == nil {
		t.Error("the hook after the backup has not run")
	}

	h.write("web.yaml", manifest(""))
	h.ok("apply")
	if out := h.ok("backup", "web", "-o", h.dir+"/frozen"+backupSuffix); !strings.Contains(out, "stood still for ") {
		t.Error(out)
	}
	h.write("web.yaml", manifest("freeze: false"))
	h.ok("apply")
	if out := h.ok("backup", "web", "-o", h.dir+"/loose"+backupSuffix); strings.Contains(out, "stood still") {
		t.Error(out)
	}
	h.ok("backup", "verify", h.dir+"/loose"+backupSuffix)
}

// Of ten backups three stay. A backup that fails deletes none, and an archive that is damaged does not
// count.
func TestBackupKeep(t *testing.T) {
	h := newHost(t)
	dir := h.dir + "/target"
	h.write("web.yaml", manifestWith("web", "exec sleep 1000000", "  backup: {keep: 3, target: \""+h.dir+"/${stead.name}/../target\"}\n"))
	if c := h.stead("validate"); c.code != exitInvalid || !strings.Contains(c.out+c.err, "spec.backup.target") {
		t.Errorf("a path that is not clean: %+v", c)
	}
	h.write("web.yaml", manifestWith("web", "exec sleep 1000000", "  backup: {keep: 3, target: "+dir+"}\n"))
	h.startDaemon()
	h.until("web", "running", running)
	if c := h.stead("backup", "web"); c.code != exitFailure || !strings.Contains(c.err, "backup.target "+dir+" is no directory") {
		t.Errorf("without the directory: %+v", c)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	h.write("other.yaml", manifestWith("other", "exec sleep 1000000", ""))
	h.until("other", "running", running)
	h.ok("backup", "other", "-o", dir)
	writeFile(t, dir+"/web-20990101T000000Z.tar.zst", "damaged")
	for range 10 {
		h.ok("backup", "web")
	}
	list := func() []string {
		all, _ := filepath.Glob(dir + "/web-2*.tar.zst")
		return all
	}
	was := list()
	if len(was) != 4 {
		t.Errorf("left: %v", was)
	}
	for _, file := range was[:3] {
		h.ok("backup", "verify", file)
	}
	if all, _ := filepath.Glob(dir + "/other-*"); len(all) != 1 {
		t.Error("the archive of another container is gone")
	}
	// one that fails deletes nothing
	h.write("web.yaml", manifestWith("web", "exec sleep 1000000", "  backup: {keep: 1, target: "+dir+", before: {exec: ['false']}}\n"))
	h.ok("apply")
	if c := h.stead("backup", "web"); c.code == 0 {
		t.Error(c)
	}
	if now := list(); strings.Join(now, " ") != strings.Join(was, " ") {
		t.Errorf("left: %v, before %v", now, was)
	}
}
