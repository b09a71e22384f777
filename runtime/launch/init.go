package launch

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// initState is the memory of a reaping pid 1.
type initState struct {
	all    uint64 // every signal
	info   [128]byte
	status int32
	child  int32
}

// init makes what follows run in a child, while the container's first process
// stays as pid 1: it reaps orphans, passes signals on and ends as its child
// does. It is still a copy of this program, not of its memory: undumpable, and
// as confined as the command.
func (p *program) init() {
	name := p.cString("stead-init")
	state := (*initState)(p.alloc(unsafe.Sizeof(initState{})))
	state.all = ^uint64(0)
	p.do("name init", unix.SYS_PRCTL, unix.PR_SET_NAME, name)
	c := p.do("fork from init", 0, uintptr(unsafe.Pointer(state)))
	c.kind = initCall
	p.do("setsid", unix.SYS_SETSID)
}

// beInit forks. In the child it returns 0; the parent never returns but with
// the error of the fork.
//
//go:nosplit
//go:norace
//go:nocheckptr
func runInit(c *call) syscall.Errno {
	s := *(**initState)(unsafe.Pointer(&c.arg[0]))
	pid, _, e := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if e != 0 || pid == 0 {
		return e
	}
	s.child = int32(pid)
	// The gate is the child's now: its end of file says that execve worked.
	syscall.RawSyscall(unix.SYS_CLOSE_RANGE, gateFD, ^uintptr(0)>>32, 0)
	for {
		s.reap()
		// All signals are blocked since the clone, so none is missed.
		n, _, e := syscall.RawSyscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&s.all)), uintptr(unsafe.Pointer(&s.info)), 0, 8, 0, 0)
		if e == 0 && n != uintptr(unix.SIGCHLD) {
			syscall.RawSyscall(unix.SYS_KILL, uintptr(s.child), n, 0)
		}
	}
}

// reap collects all that ended, and ends with the child's exit code.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (s *initState) reap() {
	for {
		pid, _, e := syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&s.status)), unix.WNOHANG, 0, 0, 0)
		if e != 0 || pid == 0 {
			return
		}
		if int32(pid) != s.child {
			continue
		}
		code := uintptr(s.status>>8) & 0xff
		if signal := uintptr(s.status) & 0x7f; signal != 0 {
			code = 128 + signal
		}
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, code, 0, 0)
	}
}
