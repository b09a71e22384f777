//go:build fault

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"stead/runtime/fault"
)

// faulty runs a verb in which a point is reached, where the processes of victims die: "self" is the one
// that reaches it, and "verb" the verb.
func (h *testHost) faulty(point string, victims []string, args ...string) call {
	h.t.Helper()
	words := point
	for _, v := range victims {
		words += " " + strings.Replace(v, "verb", "$$", 1)
	}
	verb := h.command(args...)
	cmd := exec.Command("sh", append([]string{"-c", `rm -f "$0/fault.hit"; echo ` + words + ` > "$0/fault~"; mv "$0/fault~" "$0/fault"; exec "$@"`, h.run, verb.Path}, args...)...)
	cmd.Env = append(verb.Env, "STEAD_TEST_FAULT_DIR="+h.run)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	if e := cmd.Run(); cmd.ProcessState == nil {
		h.t.Fatal(e)
	}
	c := call{cmd.ProcessState.ExitCode(), out.String(), err.String()}
	if _, e := os.Stat(h.run + "/fault.hit"); e != nil {
		h.t.Fatalf("point %s was not reached: %+v", point, c)
	}
	return c
}

// Whoever dies at any step of a backup: the container goes on, no archive is there or a whole one, the
// verb says why, and the next backup works at once.
func TestBackupCrash(t *testing.T) {
	h := newHost(t)
	h.write("web.yaml", manifestWith("web", "i=0; while :; do i=$((i+1)); echo $i > /data/n; done", "  mounts: {/data: {volume: web, shared: true}}\n"))
	h.write("peer.yaml", manifestWith("peer", "i=0; while :; do i=$((i+1)); echo $i > /data/p; done", "  mounts: {/data: {volume: web, shared: true}}\n"))
	h.startDaemon()
	web, peer := h.until("web", "running", running), h.until("peer", "running", running)
	dir := h.dir + "/archives"
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	points := []string{"backup-live-copied", "backup-frozen", "backup-frozen-copied", "backup-thawed", "backup-written", "backup-verified", "backup-linked"}
	for _, point := range points {
		for _, who := range []string{"self", "verb", "self verb", "keeper", "daemon"} {
			t.Run(point+"/"+who, func(t *testing.T) {
				h.within(t)
				victims := strings.Fields(who)
				switch who {
				case "keeper":
					victims = []string{fmt.Sprint(h.keeperPid())}
				case "daemon":
					victims = []string{fmt.Sprint(h.daemon.Process.Pid)}
				}
				file := dir + "/" + strings.ReplaceAll(point+" "+who, " ", "-") + backupSuffix
				c := h.faulty(point, victims, "backup", "web", "-o", file)
				if who == "daemon" {
					_ = h.daemon.Wait()
					h.daemon = nil
					h.startDaemon()
				}
				if who == "self" && (c.code != exitFailure || !strings.Contains(c.err, "the job ended early (signal: killed)")) {
					t.Errorf("the verb: %+v", c)
				}
				if (who == "daemon" || who == "keeper" && !strings.HasPrefix(point, "backup-frozen") && point != "backup-thawed" && point != "backup-live-copied") && c.code != 0 {
					t.Errorf("the verb: %+v", c)
				}
				h.keeperPid() // another one is up
				for _, run := range []struct{ name, file string }{{"web", "n"}, {"peer", "p"}} {
					h.goesOn(h.dir + "/state/volumes/web/" + run.file)
					h.ok("exec", run.name, "true")
				}
				if a, b := h.until("web", "running", running), h.until("peer", "running", running); a.Pid != web.Pid || b.Pid != peer.Pid {
					t.Error("a container was started again")
				}
				_, err := os.Stat(file)
				h.archivesWhole(dir)
				if (err == nil) != (c.code == 0) && point != "backup-linked" && who != "verb" {
					t.Errorf("code %d, and the archive: %v", c.code, err)
				}
			})
		}
	}
	h.ok("backup", "web", "-o", dir)
	h.archivesWhole(dir)
}

// archivesWhole checks that a directory has whole archives and nothing else.
func (h *testHost) archivesWhole(dir string) {
	h.t.Helper()
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		h.ok("backup", "verify", filepath.Join(dir, f.Name()))
		os.Remove(filepath.Join(dir, f.Name()))
	}
}

