package runtime

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stead/runtime/roottest"
	"stead/runtime/status"

	"golang.org/x/sys/unix"
)

var ctx = context.Background()

const forever = `trap "exit 0" TERM; echo up; while :; do sleep 1000 & wait; done`

func TestLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.create("web", script(forever)+"\nresources: {memory: 64Mi, pids: 20}")
	if s.State != status.Running || s.Pid == 0 || s.StartedAt.IsZero() {
		t.Fatalf("created: %+v", s)
	}
	w.awaitOutput("web", "up")
	if got := w.control("web", "memory/memory.limit_in_bytes", "memory.max"); got != "67108864" {
		t.Errorf("memory limit is %q", got)
	}
	t.Run("a daemon's restart changes nothing", func(t *testing.T) {
		w.reopen()
		if again, _ := w.Get("web"); again.Pid != s.Pid || again.State != status.Running {
			t.Errorf("after: %+v", again)
		}
	})
	t.Run("stop ends it, and its exit is on record", func(t *testing.T) {
		pid := s.Pid
		if err := w.Stop(ctx, "web", status.StopOptions{}); err != nil {
			t.Fatal(err)
		}
		s := w.await("web", status.Exited)
		if s.Exit.Code != 0 || s.Exit.Reason != status.ReasonStopped || alive(pid) {
			t.Errorf("exit %+v", s.Exit)
		}
	})
	t.Run("start runs it again on the same root", func(t *testing.T) {
		os.WriteFile(filepath.Join(w.o.StateDir, "containers/web/root/var/kept"), []byte("x"), 0o644)
		if err := w.Start(ctx, "web", status.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		w.await("web", status.Running)
	})
	t.Run("remove keeps the data, and create brings it back", func(t *testing.T) {
		if err := w.Remove(ctx, "web"); err != nil {
			t.Fatal(err)
		}
		if kept, _ := filepath.Glob(w.o.StateDir + "/removed/web@*/upper/var/kept"); len(kept) != 1 {
			t.Errorf("kept: %v", kept)
		}
		back, err := w.Create(ctx, parse(t, "web", script(forever)), origin)
		if err != nil || !strings.Contains(back, "brought back") {
			t.Errorf("create: %q %v", back, err)
		}
		if _, err := os.Stat(filepath.Join(w.o.StateDir, "containers/web/root/var/kept")); err != nil {
			t.Error(err)
		}
	})
}

func TestEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tests := []struct {
		name, body string
		code       int
		reason     string
		output     string
	}{
		{"completed", script("echo fine"), 0, status.ReasonCompleted, "fine\n"},
		{"failed", script("echo bad >&2; exit 3"), 3, status.ReasonError, "bad\n"},
		{"signalled", script("sh -c 'kill -SEGV $$'; exit 139"), 139, status.ReasonError, ""},
		{"oom", script("tail /dev/zero") + "\nresources: {memory: 16Mi, swap: 0}", 137, status.ReasonOOMKilled, ""},
		{"no-newline", script("printf half"), 0, status.ReasonCompleted, "half\n"},
	}
	for _, tt := range tests {
		w.create(tt.name, tt.body+"\nrestart: {policy: never}")
		s := w.await(tt.name, status.Exited)
		if s.Exit.Code != tt.code || s.Exit.Reason != tt.reason {
			t.Errorf("%s: exit %+v, want %d %s", tt.name, s.Exit, tt.code, tt.reason)
		}
		if tt.output != "" && w.output(tt.name) != tt.output {
			t.Errorf("%s: output %q, want %q", tt.name, w.output(tt.name), tt.output)
		}
	}
	t.Run("exit codes outlast the daemon", func(t *testing.T) {
		w.reopen()
		if s, _ := w.Get("failed"); s.Exit == nil || s.Exit.Code != 3 {
			t.Errorf("%+v", s.Exit)
		}
	})
	t.Run("exit codes outlast the boot", func(t *testing.T) {
		w.create("per-boot", script("exit 4")+"\nrestart: {policy: never}\nrerun: on-boot")
		w.await("per-boot", status.Exited)
		w.Close()
		os.RemoveAll(w.o.RunDir + "/containers")
		w.open()
		if s, _ := w.Get("failed"); s.State != status.Exited || s.Exit == nil || s.Exit.Code != 3 {
			t.Errorf("%+v", s)
		}
		if s, _ := w.Get("per-boot"); s.State != status.Created {
			t.Errorf("once per boot: %+v", s)
		}
	})
}

