package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"stead/runtime/keeper"

	"golang.org/x/sys/unix"

	"stead/runtime/roottest"
)

// admin is a person at a terminal: a pty pair of the test's own.
type admin struct {
	t             *testing.T
	master, slave *os.File
	before        unix.Termios
	cmd           *exec.Cmd

	mu   sync.Mutex
	seen bytes.Buffer
}

func newAdmin(t *testing.T, rows, cols uint16) *admin {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		t.Fatal(errno)
	}
	p := &admin{t: t, master: master, slave: os.NewFile(slave, "terminal")}
	t.Cleanup(func() { p.master.Close(); p.slave.Close() })
	p.before = p.modes()
	p.resize(rows, cols)
	return p
}

func (p *admin) modes() unix.Termios {
	p.t.Helper()
	m, err := unix.IoctlGetTermios(int(p.slave.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	return *m
}

func (p *admin) resize(rows, cols uint16) {
	p.t.Helper()
	if err := unix.IoctlSetWinsize(int(p.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
		p.t.Fatal(err)
	}
}

// runs begins a command of which this is the controlling terminal.
func (p *admin) runs(cmd *exec.Cmd) {
	p.t.Helper()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.slave, p.slave, p.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.cmd = cmd
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := p.master.Read(b)
			p.mu.Lock()
			p.seen.Write(b[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
}

func (p *admin) types(s string) {
	p.t.Helper()
	if _, err := p.master.WriteString(s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *admin) screen() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.String()
}

// sees waits until a text is on the screen.
func (p *admin) sees(want string) {
	p.t.Helper()
	for end := time.Now().Add(roottest.Patience); !strings.Contains(p.screen(), want); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("no %q on the screen:\n%q", want, p.screen())
		}
	}
}

// ends waits for the command's end, after which the terminal must be as it was.
func (p *admin) ends(code int) {
	p.t.Helper()
	timer := time.AfterFunc(roottest.Patience, func() { _ = p.cmd.Process.Kill() })
	_ = p.cmd.Wait()
	timer.Stop()
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("code %d (%v), want %d; on the screen:\n%q", got, p.cmd.ProcessState, code, p.screen())
	}
	if p.modes() != p.before {
		p.t.Errorf("the terminal was left in other modes: %+v, before: %+v", p.modes(), p.before)
	}
}

// A person works inside by a terminal.
func TestExecTerminal(t *testing.T) {
	h := newHost(t)
	h.write("a.yaml", manifest("a", ""))
	h.ok("apply")
	at := func(t *testing.T, args ...string) *admin {
		t.Helper()
		h.within(t)
		p := newAdmin(t, 33, 77)
		cmd := h.command(append([]string{"exec"}, args...)...)
		cmd.Env = append(cmd.Env, "TERM=vt220")
		p.runs(cmd)
		return p
	}
	t.Run("size, TERM, keys and the exit code", func(t *testing.T) {
		p := at(t, "-it", "-u", "nobody", "-w", "/tmp", "-e", "X=1", "a", "sh")
		p.types("tty; stty size; echo t=$TERM $X $(id -un) $(pwd)\n")
		p.sees("/dev/pts/0\r\n33 77\r\nt=vt220 1 nobody /tmp\r\n")
		if now := p.modes(); now.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
			t.Errorf("the terminal is not raw: %+v", now)
		}
		p.resize(44, 99)
		p.types("while [ \"$(stty size)\" != '44 99' ]; do sleep 0.01; done; echo re''sized\n")
		p.sees("resized\r\n")
		p.types("trap 'c=1; echo cau''ght' INT; c=; echo re''ady; while [ -z \"$c\" ]; do sleep 0.1; done\n")
		p.sees("ready\r\n")
		p.types("\x03")
		p.sees("caught\r\n")
		p.types("exit 7\n")
		p.ends(7)
	})
	t.Run("UTF-8, and a prompt that shows where one is", func(t *testing.T) {
		p := at(t, "-it", "-w", "/tmp", "a", "sh", "-c", "echo $LANG $PS1; exec sh")
		p.sees("C.UTF-8 a:$PWD$\r\n")
		p.sees("a:/tmp$ ")
		p.types("exit\n")
		p.ends(0)
	})
	t.Run("-e wins over the defaults of a terminal", func(t *testing.T) {
		p := at(t, "-it", "-e", "LC_ALL=C", "-e", "PS1=x", "a", "sh", "-c", "echo l=$LANG $PS1")
		p.sees("l= x\r\n")
		p.ends(0)
	})
	t.Run("a restart from elsewhere", func(t *testing.T) {
		p := at(t, "-it", "a", "sh", "-c", "printf '\\033[?1049hfull screen'; while :; do sleep 1; done")
		p.sees("full screen")
		h.ok("restart", "a")
		p.ends(137)
		p.sees("\x1b[?1049l")
		p.sees("stead: a was stopped, restarted or removed, which ended this session")
	})
	t.Run("-e wins over the terminal's TERM", func(t *testing.T) {
		p := at(t, "-it", "-e", "TERM=dumb", "a", "sh", "-c", "echo t=$TERM")
		p.sees("t=dumb\r\n")
		p.ends(0)
	})
	t.Run("all output, and nothing that is left behind is waited for", func(t *testing.T) {
		p := at(t, "-it", "a", "sh", "-c", "trap '' HUP; sleep 60 & head -c 300000 /dev/zero | tr '\\0' x; echo end")
		p.ends(0)
		p.sees("xend\r\n")
		if n := strings.Count(p.screen(), "x"); n != 300000 {
			t.Errorf("%d bytes came out, want 300000", n)
		}
	})
	t.Run("a signal to exec ends both, the terminal as it was", func(t *testing.T) {
		p := at(t, "-it", "a", "sh", "-c", "trap '' TERM HUP; echo ready; while :; do sleep 0.05; echo ali''ve >/tmp/alive; done")
		p.sees("ready")
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		p.ends(143)
		h.goneInside("a", "alive")
	})
	t.Run("so does a terminal that is gone", func(t *testing.T) {
		p := at(t, "-it", "a", "sh", "-c", "trap '' TERM HUP; echo ready; while :; do sleep 0.05; echo ali''ve; done")
		p.sees("ready")
		p.before = unix.Termios{}
		p.master.Close()
		_ = p.cmd.Wait()
		if got := p.cmd.ProcessState.ExitCode(); got != hangUp {
			t.Errorf("code %d, want %d", got, hangUp)
		}
		h.goneInside("a", "alive")
	})
	t.Run("a command that isn't there", func(t *testing.T) {
		p := at(t, "-it", "a", "nonsuch")
		p.sees("execute nonsuch")
		p.ends(127)
	})
	t.Run("without -i no key goes inside, and signals do", func(t *testing.T) {
		p := at(t, "-t", "a", "sh", "-c", `trap "echo caught; exit 3" INT; tty; echo ready; while :; do sleep 0.05; done`)
		p.sees("ready")
		p.types("\x03")
		p.sees("caught")
		p.ends(3)
	})
	t.Run("no terminal is an error", func(t *testing.T) {
		h.within(t)
		for _, flags := range []string{"-t", "-it"} {
			if c := h.stead("exec", flags, "a", "true"); c.code != 125 || !strings.Contains(c.err, "-t needs a terminal as stdin; leave out -t") {
				t.Errorf("%s: %+v", flags, c)
			}
		}
	})
}

// goneInside waits until no process of a container has a word in its command line.
func (h *testHost) goneInside(name, word string) {
	h.t.Helper()
	var left string
	for end := time.Now().Add(roottest.Patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		left = ""
		for _, pid := range h.processes() {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if strings.Contains(string(line), word) {
				left = string(line)
			}
		}
		if left == "" {
			return
		}
	}
	h.t.Errorf("still there inside: %q", left)
}

// Who stops exec with ^Z, or at a debugger, holds nothing up.
func TestStoppedExecCannotWedgeStop(t *testing.T) {
	h := newHost(t)
	h.write("a.yaml", manifest("a", "  stop: {timeout: 10m}\n"))
	h.ok("apply")
	p := newAdmin(t, 24, 80)
	p.runs(h.command("exec", "-it", "a", "sh", "-c", "echo ready; exec yes"))
	p.sees("ready")
	_ = p.cmd.Process.Signal(syscall.SIGSTOP)
	began := time.Now()
	h.ok("stop", "a")
	if took := time.Since(began); took > roottest.Patience {
		t.Errorf("the stop took %v", took)
	}
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	p.ends(137)
}

// Neither the daemon nor the keeper has to be there before.
func TestExecWithoutDaemonAndKeeper(t *testing.T) {
	h := newHost(t)
	h.write("a.yaml", manifest("a", ""))
	h.startDaemon()
	pid := h.until("a", "running", running).Pid
	h.endDaemon(syscall.SIGKILL)
	keeperPid, _, err := keeper.Client{Run: h.run}.Ping(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, dead := range []string{"daemon", "keeper too"} {
		if dead == "keeper too" {
			killAndWait(t, keeperPid) // a request to one that is dying may be lost
		}
		p := newAdmin(t, 24, 80)
		p.runs(h.command("exec", "-it", "a", "sh"))
		p.types("echo $((6*7)); exit 5\n")
		p.sees("42\r\n")
		p.ends(5)
		if c := h.stead("exec", "a", "cat", "/proc/1/comm"); c.code != 0 || c.err != "" {
			t.Errorf("%s dead: %+v", dead, c)
		}
	}
	if now := h.views()[0].Pid; now != pid {
		t.Errorf("the container's process is %d, was %d", now, pid)
	}
}

// killAndWait kills a process that is no child of this one, and waits for its end.
func killAndWait(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(roottest.Patience/time.Millisecond))
		if err == unix.EINTR {
			continue
		}
		if n != 1 {
			t.Fatalf("process %d does not end: %v", pid, err)
		}
		return
	}
}

// A panic anywhere leaves the terminal as it was.
func TestTerminalIsRestoredOnPanic(t *testing.T) {
	p := newAdmin(t, 24, 80)
	term, err := openTerminal(p.slave)
	if err != nil {
		t.Fatal(err)
	}
	if err := term.raw(); err != nil {
		t.Fatal(err)
	}
	if p.modes() == p.before {
		t.Fatal("the terminal is not raw")
	}
	func() {
		defer func() {
			if v := recover(); v != "on" {
				t.Errorf("the panic did not go on: %v", v)
			}
		}()
		defer term.onPanic()
		panic("on")
	}()
	if p.modes() != p.before {
		t.Errorf("other modes: %+v, before: %+v", p.modes(), p.before)
	}
}
