package launch

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// initState is the memory of an init process.
type initState struct {
	all    uint64 // every signal
	info   [128]byte
	status int32
	child  int32
}

// init appends the call after which a child makes the remaining calls, while the container's
// first process stays as pid 1: it reaps orphans, forwards signals and exits with the exit
// code of its child. It runs this program's code without the keeper's memory, is
// undumpable and as confined as the command.
func (p *program) init() {
	name := p.cString("stead-init")
	state := (*initState)(p.alloc(unsafe.Sizeof(initState{})))
	state.all = ^uint64(0)
	p.do("name init", unix.SYS_PRCTL, unix.PR_SET_NAME, name)
	c := p.do("fork from init", 0, uintptr(unsafe.Pointer(state)))
	c.kind = initCall
	p.do("setsid", unix.SYS_SETSID)
}

// runInit forks and returns 0 in the child. The parent never returns, unless with the error
// of the fork.
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
	// Only the child keeps the gate, whose end of file means that execve succeeded.
	syscall.RawSyscall(unix.SYS_CLOSE_RANGE, gateFD, ^uintptr(0)>>32, 0)
	for {
		s.reap()
		// All signals have been blocked since the clone, so none is missed.
		n, _, e := syscall.RawSyscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&s.all)), uintptr(unsafe.Pointer(&s.info)), 0, 8, 0, 0)
		if e == 0 && n != uintptr(unix.SIGCHLD) {
			syscall.RawSyscall(unix.SYS_KILL, uintptr(s.child), n, 0)
		}
	}
}

// reap reaps all ended processes, and exits with the child's exit code when the child ended.
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
