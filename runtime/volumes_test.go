package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stead/runtime/launch"
	"stead/runtime/roottest"
	"stead/runtime/status"
	"stead/runtime/volume"

	"golang.org/x/sys/unix"
)

const lookAtData = `stat -c '%n %a %u:%g' /data /data/*; cat /data/* 2>/dev/null; getfattr --only-values -n user.x /data/f 2>/dev/null; echo; echo more >>/data/more && echo writes; true`

// A volume begins with what the root has at its place, stays when its containers go, and stays
// as it is whatever later mounts say of it.
func TestVolumes(t *testing.T) {
	w := newWorld(t)
	volumes := Volumes(w.o.StateDir)
	w.create("seed", script("sleep 1000")+"\nsuspend: true")
	w.must(os.MkdirAll(w.dir("seed"), 0o700))
	dir := roottest.TempDir(t, "/var/tmp")
	for _, d := range []string{"usr", "data", "etc", "proc", "sys", "dev", "tmp", "run"} {
		w.must(os.MkdirAll(dir+"/root/"+d, 0o755))
	}
	w.must(os.Chmod(dir, 0o700))
	for _, l := range []string{"bin", "lib", "lib64"} {
		w.must(os.Symlink("usr/"+l, dir+"/root/"+l))
	}
	w.must(os.WriteFile(dir+"/root/data/f", []byte("seeded\n"), 0o640))
	w.must(os.Symlink("/etc/passwd", dir+"/root/data/link"))
	w.must(os.Chown(dir+"/root/data/f", 7, 8))
	w.must(unix.Setxattr(dir+"/root/data/f", "user.x", []byte("attribute"), 0))
	w.must(os.Chown(dir+"/root/data", 5, 6))
	w.must(os.Chmod(dir+"/root/data", 0o775))
	body := func(more string) string {
		return script(lookAtData) + "\nrootfs: {path: " + dir + "/root}\nmounts: {/usr: {source: /usr, readOnly: true}, /data: {volume: app" + more + "}}"
	}
	const seeded = "/data 775 5:6\n/data/f 640 7:8\n/data/link 777 0:0\nseeded\n"
	if got := w.run(body("")); !strings.HasPrefix(got, seeded) || !strings.HasSuffix(got, "\nwrites\n") {
		t.Errorf("first: got\n%s", got)
	}
	var buf [64]byte
	if n, err := unix.Getxattr(volumes.Path("app")+"/f", "user.x", buf[:]); err != nil || string(buf[:n]) != "attribute" {
		t.Errorf("its attribute is %q, %v", buf[:max(n, 0)], err)
	}
	w.must(os.WriteFile(dir+"/root/data/later", nil, 0o644))
	if got := w.run(body(`, owner: '65534', mode: "0700"`)); !strings.HasPrefix(got, "/data 775 5:6\n/data/f 640 7:8\n/data/link 777 0:0\n/data/more 644 0:0\n") {
		t.Errorf("second: got\n%s", got)
	}
	if got := w.run(body(", readOnly: true")); strings.Contains(got, "writes") {
		t.Errorf("read-only: got\n%s", got)
	}
	for _, row := range []struct{ summary, body, want string }{
		{"of its own owner and mode", script(`stat -c '%a %u:%g' /data`) + "\nmounts: {/data: {volume: own, owner: 'nobody:9', mode: '1770'}}", "1770 65534:9\n"},
		{"with nothing to begin with", script(`stat -c '%a %u:%g' /data`) + "\nuser: nobody\nmounts: {/data: {volume: new}}", "755 65534:65534\n"},
		{"a host root's own /var", script(`stat -c '%a %u:%g' /var/tmp`) + "\nmounts: {/var/tmp: {volume: tmp}}", "1777 0:0\n"},
		{"of a host root's /usr", script(`test -e /usr/share/doc/hello || ls -d /usr/bin/env`) + "\nmounts: {/usr/share/misc: {volume: local}}", "/usr/bin/env\n"},
	} {
		if got := w.run(row.body); got != row.want {
			t.Errorf("%s: got %q, want %q", row.summary, got, row.want)
		}
	}
	if names, err := volumes.List(); err != nil || strings.Join(names, " ") != "app local new own tmp" {
		t.Errorf("listed: %q %v", names, err)
	}
	if size, err := volumes.Size(ctx, "app"); err != nil || size < 4096 || size > 1<<20 {
		t.Errorf("size %d, %v", size, err)
	}
}

