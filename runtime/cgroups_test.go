package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"stead/runtime/keeper"
	"stead/runtime/roottest"
	"stead/runtime/status"

	"golang.org/x/sys/unix"
)

// groupsOf are the groups that a process is in, below the parent of the test.
func (w *world) groupsOf(pid int) map[string]bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		w.t.Fatal(err)
	}
	in := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if _, group, ok := strings.Cut(strings.TrimSpace(line), "/"+w.o.CgroupParent+"/"); ok {
			in[group] = true
		}
	}
	return in
}

// Each process is in the group that pays for it, in every hierarchy that has one.
func TestGroups(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.create("web", script(forever))
	d, err := w.Inspect("web")
	if err != nil {
		t.Fatal(err)
	}
	own := "web." + d.Nonce
	pid, _, err := w.keeper.Ping(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		who  string
		pid  int
		want string
	}{{"the container", s.Pid, own}, {"the keeper", pid, w.Runtime.keeper.group().Name()}} {
		if in := w.groupsOf(tt.pid); len(in) != 1 || !in[tt.want] {
			t.Errorf("%s is in %v, want %s", tt.who, in, tt.want)
		}
	}
}

// Without a user namespace only the cgroup stands between a container that may
// make device nodes and the host's devices.
func TestDevicesOfUsernsHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("web", script("cd /tmp; mknod kmsg c 1 11 && mknod zero c 1 5 && echo made; for f in zero kmsg; do true <$f; echo $f $?; done 2>/dev/null")+`
		security: {userns: host, capabilities: {add: [MKNOD, SYS_ADMIN]}}
		restart: {policy: never}`)
	w.await("web", status.Exited)
	// The root is mounted nodev, whatever its capabilities: a tmpfs is not, for
	// those who may mount one.
	w.create("tmpfs", script("mount -t tmpfs t /mnt && cd /mnt; mknod kmsg c 1 11 && mknod zero c 1 5 && echo made; for f in zero kmsg; do true <$f; echo $f $?; done 2>/dev/null")+`
		security: {userns: host, capabilities: {add: [MKNOD, SYS_ADMIN]}, seccomp: unconfined}
		restart: {policy: never}`)
	w.await("tmpfs", status.Exited)
	for name, want := range map[string]string{"web": "made\nzero 2\nkmsg 2\n", "tmpfs": "made\nzero 0\nkmsg 2\n"} {
		if got := w.output(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// spec.devices gives nodes that the container's root owns, or whom they say, and its
// cgroup allows, for reading, writing or both. Character devices only: block nodes are
// refused by other means on some machines, even to root. The node in /dev of the
// host is as closed as /dev/kvm's is.
func TestDevices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := filepath.Join("/dev", filepath.Base(w.o.RunDir)) // as /dev/net/tun lies in a directory
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir+"/zero", dir+".link"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir); os.Remove(dir + ".link") })
	for name, minor := range map[string]uint32{"zero": 5, "kmsg": 11} {
		if err := unix.Mknod(dir+"/"+name, unix.S_IFCHR|0o600, int(unix.Mkdev(1, minor))); err != nil {
			t.Fatal(err)
		}
	}
	const try = `cd %s && for f in zero kmsg; do { true >$f; } 2>/dev/null && echo "> $f"; stat -c %%a:%%u:%%F:%%t:%%T $f; done; head -c1 zero | wc -c` // to read kmsg takes a capability on the host
	const char = "character special file:1:"
	for i, tt := range []struct{ summary, devices, want string }{
		{"both", `D/zero: {}, D/kmsg: {}`, "> zero\n666:0:" + char + "5\n> kmsg\n666:0:" + char + "b\n1\n"},
		{"one to write", `D/zero: {}, D/kmsg: {access: w}`, "> zero\n666:0:" + char + "5\n> kmsg\n222:0:" + char + "b\n1\n"},
		{"one to read", `D/zero: {}, D/kmsg: {access: r}`, "> zero\n666:0:" + char + "5\n444:0:" + char + "b\n1\n"},
		{"all in a directory, with an owner and a mode", `D: {owner: "7:8", mode: "0640"}`, "> zero\n640:7:" + char + "5\n> kmsg\n640:7:" + char + "b\n1\n"},
		{"other names inside", `D/zero: {source: /dev/stead-test-link}, D/kmsg: {source: D/kmsg, access: w}, D/gone: {optional: true}`, "> zero\n666:0:" + char + "5\n> kmsg\n222:0:" + char + "b\n1\n"},
	} {
		for _, userns := range []string{"auto", "host"} {
			name := fmt.Sprintf("c%d-%s", i, userns)
			devices := strings.NewReplacer("D", dir, "/dev/stead-test-link", dir+".link").Replace(tt.devices)
			w.create(name, script(fmt.Sprintf(try, dir))+"\ndevices: {"+devices+"}\nsecurity: {userns: "+userns+"}\nrestart: {policy: never}")
			w.await(name, status.Exited)
			if got := w.output(name); got != tt.want {
				t.Errorf("%s, userns %s: %q, want %q", tt.summary, userns, got, tt.want)
			}
		}
	}
	w.create("user", script("cd "+dir+" && head -c1 zero | wc -c; chmod 600 zero || echo not his")+"\nuser: nobody\ndevices: {"+dir+"/zero: {}}\nrestart: {policy: never}")
	w.await("user", status.Exited)
	if got := w.output("user"); !strings.HasPrefix(got, "1\n") || !strings.Contains(got, "not his") {
		t.Errorf("another user: %q", got)
	}
	_, err := w.Create(ctx, parse(t, "none", "command: [sh]\ndevices: {/dev/none: {source: /etc/passwd}}"), origin)
	if got, _ := w.Get("none"); err == nil || !strings.Contains(err.Error(), "devices[/dev/none]: found a file, want a character or block device") || got.Exit.Reason != status.ReasonDeviceNotFound {
		t.Errorf("a directory: %v, %+v", err, got.Exit)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir+"/zero", &st); err != nil || st.Mode&0o777 != 0o600 || st.Uid != 0 {
		t.Errorf("the host's own node is now %o of %d, %v", st.Mode, st.Uid, err)
	}
}

