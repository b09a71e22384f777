package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"stead/runtime/status"

	"golang.org/x/sys/unix"
)

// disk is a tmpfs on a directory of the test's own, as a disk of the host.
func (w *world) disk(at string, flags uintptr) {
	w.t.Helper()
	var u unix.Utsname
	w.must(unix.Uname(&u))
	var major, minor int
	if fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); major < 6 || major == 6 && minor < 3 {
		w.t.Skip("tmpfs, of which the test's disks are, can't map ids before Linux 6.3")
	}
	if err := os.MkdirAll(at, 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := unix.Mount("disk", at, "tmpfs", flags, "mode=755"); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
}

func (w *world) write(file, text string, uid int) {
	w.t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Chown(file, uid, uid); err != nil {
		w.t.Fatal(err)
	}
}

// run is what a container says before it ends.
func (w *world) run(body string) string {
	w.t.Helper()
	name := "run-" + nonce() // a name that returns has the output of before
	w.create(name, body+"\nrestart: {policy: never}")
	w.await(name, status.Exited)
	out := w.output(name)
	w.must(w.Remove(ctx, name))
	return out
}

// refused is why a container does not start.
func (w *world) refused(name, body string) string {
	w.t.Helper()
	_, err := w.Create(ctx, parse(w.t, name, body), origin)
	w.must(w.Remove(ctx, name))
	if err == nil {
		return ""
	}
	return err.Error()
}

// A bind brings what is mounted below it along, with ids mapped and read-only as it is
// itself, and root inside can take none of it away.
func TestRecursiveBinds(t *testing.T) {
	w := newWorld(t)
	source := filepath.Dir(w.o.StateDir) + "/source"
	w.disk(source, 0)
	w.disk(source+"/sub", 0)
	w.disk(source+"/sub/deep", 0)
	w.write(source+"/sub/deep/file", "deep\n", 1000)
	mount := func(more string) string { return "\nmounts: {/data: {source: " + source + more + "}}" }
	const look = `cat /data/sub/deep/file 2>/dev/null || echo none; stat -c %u /data/sub/deep/file 2>/dev/null; for d in . sub sub/deep; do mkdir /data/$d/new 2>/dev/null && rmdir /data/$d/new && echo "writes $d"; done; true`
	for _, row := range []struct{ summary, body, want string }{
		{"as it is", script(look) + mount(""), "deep\n1000\nwrites .\nwrites sub\nwrites sub/deep\n"},
		{"read-only", script(look) + mount(", readOnly: true"), "deep\n1000\n"},
		{"without them", script(look) + mount(", recursive: false"), "none\nwrites .\nwrites sub\n"},
		{"with the host's ids", script(look) + mount("") + "\nsecurity: {userns: host}", "deep\n1000\nwrites .\nwrites sub\nwrites sub/deep\n"},
		{"with a mount of the manifest's own in it", script(look+"; touch /data/sub/deep/own/x && echo own") + "\nmounts: {/data: {source: " + source + "}, /data/sub/deep/own: {tmpfs: {}}}", "deep\n1000\nwrites .\nwrites sub\nwrites sub/deep\nown\n"},
		{"read-only, with one that can be written", script(look+"; touch /data/own/x && echo own") + "\nmounts: {/data: {source: " + source + ", readOnly: true}, /data/own: {tmpfs: {}}}", "deep\n1000\nown\n"},
		{"root can undo nothing", script("umount /data/sub/deep /data/sub /data 2>/dev/null; mount -o remount,bind,rw /data/sub 2>/dev/null; "+look) + mount(", readOnly: true") +
			"\nsecurity: {seccomp: unconfined, capabilities: {add: [SYS_ADMIN]}}", "deep\n1000\n"},
	} {
		if got := w.run(row.body); got != row.want {
			t.Errorf("%s: %q, want %q", row.summary, got, row.want)
		}
	}

	// What the host takes away later is no damage.
	w.create("web", script(forever)+mount(", readOnly: true"))
	w.awaitOutput("web", "up")
	w.must(w.Check(ctx, true))
	w.must(unix.Unmount(source+"/sub/deep", 0))
	w.must(os.Remove(source + "/sub/deep"))
	w.must(w.Check(ctx, true))
	if s, _ := w.Get("web"); len(s.Lost) > 0 {
		t.Errorf("the host unmounted a disk and deleted its directory: %v", s.Lost)
	}
	w.must(w.Remove(ctx, "web"))

	w.must(os.Mkdir(source+"/sub/proc", 0o755))
	w.must(unix.Mount("proc", source+"/sub/proc", "proc", 0, ""))
	t.Cleanup(func() { unix.Unmount(source+"/sub/proc", unix.MNT_DETACH) })
	want := "map ids of " + source + "/sub/proc (proc), which is mounted below " + source + ": invalid argument (that file system can't map ids; write recursive: false to leave out what is mounted there, idmap: false, or security.userns: host)"
	if got := w.refused("web", script("true")+mount("")); !strings.Contains(got, want) {
		t.Errorf("a mount that can't be mapped: %s\nwant %s", got, want)
	}
	for _, way := range []string{mount(", recursive: false"), mount("") + "\nsecurity: {userns: host}", mount(", idmap: false")} {
		if got := w.refused("web", script("true")+way); got != "" {
			t.Errorf("%s: %s", way, got)
		}
	}
}