// init: the command is a child, its end is the container's, TERM reaches it.
func TestInit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("a", script(`trap "echo asked; exit 6" TERM; echo "pid $$"; while :; do sleep 1000 & wait; done`)+"\ninit: true")
	w.awaitOutput("a", "pid")
	if err := w.Stop(ctx, "a", status.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if s := w.await("a", status.Exited); s.Exit.Code != 6 || strings.Contains(w.output("a"), "pid 1\n") || !strings.Contains(w.output("a"), "asked") {
		t.Errorf("%+v %q", s.Exit, w.output("a"))
	}
}

func TestStartFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := filepath.Join(filepath.Dir(w.o.StateDir), "hostile")
	os.MkdirAll(root+"/bin", 0o755)
	os.Symlink("/etc", root+"/out")
	tests := []struct{ name, body, reason, message string }{
		{"command", "command: [/bin/nope]", status.ReasonCommandNotFound, "execute /bin/nope: no such file or directory"},
		{"rootfs", "command: [sh]\nrootfs: {path: /nonexistent}", status.ReasonRootfsMissing, "rootfs.path /nonexistent: no such file or directory"},
		{"user", "command: [sh]\nuser: nosuchuser", status.ReasonUserNotFound, "user nosuchuser is not in the root's /etc/passwd"},
		{"group", "command: [sh]\ngroups: [nosuchgroup]", status.ReasonUserNotFound, "group nosuchgroup is not in the root's /etc/group"},
		{"source", "command: [sh]\nmounts: {/data: {source: /nonexistent}}", status.ReasonMountSourceMissing, "open mount source /nonexistent: no such file or directory"},
		{"target", "command: [sh]\nrootfs: {path: " + root + "}\nmounts: {/out/x: {source: /usr}}", status.ReasonMountTarget, "a symbolic link there leads out of the root"},
		{"ulimit", "command: [sh]\nulimits: {nofile: 99999999}", status.ReasonStartFailed, "above the keeper's own hard limit (raising it needs CAP_SYS_RESOURCE) or above fs.nr_open"},
	}
	for _, tt := range tests {
		_, err := w.Create(ctx, parse(t, tt.name, tt.body), origin)
		if err == nil || !strings.Contains(err.Error(), tt.message) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.message)
		}
		s, _ := w.Get(tt.name)
		if s.State != status.Exited || s.Exit == nil || s.Exit.Reason != tt.reason || !strings.Contains(s.Exit.Message, tt.message) || s.Failures != 1 {
			t.Errorf("%s: %s %+v failures %d, want %s", tt.name, s.State, s.Exit, s.Failures, tt.reason)
		}
	}
	if l := w.count(); l.cgroups != w.keeperGroups() {
		t.Errorf("%d cgroups of failed starts are left", l.cgroups-w.keeperGroups())
	}
}

func TestStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tests := []struct {
		name, body string
		code       int
		within     time.Duration
	}{
		{"deaf", "command: [sleep, '1000']\nstop: {timeout: 10m}", 137, roottest.Patience}, // no handler: would wait in vain
		{"stubborn", script("trap '' TERM; echo up; while :; do sleep 1; done") + "\nstop: {timeout: 500ms}", 137, roottest.Patience},
		{"other-signal", script(`trap "exit 9" USR1; echo up; while :; do sleep 1000 & wait; done`) + "\nstop: {signal: USR1, timeout: 10m}", 9, roottest.Patience},
		{"grandchildren", script(`trap "exit 0" TERM; setsid sleep 1000 & setsid sleep 1000 & echo up; wait; wait`) + "\nstop: {timeout: 10m}", 0, roottest.Patience},
	}
	for _, tt := range tests {
		w.create(tt.name, tt.body)
		if strings.Contains(tt.body, "echo up") {
			w.awaitOutput(tt.name, "up")
		}
		began := time.Now()
		if err := w.Stop(ctx, tt.name, status.StopOptions{}); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if took := time.Since(began); took > tt.within {
			t.Errorf("%s: took %v", tt.name, took)
		}
		if s := w.await(tt.name, status.Exited); s.Exit.Code != tt.code || s.Exit.Reason != status.ReasonStopped {
			t.Errorf("%s: exit %+v, want %d", tt.name, s.Exit, tt.code)
		}
	}
}