// The list of devices holds in a user namespace too, where no node can be made:
// one that comes in by an accident, here from a mount that should be nodev and
// is not, still does not open.
func TestDeviceListInUserns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.create("web", script(forever))
	d, err := w.Inspect("web")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kmsg")
	if err := unix.Mknod(file, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 11))); err != nil {
		t.Fatal(err)
	}
	try := func(groups bool) string {
		cmd := exec.Command("sh", "-c", "read go; true >"+file+" && echo opens")
		in, _ := cmd.StdinPipe()
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if groups { // a process of the host in the container's groups
			if err := w.host.Group("web." + d.Nonce).Add([]int{cmd.Process.Pid}); err != nil {
				t.Fatal(err)
			}
		}
		io.WriteString(in, "go\n")
		cmd.Wait()
		return out.String()
	}
	if got := try(false); got != "opens\n" {
		t.Errorf("on the host: %q; the test proves nothing", got)
	}
	if got := try(true); got != "" {
		t.Errorf("in the groups of process %d: %q", s.Pid, got)
	}
}

// Where the list of devices can't be kept (a kernel without it, cgroups in a
// container) it is done without, and that is said; but not where it is all there is.
func TestNoDeviceList(t *testing.T) {
	t.Parallel()
	roottest.Need(t)
	if os.Getenv("STEAD_TEST_NO_DEVICES") == "" {
		again := exec.Command("unshare", "--mount", "sh", "-ec", `[ -d /sys/fs/cgroup/devices ] || { echo no v1; exit; }
			mount --bind /sys/fs/cgroup/devices /sys/fs/cgroup/devices
			mount -o remount,bind,ro /sys/fs/cgroup/devices
			exec "$0" -test.run '^TestNoDeviceList$' -test.v`, os.Args[0])
		again.Env = append(os.Environ(), "STEAD_TEST_NO_DEVICES=1")
		out, err := again.CombinedOutput()
		if strings.HasPrefix(string(out), "no v1") {
			t.Skip("only v1's can be made to fail")
		}
		if err != nil || !strings.Contains(string(out), "cannot limit devices by cgroup; container runs without a device list") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	w := newWorld(t)
	w.create("web", script(forever))
	w.awaitOutput("web", "up")
	for name, line := range map[string]string{"more": "devices: {/dev/kmsg: {}}", "host": "security: {userns: host}"} {
		if _, err := w.Create(ctx, parse(t, name, script(forever)+"\n"+line), origin); err == nil || !strings.Contains(err.Error(), "read-only file system") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A source that can't be mounted with mapped ids is refused with the reason and
// the way out: tmpfs before Linux 6.3.
func TestSourceOnTmpfs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	source := roottest.TempDir(t, "/dev/shm")
	const body = "\nmounts: {/mnt: {source: %s}}\nrestart: {policy: never}\nsecurity: {userns: %s}"
	_, err := w.Create(ctx, parse(t, "mapped", script("touch /mnt/made")+fmt.Sprintf(body, source, "auto")), origin)
	var start *keeper.StartError
	switch s, _ := w.Get("mapped"); {
	case err == nil:
		var st unix.Stat_t
		s = w.await("mapped", status.Exited)
		if unix.Stat(source+"/made", &st) != nil || st.Uid != 0 || s.Exit.Code != 0 {
			t.Errorf("file of %d, exit %+v", st.Uid, s.Exit)
		}
	case errors.As(err, &start):
		if s.Exit == nil || s.Exit.Reason != status.ReasonIdmapUnsupported || !strings.Contains(err.Error(), "tmpfs from Linux 6.3") || !strings.Contains(err.Error(), "userns: host") {
			t.Errorf("error %v, exit %+v", err, s.Exit)
		}
	default:
		t.Error(err)
	}
	w.create("plain", script("touch /mnt/made")+fmt.Sprintf(body, source, "host"))
	if s := w.await("plain", status.Exited); s.Exit.Code != 0 {
		t.Errorf("userns: host: exit %+v\n%s", s.Exit, w.output("plain"))
	}
}
