package launch

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// confine appends the calls that drop everything the workload must not have.
func (p *program) confine(c *Process) {
	p.do("close what is left on exec", unix.SYS_CLOSE_RANGE, gateFD, ^uintptr(0)>>32, unix.CLOSE_RANGE_CLOEXEC)
	p.do("set umask", unix.SYS_UMASK, rootUmask)
	for _, l := range effectiveLimits(c.Rlimits) {
		p.do("set ulimit "+l.Name, unix.SYS_PRLIMIT64, 0, uintptr(l.Resource), copyIn(p, [2]uint64{l.Soft, l.Hard}), 0)
	}
	if c.NoNewPrivs {
		p.do("set no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
	} else {
		p.seccomp(c) // needs SYS_ADMIN, which is dropped below
	}
	for i := uintptr(0); i <= lastCap(); i++ { // needs SETPCAP, so before the ids
		if c.Caps.Bounding>>i&1 == 0 {
			p.do("drop capability", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, i)
		}
	}
	p.identity(c)
	p.enterWorkingDir(c.WorkingDir)
	if c.NoNewPrivs {
		p.seccomp(c)
	}
	for n := range uintptr(64) { // clone and execve keep a signal ignored
		if ignoredSignals()>>n&1 == 1 {
			p.do("reset signal", unix.SYS_RT_SIGACTION, n+1, copyIn(p, [4]uintptr{}), 0, 8)
		}
	}
}

// execute appends the calls that execute the workload.
func (p *program) execute(c *Process) {
	p.do("unblock signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, copyIn(p, uint64(0)), 0, 8)
	x := p.do("report the execve", unix.SYS_WRITE, ranFD, p.cString("x"), 1)
	x.want, x.kind = 1, runMark
	argv, envp := p.cStrings(c.Argv), p.cStrings(c.Env)
	for _, path := range c.Paths {
		p.do("execute "+c.Argv[0], unix.SYS_EXECVE, p.cString(path), argv, envp).kind = execCall
	}
}

// enterWorkingDir follows no magic link: /proc/self/fd/N leads to any descriptor that is
// still open.
func (p *program) enterWorkingDir(dir string) {
	step := "enter working directory " + dir
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	fd := p.slot()
	p.do(step, unix.SYS_OPENAT2, cwd, p.cString(dir), copyIn(p, how), unsafe.Sizeof(how)).into = fd
	p.do(step, unix.SYS_FCHDIR).from[0] = fd
}

// ignoredSignals returns the signals that this process has inherited as ignored (from nohup
// or make), bit N-1 for signal N. This program itself ignores none.
var ignoredSignals = sync.OnceValue(func() (mask uint64) {
	b, _ := os.ReadFile("/proc/thread-self/status")
	for line := range strings.Lines(string(b)) {
		if hex, ok := strings.CutPrefix(line, "SigIgn:"); ok {
			mask, _ = strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		}
	}
	return mask
})

// lastCap returns the highest capability of the running kernel.
var lastCap = sync.OnceValue(func() uintptr {
	b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if n, e := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && e == nil {
		return uintptr(n)
	}
	return unix.CAP_LAST_CAP
})

func (p *program) identity(c *Process) {
	if len(c.Groups) > 0 {
		groups := p.alloc(4 * uintptr(len(c.Groups)))
		copy(unsafe.Slice((*uint32)(groups), len(c.Groups)), c.Groups)
		p.do("set groups", unix.SYS_SETGROUPS, uintptr(len(c.Groups)), uintptr(groups))
	} else {
		p.do("set groups", unix.SYS_SETGROUPS, 0, 0)
	}
	if c.Caps.Ambient != 0 {
		p.do("keep capabilities", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1)
	}
	p.do("set group", unix.SYS_SETRESGID, uintptr(c.GID), uintptr(c.GID), uintptr(c.GID))
	p.do("set user", unix.SYS_SETRESUID, uintptr(c.UID), uintptr(c.UID), uintptr(c.UID))
	type set struct{ effective, permitted, inheritable uint32 }
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	both := c.Caps.Effective | c.Caps.Ambient
	inheritable := c.Caps.Ambient
	sets := [2]set{
		{uint32(both), uint32(both), uint32(inheritable)},
		{uint32(both >> 32), uint32(both >> 32), uint32(inheritable >> 32)},
	}
	p.do("set capabilities", unix.SYS_CAPSET, copyIn(p, header), copyIn(p, sets))
	for i := uintptr(0); i < 64; i++ {
		if c.Caps.Ambient>>i&1 == 1 {
			p.do("raise ambient capability", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, i, 0, 0)
		}
	}
}

func (p *program) seccomp(c *Process) {
	if len(c.Seccomp) == 0 {
		return
	}
	filter := p.alloc(uintptr(len(c.Seccomp)))
	copy(unsafe.Slice((*byte)(filter), len(c.Seccomp)), c.Seccomp)
	prog := (*unix.SockFprog)(p.alloc(unsafe.Sizeof(unix.SockFprog{})))
	prog.Len, prog.Filter = uint16(len(c.Seccomp)/8), (*unix.SockFilter)(filter)
	p.do("load seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(prog)))
}
