package runtime

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"stead/runtime/keeper"

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
	}{{"the container", s.Pid, own}, {"the keeper", pid, w.Runtime.keeperGroup().Name()}} {
		if in := w.groupsOf(tt.pid); len(in) != 1 || !in[tt.want] {
			t.Errorf("%s is in %v, want %s", tt.who, in, tt.want)
		}
	}
}

// Without a user namespace only the cgroup stands between a container that may
// make device nodes and the host's devices.
func TestDevicesOfUsernsHost(t *testing.T) {
	w := newWorld(t)
	w.create("web", script("cd /tmp; mknod kmsg c 1 11 && mknod zero c 1 5 && echo made; for f in zero kmsg; do true <$f; echo $f $?; done 2>/dev/null")+`
		security: {userns: host, capabilities: {add: [MKNOD, SYS_ADMIN]}}
		restart: {policy: never}`)
	w.await("web", Exited)
	// The root is mounted nodev, whatever its capabilities: a tmpfs is not, for
	// those who may mount one.
	w.create("tmpfs", script("mount -t tmpfs t /mnt && cd /mnt; mknod kmsg c 1 11 && mknod zero c 1 5 && echo made; for f in zero kmsg; do true <$f; echo $f $?; done 2>/dev/null")+`
		security: {userns: host, capabilities: {add: [MKNOD, SYS_ADMIN]}, seccomp: unconfined}
		restart: {policy: never}`)
	w.await("tmpfs", Exited)
	for name, want := range map[string]string{"web": "made\nzero 2\nkmsg 2\n", "tmpfs": "made\nzero 0\nkmsg 2\n"} {
		if got := w.output(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// A source that can't be mounted with mapped ids is refused with the reason and
// the way out: tmpfs before Linux 6.3.
func TestSourceOnTmpfs(t *testing.T) {
	w := newWorld(t)
	source, err := os.MkdirTemp("/dev/shm", "stead-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(source)
	const body = "\nmounts: {/mnt: {source: %s}}\nrestart: {policy: never}\nsecurity: {userns: %s}"
	_, err = w.Create(ctx, parse(t, "mapped", script("touch /mnt/made")+fmt.Sprintf(body, source, "auto")), origin)
	var start *keeper.StartError
	switch s, _ := w.Get("mapped"); {
	case err == nil:
		var st unix.Stat_t
		s = w.await("mapped", Exited)
		if unix.Stat(source+"/made", &st) != nil || st.Uid != 0 || s.Exit.Code != 0 {
			t.Errorf("file of %d, exit %+v", st.Uid, s.Exit)
		}
	case errors.As(err, &start):
		if s.Exit == nil || s.Exit.Reason != ReasonIdmapUnsupported || !strings.Contains(err.Error(), "tmpfs from Linux 6.3") || !strings.Contains(err.Error(), "userns: host") {
			t.Errorf("error %v, exit %+v", err, s.Exit)
		}
	default:
		t.Error(err)
	}
	w.create("plain", script("touch /mnt/made")+fmt.Sprintf(body, source, "host"))
	if s := w.await("plain", Exited); s.Exit.Code != 0 {
		t.Errorf("userns: host: exit %+v\n%s", s.Exit, w.output("plain"))
	}
}