func TestKeeperDies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.create("a", script(forever))
	b := w.create("b", script(`trap "exit 5" USR1; echo up; while :; do sleep 1000 & wait; done`)+"\nrestart: {policy: never}")
	w.awaitOutput("b", "up")
	pid, _, err := w.keeper.Ping(ctx)
	if err != nil {
		t.Fatal(err)
	}
	unix.Kill(pid, unix.SIGKILL)
	for {
		if now, live, err := w.keeper.Ping(ctx); err == nil && now != pid {
			if live != 2 {
				t.Errorf("the new keeper holds %d containers", live)
			}
			break
		}
		time.Sleep(5 * time.Millisecond) // there is no event for "another process listens"
	}
	for _, was := range []status.Status{a, b} {
		if s, _ := w.Get(was.Name); s.Pid != was.Pid || s.State != status.Running {
			t.Errorf("after: %+v", s)
		}
	}
	unix.Kill(b.Pid, unix.SIGUSR1)
	if s := w.await("b", status.Exited); s.Exit.Code != 5 && s.Exit.Reason != status.ReasonUnknown {
		t.Errorf("exit of the adopted: %+v", s.Exit)
	} else {
		t.Logf("exit of the adopted: %+v", s.Exit)
	}
	if err := w.Stop(ctx, "a", status.StopOptions{}); err != nil {
		t.Error(err)
	}
}

func TestUpdateLive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.create("web", script(forever)+"\nresources: {memory: 64Mi, cpu: 500m}")
	update := func(resources string) status.Status {
		t.Helper()
		if err := w.Update(ctx, parse(t, "web", script(forever)+"\nresources: "+resources), origin); err != nil {
			t.Fatal(err)
		}
		s, _ := w.Get("web")
		if s.Pid != before.Pid {
			t.Errorf("it was restarted")
		}
		return s
	}
	for _, tt := range []struct{ resources, v1, want1, v2, want2 string }{
		{"{memory: 128Mi, cpu: 500m}", "memory/memory.limit_in_bytes", "134217728", "memory.max", "134217728"},
		{"{memory: 128Mi, swap: 0, cpu: 500m}", "memory/memory.memsw.limit_in_bytes", "134217728", "memory.swap.max", "0"},
		{"{memory: 256Mi, swap: 0, cpu: 250m}", "memory/memory.memsw.limit_in_bytes", "268435456", "memory.max", "268435456"},
		{"{memory: 256Mi, swap: 0, cpu: 250m}", "cpu/cpu.cfs_quota_us", "25000", "cpu.max", "25000 100000"},
		{"{memory: 32Mi, swap: 0}", "memory/memory.memsw.limit_in_bytes", "33554432", "memory.max", "33554432"},
		{"{}", "memory/memory.limit_in_bytes", "9223372036854771712", "memory.max", "max"},
		{"{}", "cpu/cpu.cfs_quota_us", "-1", "cpu.max", "max 100000"},
		{"{pids: 7, cpuWeight: 200}", "pids/pids.max", "7", "pids.max", "7"},
		{"{pids: 7, cpuWeight: 200}", "cpu/cpu.shares", "2048", "cpu.weight", "200"},
		{"{}", "pids/pids.max", "max", "pids.max", "max"},
		{"{cpuset: '0'}", "cpuset/cpuset.cpus", "0", "cpuset.cpus", "0"},
	} {
		if s := update(tt.resources); len(s.Unapplied) > 0 {
			t.Errorf("%s: %+v", tt.resources, s.Unapplied)
		}
		want := tt.want1
		if w.v2() {
			want = tt.want2
		}
		if got := w.control("web", tt.v1, tt.v2); got != want {
			t.Errorf("%s: got %s, want %s", tt.resources, got, want)
		}
	}
	s := update("{memory: 1Mi}")
	if got := w.control("web", "memory/memory.limit_in_bytes", "memory.max"); len(s.Unapplied) == 0 && got != "1048576" {
		t.Errorf("below use: %+v, limit %s", s.Unapplied, got)
	}
}

func TestMemoryBelowUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hog := script(`trap "exit 0" TERM; { head -c 30000000 /dev/zero; echo up >&2; sleep 1000; } | tail & wait`) // tail keeps all
	before := w.create("hog", hog+"\nresources: {memory: 200Mi, swap: 0}")
	w.awaitOutput("hog", "up")
	if err := w.Update(ctx, parse(t, "hog", hog+"\nresources: {memory: 8Mi, swap: 0}"), origin); err != nil {
		t.Fatal(err)
	}
	s, _ := w.Get("hog")
	if len(s.Unapplied) != 1 || s.Unapplied[0].Have != "200Mi" || s.Unapplied[0].Wanted != "8Mi" || s.State != status.Running || s.Pid != before.Pid {
		t.Errorf("after: %+v", s)
	}
	t.Logf("%+v", s.Unapplied)
}
