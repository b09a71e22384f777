package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newHost is this host below a parent of the test's own.
func newHost(t *testing.T) *Host {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("STEAD_TEST_ROOT") != "" {
			t.Fatal("not root, but root was asked for")
		}
		t.Skip("needs root")
	}
	h, err := Detect(fmt.Sprintf("stead-test-%d-%s", os.Getpid(), strings.ToLower(t.Name())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if names, err := h.Children(); err != nil || len(names) > 0 {
			t.Errorf("left over: %v %v", names, err)
		}
		if err := h.RemoveParent(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// file reads a control file on whichever layout this host has.
func (g *Group) file(v1Controller, v1Name, v2Name string) string {
	f := g.unifiedFile(v2Name)
	if g.host.Mode != V2 {
		f = g.v1File(v1Controller, v1Name)
	}
	s, _ := read(f)
	return s
}

func TestLimits(t *testing.T) {
	h := newHost(t)
	t.Logf("mode %s, controllers %v", h.Mode, h.Controllers())
	g := h.Group("web.1")
	old := NoLimits()
	if refused, err := g.Create(old); err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	defer g.Remove()
	set := func(change func(*Limits)) Limits { l := NoLimits(); change(&l); return l }
	for _, tt := range []struct {
		summary        string
		limits         Limits
		v1, v1name, v2 string
		want1, want2   string
	}{
		{"memory", set(func(l *Limits) { l.Memory = 64 << 20 }), "memory", "memory.limit_in_bytes", "memory.max", "67108864", "67108864"},
		{"memory and swap raised together (library: EINVAL)", set(func(l *Limits) { l.Memory, l.Swap = 128<<20, 0 }), "memory", "memory.memsw.limit_in_bytes", "memory.swap.max", "134217728", "0"},
		{"raised again", set(func(l *Limits) { l.Memory, l.Swap = 256<<20, 0 }), "memory", "memory.limit_in_bytes", "memory.max", "268435456", "268435456"},
		{"lowered", set(func(l *Limits) { l.Memory, l.Swap = 32<<20, 0 }), "memory", "memory.memsw.limit_in_bytes", "memory.max", "33554432", "33554432"},
		{"taken away (library: -1/-1 is EINVAL)", NoLimits(), "memory", "memory.memsw.limit_in_bytes", "memory.max", "9223372036854771712", "max"},
		{"pids", set(func(l *Limits) { l.Pids = 7 }), "pids", "pids.max", "pids.max", "7", "7"},
		{"pids taken away (library: ignored)", NoLimits(), "pids", "pids.max", "pids.max", "max", "max"},
		{"cpu", set(func(l *Limits) { l.CPU = 250 }), "cpu", "cpu.cfs_quota_us", "cpu.max", "25000", "25000 100000"},
		{"cpu taken away", NoLimits(), "cpu", "cpu.cfs_quota_us", "cpu.max", "-1", "max 100000"},
		{"cpu weight", set(func(l *Limits) { l.CPUWeight = 50 }), "cpu", "cpu.shares", "cpu.weight", "512", "50"},
		{"cpu weight taken away", NoLimits(), "cpu", "cpu.shares", "cpu.weight", "1024", "100"},
	} {
		if refused := g.Update(old, tt.limits); len(refused) > 0 {
			t.Errorf("%s: refused %v", tt.summary, refused)
		}
		old = tt.limits
		want := tt.want1
		if h.Mode == V2 {
			want = tt.want2
		}
		if got := g.file(tt.v1, tt.v1name, tt.v2); got != want {
			t.Errorf("%s: got %q, want %q", tt.summary, got, want)
		}
	}
}

// A cpuset that is asked for later takes the processes along.
func TestCpusetLater(t *testing.T) {
	h := newHost(t)
	if !h.Controllers()["cpuset"] {
		t.Skip("no cpuset controller")
	}
	g := h.Group("web.1")
	if _, err := g.Create(NoLimits()); err != nil {
		t.Fatal(err)
	}
	pid := sleeper(t, g)
	l := NoLimits()
	l.Cpuset = "0"
	if refused := g.Update(NoLimits(), l); len(refused) > 0 {
		t.Fatal(refused)
	}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if !strings.Contains(string(b), "Cpus_allowed_list:\t0\n") {
		t.Errorf("the process is not on CPU 0:\n%s", b)
	}
	if refused := g.Update(l, NoLimits()); len(refused) > 0 {
		t.Fatal(refused)
	}
}

func TestKillAndRemove(t *testing.T) {
	h := newHost(t)
	g := h.Group("web.1")
	if _, err := g.Create(NoLimits()); err != nil {
		t.Fatal(err)
	}
	pid := sleeper(t, g)
	if pids, err := g.Pids(); err != nil || len(pids) != 1 || pids[0] != pid {
		t.Errorf("pids %v %v, want %d", pids, err, pid)
	}
	if err := g.Kill(); errors.Is(err, errors.ErrUnsupported) {
		unix.Kill(pid, unix.SIGKILL) // v1 alone
	} else if err != nil {
		t.Fatal(err)
	}
	if err := g.Remove(); err != nil {
		t.Fatal(err)
	}
	if g.Exists() || len(g.Dirs()) > 0 {
		t.Errorf("still there: %v", g.Dirs())
	}
	if err := errors.Join(g.Remove(), g.Kill()); err != nil {
		t.Errorf("not safe to repeat: %v", err)
	}
}

func TestCreateFailsCleanly(t *testing.T) {
	h := newHost(t)
	l := NoLimits()
	l.Cpuset = "4000"
	if _, err := h.Group("web.1").Create(l); err == nil {
		t.Error("a CPU that is not there was accepted")
	} // newHost's clean-up sees what is left
}

// sleeper is a process in the group.
func sleeper(t *testing.T, g *Group) int {
	t.Helper()
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		g.Remove()
	})
	for _, d := range g.Dirs() {
		if err := write(filepath.Join(d, "cgroup.procs"), fmt.Sprint(c.Process.Pid)); err != nil {
			t.Fatal(err)
		}
	}
	go c.Wait()
	return c.Process.Pid
}