func TestMountFields(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Dir(w.o.StateDir)
	w.must(os.Chmod(dir, 0o755))
	mount := func(more string) string { return "\nmounts: {/data: {source: " + dir + "/made" + more + "}}" }
	const look = "stat -c %a:%u:%g /data"

	if got := w.refused("web", script("true")+mount("")); !strings.Contains(got, "open mount source "+dir+"/made: no such file or directory") {
		t.Errorf("a source that is not there: %s", got)
	}
	for _, row := range []struct{ summary, more, want string }{
		{"made", `, create: true, owner: "1000:1001", mode: "2750"`, "2750:1000:1001\n"},
		{"not made again", `, create: true, owner: root, mode: "0700"`, "2750:1000:1001\n"},
	} {
		if got := w.run(script(look) + mount(row.more)); got != row.want {
			t.Errorf("%s: %q, want %q", row.summary, got, row.want)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(dir+"/made", &st); err != nil || st.Uid != 1000 || st.Gid != 1001 {
		t.Errorf("on the host it belongs to %d:%d, %v; want the numbers inside", st.Uid, st.Gid, err)
	}
	w.must(os.Remove(dir + "/made"))
	if got := w.run(script(look) + mount(", create: true") + "\nuser: nobody"); got != "755:65534:65534\n" {
		t.Errorf("made for its user: %q", got)
	}
	if got := w.refused("web", script("true")+"\nmounts: {/data: {source: "+dir+"/no/where, create: true}}"); !strings.Contains(got, "make mount source "+dir+"/no/where: no such file or directory") {
		t.Errorf("without the directory above: %s", got)
	}
	if got := w.refused("web", script("true")+mount(", create: true, owner: nosuchuser")); !strings.Contains(got, "mounts[/data].owner: user nosuchuser is not in the root's /etc/passwd") {
		t.Errorf("an owner that there is not: %s", got)
	}

	if got := w.refused("web", script("true")+mount(", mountPoint: true")); !strings.Contains(got, "check mount source "+dir+"/made: no such device or address (nothing is mounted there, but the mount says mountPoint: true)") {
		t.Errorf("no mount point: %s", got)
	}
	w.disk(dir+"/made", 0)
	if got := w.refused("web", script("true")+mount(", mountPoint: true")); got != "" {
		t.Errorf("a mount point: %s", got)
	}

	// Without mapped ids root inside is nobody special there.
	w.write(dir+"/made/public", "public\n", 0)
	w.write(dir+"/made/secret", "secret\n", 0)
	w.must(os.Chmod(dir+"/made/public", 0o644))
	w.must(os.Chmod(dir+"/made/secret", 0o600))
	if got := w.run(script("cat /data/public; cat /data/secret 2>/dev/null; touch /data/x 2>/dev/null; stat -c %u /data/public; true") + mount(", idmap: false")); got != "public\n65534\n" {
		t.Errorf("idmap: false: %q", got)
	}

	got := w.run(script("stat -c %a:%u:%g /a /b /dev/shm; df -B1 --output=size /dev/shm | tail -1 | tr -d ' '") + "\nmounts: {/a: {tmpfs: {}}, /b: {tmpfs: {size: 1Mi}, owner: \"nobody:5\", mode: \"0750\"}, /dev/shm: {tmpfs: {size: 3Mi}}}")
	if want := "1777:0:0\n750:65534:5\n1777:0:0\n3145728\n"; got != want {
		t.Errorf("tmpfs: %q, want %q", got, want)
	}
}

// With propagation: slave a disk that the host mounts later shows inside, and goes again,
// and none of it is taken for damage. Nothing goes the other way.
func TestPropagation(t *testing.T) {
	w := newWorld(t)
	source := filepath.Dir(w.o.StateDir) + "/media"
	w.disk(source, 0)
	body := script("echo up; while ! cat /media/usb/file 2>/dev/null; do sleep 0.02; done; while cat /media/usb/file >/dev/null 2>&1; do sleep 0.02; done; echo gone; "+forever) +
		"\nmounts: {/media: {source: " + source + ", propagation: slave}}\nsecurity: {userns: host}"
	w.must(unix.Mount("", source, "", unix.MS_PRIVATE, ""))
	if got := w.refused("web", body); !strings.Contains(got, "receive mounts below "+source+": invalid argument (its mount has private propagation; run mount --make-shared on the host") {
		t.Fatalf("from a private mount: %s", got)
	}
	w.must(unix.Mount("", source, "", unix.MS_SHARED, ""))
	s := w.create("web", body)
	w.awaitOutput("web", "up")
	w.disk(source+"/usb", 0)
	w.write(source+"/usb/file", "usb\n", 0)
	w.awaitOutput("web", "usb")
	w.must(w.Check(ctx, true))
	w.inside(s.Pid, func() error {
		if err := os.Mkdir("/media/own", 0o755); err != nil {
			return err
		}
		return unix.Mount("own", "/media/own", "tmpfs", 0, "")
	})
	if b, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(b), source+"/own") {
		t.Error("a mount inside shows on the host")
	}
	w.must(unix.Unmount(source+"/usb", unix.MNT_DETACH)) // it may be looking into it just now
	w.awaitOutput("web", "gone")
	w.must(w.Check(ctx, true))
	if s, _ := w.Get("web"); len(s.Lost) > 0 {
		t.Errorf("what came and went is lost: %v", s.Lost)
	}
}

func TestSysctls(t *testing.T) {
	w := newWorld(t)
	files := map[string]string{"net/ipv4/ip_default_ttl": "33", "kernel/shmmni": "111", "kernel/sem": "100 200 30 40", "fs/mqueue/msg_max": "7"}
	before := map[string]string{}
	body, look := "\nsysctls: {", ""
	for file, value := range files {
		b, err := os.ReadFile("/proc/sys/" + file)
		if err != nil {
			t.Fatal(err)
		}
		before[file] = string(b)
		body += strings.ReplaceAll(file, "/", ".") + ": " + value + ", "
		look += "echo " + file + " $(cat /proc/sys/" + file + "); "
	}
	for _, userns := range []string{"auto", "host"} {
		got := w.run(script(look+"echo 5 > /proc/sys/net/ipv4/ip_default_ttl || echo read-only") + body + "}\nsecurity: {userns: " + userns + "}")
		for file, value := range files {
			if !strings.Contains(got, file+" "+value+"\n") {
				t.Errorf("userns %s: %q, want %s %s", userns, got, file, value)
			}
		}
		if !strings.Contains(got, "read-only") {
			t.Errorf("userns %s: root inside could set one itself: %q", userns, got)
		}
	}
	for file := range files {
		if b, _ := os.ReadFile("/proc/sys/" + file); string(b) != before[file] {
			t.Errorf("the host's %s is %q now, was %q", file, b, before[file])
		}
	}
	for line, want := range map[string]string{
		"net.core.nosuch: 1":            "set sysctl net.core.nosuch to 1: no such file or directory (this kernel has no such sysctl for a single container)",
		"net.ipv4.ip_default_ttl: lots": "set sysctl net.ipv4.ip_default_ttl to lots: invalid argument (the kernel refuses this value)",
		"net.core.netdev_budget: 10":    "set sysctl net.core.netdev_budget to 10: no such file or directory",
	} {
		if got := w.refused("web", script("true")+"\nsysctls: {"+line+"}"); !strings.Contains(got, want) {
			t.Errorf("%s: %s\nwant %s", line, got, want)
		}
	}
	if got := w.refused("web", script("true")+"\nnetwork: {mode: host}\nsysctls: {kernel.shmmni: 99}"); got != "" {
		t.Errorf("one of IPC with the host's network: %s", got)
	}
}

// An agent sees the host's processes, gets signals as anywhere, and leaves none behind.
func TestHostPids(t *testing.T) {
	w := newWorld(t)
	self := os.Getpid()
	body := "\nsecurity: {userns: host, pid: host}"
	got := w.run(script("readlink /proc/self/ns/pid; test -d /proc/$HOST && echo sees; sleep 1000 & echo $!") + "\nenv: {HOST: " + strconv.Itoa(self) + "}" + body)
	own, _ := os.Readlink("/proc/self/ns/pid")
	lines := strings.Fields(got)
	if len(lines) != 3 || lines[0] != own || lines[1] != "sees" {
		t.Fatalf("%q, want the pid namespace %s", got, own)
	}
	if b, err := os.ReadFile("/proc/" + lines[2] + "/stat"); err == nil && !strings.Contains(string(b), ") Z ") { // or its new parent has not reaped it
		t.Errorf("it lives after the container's first process has ended: %s", b)
	}
	w.create("web", script("trap 'echo asked; exit 0' TERM; echo up; while true; do sleep 0.05; done")+body)
	w.awaitOutput("web", "up")
	if code, out, _, err := w.exec("web", "", ExecOptions{Argv: []string{"sh", "-c", "readlink /proc/self/ns/pid; ulimit -c"}}); err != nil || code != 0 || out != own+"\n0\n" {
		t.Errorf("exec: %d %q %v", code, out, err)
	}
	w.must(w.Stop(ctx, "web", status.StopOptions{}))
	if got := w.output("web"); !strings.Contains(got, "asked") {
		t.Errorf("it was not asked to end: %q", got)
	}
}

// Limits are the manifest's or stead's own, never what the keeper happens to have.
func TestUlimits(t *testing.T) {
	for r, soft := range map[int]uint64{unix.RLIMIT_CORE: 3 << 30, unix.RLIMIT_STACK: 3 << 30, unix.RLIMIT_DATA: 1 << 50} { // the race detector maps a lot
		var old unix.Rlimit
		w := unix.Getrlimit(r, &old)
		odd := unix.Rlimit{Cur: soft, Max: old.Max}
		if err := unix.Setrlimit(r, &odd); w != nil || err != nil {
			t.Fatal(w, err)
		}
		t.Cleanup(func() { unix.Setrlimit(r, &old) })
	}
	w := newWorld(t)
	for _, row := range []struct{ summary, ulimits, want string }{
		{"none said", "{}", "core 0 unlimited|stack 8388608 unlimited|data unlimited unlimited|files 1024"},
		{"said", "{core: unlimited, nofile: {soft: 77, hard: 99}, data: 1073741824, stack: {soft: 1048576, hard: unlimited}}", "core unlimited unlimited|stack 1048576 unlimited|data 1073741824 1073741824|files 77 99"},
	} {
		got := w.run(script("cat /proc/self/limits") + "\nulimits: " + row.ulimits)
		for _, want := range strings.Split(row.want, "|") {
			name, values, _ := strings.Cut(want, " ")
			kind := map[string]string{"core": "Max core file size", "stack": "Max stack size", "data": "Max data size", "files": "Max open files"}[name]
			_, line, _ := strings.Cut(got, kind)
			line, _, _ = strings.Cut(line, "\n")
			if !strings.HasPrefix(strings.Join(strings.Fields(line), " "), values) {
				t.Errorf("%s: %s is %q, want %s", row.summary, kind, line, values)
			}
		}
	}
	s := w.create("web", script(forever)+"\nulimits: {core: {soft: 5, hard: 6}}")
	var limits unix.Rlimit
	if err := unix.Prlimit(s.Pid, unix.RLIMIT_CORE, nil, &limits); err != nil || limits != (unix.Rlimit{Cur: 5, Max: 6}) {
		t.Errorf("core %+v, %v", limits, err)
	}
}

func TestMemoryLow(t *testing.T) {
	w := newWorld(t)
	read := func() string { return w.control("web", "memory/memory.soft_limit_in_bytes", "memory.low") }
	w.create("web", script(forever)+"\nresources: {memory: 64Mi, memoryLow: 16Mi}")
	if got := read(); got != "16777216" {
		t.Errorf("memoryLow is %s", got)
	}
	w.must(w.Update(ctx, parse(t, "web", script(forever)+"\nresources: {memory: 64Mi, memoryLow: 32Mi}"), origin))
	if got := read(); got != "33554432" {
		t.Errorf("after an update it is %s", got)
	}
	w.must(w.Check(ctx, true))
	if s, _ := w.Get("web"); len(s.Drift) > 0 {
		t.Errorf("drift where nobody changed anything: %v", s.Drift)
	}
	w.must(w.Update(ctx, parse(t, "web", script(forever)), origin))
	if got := read(); w.v2() && got != "0" || !w.v2() && len(got) < 18 {
		t.Errorf("taken away it is %s", got)
	}
}

func TestHostnameAndCapabilities(t *testing.T) {
	w := newWorld(t)
	got := w.run(script("uname -n; grep CapEff /proc/self/status") + "\nhostname: www.example.com\nsecurity: {capabilities: {add: [CAP_CHOWN], drop: [ALL]}}")
	if want := "www.example.com\nCapEff:\t0000000000000001\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