// A volume never begins with what lies outside of /usr on the host, where a link in /usr leads to:
// the private keys of /etc/ssl, on Debian.
func TestVolumesBeginInsideUsr(t *testing.T) {
	roottest.Need(t)
	const target = "/usr/lib/ssl/private"
	if at, err := filepath.EvalSymlinks(target); err != nil || strings.HasPrefix(at, "/usr/") {
		t.Skipf("%s leads to %q on this host, %v", target, at, err)
	}
	m := parse(t, "web", script("true"))
	dir := t.TempDir()
	found, err := (&Runtime{}).seedFromRoot(t.Context(), m, &launch.Config{}, nil, target, dir)
	if found || err != nil {
		entries, _ := os.ReadDir(dir)
		t.Errorf("copied from outside: %v, %v, %v", found, err, entries)
	}
}

// A volume that is no directory of its own is refused; what an interrupted start left of a new
// one is made again; a bind can't reach into a volume.
func TestVolumesRefused(t *testing.T) {
	w := newWorld(t)
	volumes := Volumes(w.o.StateDir)
	w.must(os.MkdirAll(volumes.Path(".new-half")+"/x", 0o700))
	w.must(os.WriteFile(volumes.Path("file"), nil, 0o600))
	w.must(os.Symlink("/etc", volumes.Path("link")))
	mount := func(name string) string { return script("ls -A /data") + "\nmounts: {/data: {volume: " + name + "}}" }
	for name, want := range map[string]string{"link": "found a symbolic link at ", "file": "found a file at "} {
		if got := w.refused("web", mount(name)); !strings.Contains(got, "volume "+name+": "+want+volumes.Path(name)+", want a directory") {
			t.Errorf("%s: got %q", name, got)
		}
	}
	if got := w.run(mount("half")); got != "" {
		t.Errorf("of half a volume: got %q", got)
	}
	w.must(os.MkdirAll(volumes.Path(".deleting-gone")+"/x", 0o700))
	w.reopen()
	if _, err := os.Stat(volumes.Path(".deleting-gone")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was being deleted: %v", err)
	}
	if got := w.refused("bind", script("true")+"\nmounts: {/data: {source: "+volumes.Path("half")+"}}"); !strings.Contains(got, "it lies in the state directory") {
		t.Errorf("a bind of a volume: %q", got)
	}
	w.write(volumes.Path("half")+"/x", "", 0)
	if got := w.refused("file", script("true")+"\nfiles: {/a: {source: "+volumes.Path("half")+"/x}}"); !strings.Contains(got, "a container can write to ") {
		t.Errorf("a file from a volume: %q", got)
	}
}

// One container writes a volume at a time, whoever starts it, and it can't be deleted meanwhile.
func TestVolumeWriters(t *testing.T) {
	w := newWorld(t)
	mount := func(more string) string { return script(forever) + "\nmounts: {/data: {volume: app" + more + "}}" }
	w.create("a", mount(""))
	for more, want := range map[string]string{
		"":                 "volume app is written by a; several containers may write it if all of them mount it with shared: true",
		", shared: true":   "volume app is written by a; several containers may write it if all of them mount it with shared: true",
		", readOnly: true": "",
	} {
		got := w.refused("b", mount(more))
		if !strings.HasSuffix(got, want) || (got == "") != (want == "") {
			t.Errorf("%q: got %q, want %q", more, got, want)
		}
	}
	_, err := w.Create(ctx, parse(t, "c", mount("")), origin)
	if s, _ := w.Get("c"); err == nil || s.Exit == nil || s.Exit.Reason != status.ReasonVolumeInUse {
		t.Errorf("got %v, %+v", err, s.Exit)
	}
	w.must(w.Stop(ctx, "a", status.StopOptions{}))
	w.must(w.Start(ctx, "c", status.StartOptions{}))
	if err := w.Start(ctx, "a", status.StartOptions{}); err == nil || !strings.Contains(err.Error(), "is written by c") {
		t.Errorf("started again: %v", err)
	}
	if err := RemoveVolume(ctx, w.o.StateDir, "app"); err == nil || err.Error() != "remove volume app: used by a, c" {
		t.Errorf("removed in use: %v", err)
	}
	w.must(w.Remove(ctx, "a"))
	w.must(w.Remove(ctx, "c"))
	w.must(RemoveVolume(ctx, w.o.StateDir, "app"))
	if err := RemoveVolume(ctx, w.o.StateDir, "app"); !errors.Is(err, volume.ErrMissing) {
		t.Errorf("removed twice: %v", err)
	}
}