// Whoever dies at any step of a restore: the data is the old or the new, of the root and of the volume
// together, nothing half-written is there, and the next restore works.
func TestRestoreCrash(t *testing.T) {
	for _, daemon := range []bool{true, false} {
		for _, replace := range []bool{true, false} {
			t.Run(fmt.Sprintf("daemon %v replace %v", daemon, replace), func(t *testing.T) { restoreCrash(t, daemon, replace) })
		}
	}
}

func restoreCrash(t *testing.T, daemon, replace bool) {
	h := newHost(t)
	text := manifestWith("web", "exec sleep 1000000", "  mounts: {/data: {volume: web}}\n")
	h.write("web.yaml", text)
	if daemon {
		h.startDaemon()
	}
	h.ok("apply")
	set := func(content string) {
		writeFile(t, h.dir+"/state/containers/web/upper/var/mark", content)
		writeFile(t, h.dir+"/state/volumes/web/mark", content)
	}
	set("archived")
	file := h.archiveOf("web")
	h.ok("stop", "web")
	args := []string{"restore", file}
	if replace {
		args = []string{"restore", "--replace", file}
	}
	gone := func() { // the container and its volume, so that a restore makes both
		os.Remove(h.manifests + "/web.yaml")
		h.ok("apply", "--confirm-removal=all")
		h.stead("wait", "--for=removed", "--timeout=60s", "web")
		h.stead("purge", "web")
		h.ok("volume", "remove", "web")
	}
	for _, point := range []string{"restore-verified", "restore-made", "restore-swapped-0", "restore-swapped-1", "restore-committed", "restore-old-kept"} {
		if !replace && (point == "restore-swapped-1" || point == "restore-old-kept") {
			continue // there is one swap
		}
		t.Run(point, func(t *testing.T) {
			h.within(t)
			if replace {
				set("before")
			} else {
				gone()
			}
			victims := []string{fault.Self}
			c := h.faulty(point, victims, args...)
			if daemon && point != "restore-verified" {
				_ = h.daemon.Wait()
				h.daemon = nil
				h.startDaemon()
			}
			if point == "restore-verified" && !strings.Contains(c.err, "the job ended early (signal: killed)") || c.code == 0 {
				t.Errorf("the verb: %+v", c)
			}
			h.ok("apply")
			read := func(pattern string) string {
				all, _ := filepath.Glob(h.dir + "/state/" + pattern)
				if len(all) == 0 {
					return ""
				}
				b, _ := os.ReadFile(all[0])
				return string(b)
			}
			root, volume := read("containers/web/upper/var/mark"), read("volumes/web/mark")
			if !replace {
				root = read("removed/web@*/upper/var/mark")
			}
			old := map[bool]string{true: "before", false: ""}[replace]
			if root != volume || root != old && root != "archived" {
				t.Errorf("the root has %q, the volume %q", root, volume)
			}
			if early := point != "restore-swapped-1" && point != "restore-committed" && point != "restore-old-kept"; early && root != old {
				t.Errorf("the root has %q, want that from before", root)
			} else if !early && root != "archived" {
				t.Errorf("the root has %q, want that of the archive", root)
			}
			for _, pattern := range []string{"state/restore/*", "state/volumes/.r*"} {
				if left, _ := filepath.Glob(h.dir + "/" + pattern); len(left) > 0 {
					t.Errorf("left over: %v", left)
				}
			}
			if replace && root == "archived" {
				kept := read("volumes/web.replaced-*/mark") + read("removed/web@*/upper/var/mark")
				if kept != "beforebefore" {
					t.Errorf("the data from before: %q", kept)
				}
			}
			if replace {
				h.ok("restore", "--replace", file)
				set("archived")
				for _, dir := range []string{"volumes/web.replaced-*", "removed/*"} {
					all, _ := filepath.Glob(h.dir + "/state/" + dir)
					for _, d := range all {
						os.RemoveAll(d)
					}
				}
				return
			}
			h.stead("purge", "web")
			h.stead("volume", "remove", "web")
			h.ok("restore", file)
			h.ok("apply")
			h.ok("stop", "web")
		})
	}
}
