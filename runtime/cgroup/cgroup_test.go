package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"stead/runtime/roottest"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newHost is this host below a parent of the test's own.
func newHost(t *testing.T) *Host {
	t.Helper()
	roottest.Need(t)
	h, err := Detect(roottest.Mark() + strings.ToLower(t.Name()))
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
	own, _ := os.ReadFile("/proc/self/status")
	b, _ = os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if want := line(own, "Cpus_allowed_list:"); line(b, "Cpus_allowed_list:") != want {
		t.Errorf("taken away: %q, want %q", line(b, "Cpus_allowed_list:"), want)
	}
}

func line(text []byte, key string) string {
	for l := range strings.Lines(string(text)) {
		if strings.HasPrefix(l, key) {
			return l
		}
	}
	return ""
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

// Looking at a host changes nothing on it: the parent is made with the first group.
func TestDetectMakesNothing(t *testing.T) {
	h := newHost(t)
	if dirs := h.Group("").Dirs(); len(dirs) > 0 {
		t.Errorf("made: %v", dirs)
	}
}

// A v2 host whose parent somebody removed gets another one, controllers and all.
func TestParentComesBack(t *testing.T) {
	h := newHost(t)
	for range 2 {
		g := h.Group("web.1")
		l := NoLimits()
		l.Pids = 7
		if refused, err := g.Create(l); err != nil || len(refused) > 0 {
			t.Fatal(refused, err)
		}
		if got := g.file("pids", "pids.max", "pids.max"); got != "7" {
			t.Errorf("limit %q", got)
		}
		if err := errors.Join(g.Remove(), h.RemoveParent()); err != nil {
			t.Fatal(err)
		}
	}
}

// A limit below what is used is refused and the old one stays: nothing is killed.
// What is only cache gives way.
func TestMemoryBelowUse(t *testing.T) {
	h := newHost(t)
	file := filepath.Join(t.TempDir(), "file")
	swaps, _ := os.ReadFile("/proc/swaps")
	swapOn := strings.Count(string(swaps), "\n") > 1
	const hog = "exec 3>&1; { head -c 40000000 /dev/zero; echo done >&3; read x; } | tail >/dev/null" // tail keeps all
	for _, tt := range []struct {
		summary string
		swap    int64
		script  string
		refused bool
	}{
		{"memory of its own", 0, hog, true},
		{"memory that may be swapped", None, hog, !swapOn},
		{"cache", 0, "head -c 40000000 /dev/zero >" + file + "; sync; echo done; read x", false},
	} {
		g := h.Group("web.1")
		old := NoLimits()
		old.Memory, old.Swap = 256<<20, tt.swap
		if _, err := g.Create(old); err != nil {
			t.Fatal(err)
		}
		p := inside(t, g, tt.script)
		p.hear("done")
		l := old
		l.Memory = 16 << 20
		refused := g.Update(old, l)
		want := "16777216"
		if tt.refused {
			want = "268435456"
		}
		if got := g.file("memory", "memory.limit_in_bytes", "memory.max"); (len(refused) > 0) != tt.refused || got != want {
			t.Errorf("%s: refused %v, limit %s, want %s", tt.summary, refused, got, want)
		}
		if h.Mode == V2 {
			if high, _ := read(g.unifiedFile("memory.high")); high != "max" {
				t.Errorf("%s: memory.high is left at %s", tt.summary, high)
			}
		}
		if n := g.OOMKills(); n != 0 || !p.lives() {
			t.Errorf("%s: %d were killed", tt.summary, n)
		}
		t.Log(tt.summary, refused)
		p.end()
		if err := g.Remove(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOOMKills(t *testing.T) {
	h := newHost(t)
	g := h.Group("web.1")
	l := NoLimits()
	l.Memory, l.Swap = 16<<20, 0
	if _, err := g.Create(l); err != nil {
		t.Fatal(err)
	}
	p := inside(t, g, "tail /dev/zero; echo it ended with $?; read x")
	p.hear("it ended with 137")
	if n := g.OOMKills(); n != 1 {
		t.Errorf("%d kills counted", n)
	}
	p.end()
	if err := g.Remove(); err != nil {
		t.Fatal(err)
	}
}

// Character nodes only: block nodes are refused by other means on some machines,
// even to root, and a test would pass without any list.
func TestDevices(t *testing.T) {
	h := newHost(t)
	dir := t.TempDir()
	for name, minor := range map[string]uint32{"zero": 5, "kmsg": 11} {
		if err := unix.Mknod(filepath.Join(dir, name), unix.S_IFCHR|0o600, int(unix.Mkdev(1, minor))); err != nil {
			t.Fatal(err)
		}
	}
	const try = `cd %s; for f in zero kmsg; do for how in '<' '>'; do eval "{ true $how$f; }" 2>/dev/null && echo "$how $f"; done; done; mknod other c 1 11 && echo made; echo done; read x`
	zero, kmsg := Device{'c', 1, 5, "rw"}, Device{'c', 1, 11, "rw"}
	null, readable := Device{'c', 1, 3, "rw"}, kmsg // the shell writes to null
	readable.Access = "r"
	for _, tt := range []struct {
		summary string
		devices []Device
		want    string
	}{
		{"no list", nil, "< zero\n> zero\n< kmsg\n> kmsg\nmade\n"},
		{"the default one", DefaultDevices(), "< zero\n> zero\nmade\n"},
		{"one more", append(DefaultDevices(), kmsg), "< zero\n> zero\n< kmsg\n> kmsg\nmade\n"},
		{"one more to read", append(DefaultDevices(), readable), "< zero\n> zero\n< kmsg\nmade\n"},
		{"a list without zero: it is the list that decides", []Device{null, readable}, "< kmsg\nmade\n"},
		{"zero as a block device", []Device{null, {'b', 1, 5, "rw"}}, "made\n"},
		{"all minors", []Device{{'c', 1, -1, "w"}}, "> zero\n> kmsg\nmade\n"},
		{"zero alone", []Device{null, zero}, "< zero\n> zero\nmade\n"},
	} {
		g := h.Group("web.1")
		l := NoLimits()
		l.Devices = tt.devices
		if refused, err := g.Create(l); err != nil || len(refused) > 0 {
			t.Fatal(refused, err)
		}
		p := inside(t, g, fmt.Sprintf(try, dir))
		if got := p.hear("done"); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.summary, got, tt.want)
		}
		p.end()
		os.Remove(filepath.Join(dir, "other"))
		if err := g.Remove(); err != nil {
			t.Fatal(err)
		}
	}
}

// insider is a shell in a group.
type insider struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// inside runs the script in the group from its first line on.
func inside(t *testing.T, g *Group, script string) *insider {
	t.Helper()
	p := &insider{t: t, cmd: exec.Command("sh", "-c", "read x; "+script)}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, d := range g.Dirs() {
		if err := write(filepath.Join(d, "cgroup.procs"), fmt.Sprint(p.cmd.Process.Pid)); err != nil {
			p.end()
			t.Fatal(err)
		}
	}
	io.WriteString(p.in, "go\n")
	return p
}

// hear gives what it says before the line `last`.
func (p *insider) hear(last string) string {
	p.t.Helper()
	var said strings.Builder
	for {
		l, err := p.out.ReadString('\n')
		if l == last+"\n" {
			return said.String()
		}
		said.WriteString(l)
		if err != nil {
			p.end()
			p.t.Fatalf("it ended having said %q", said.String())
		}
	}
}

func (p *insider) lives() bool { return p.cmd.Process.Signal(unix.Signal(0)) == nil }

// end lets it go on to its end.
func (p *insider) end() {
	p.in.Close()
	p.cmd.Wait()
}

// sleeper is a process in the group.
func sleeper(t *testing.T, g *Group) int {
	t.Helper()
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		c.Wait() // collected at once: a zombie is still in its group
		close(ended)
	}()
	t.Cleanup(func() {
		c.Process.Kill()
		<-ended
		g.Remove()
	})
	for _, d := range g.Dirs() {
		if err := write(filepath.Join(d, "cgroup.procs"), fmt.Sprint(c.Process.Pid)); err != nil {
			t.Fatal(err)
		}
	}
	return c.Process.Pid
}
