package launch

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Descriptors of the child, besides 0, 1 and 2.
const (
	gateFD   = 3 // SOCK_SEQPACKET to the parent
	ranFD    = 4 // gets one byte right before execve
	targetFD = 5 // in exec: a pidfd of the container's first process
)

// exitLaunch is the child's exit code when a step fails, as in Podman.
const exitLaunch = 125

// call is one system call of the child.
type call struct {
	step string // what it is for, named in errors; read by the parent only
	nr   uintptr
	arg  [6]uintptr
	from [6]*int32 // where set, the argument is *from: the result of an earlier call
	into *int32    // where set, gets the result
	want int32     // the result must be this; any but an error will do if it is `anything`

	tolerate syscall.Errno // this error is none
	exec     bool          // an execve: the next one is tried when it finds no file
	ran      bool          // from here on the workload may have run
	helper   []call        // not a call: run these in a vforked helper with its own mount namespace
}

const anything = -1

// program is all that a child does, and its memory: nothing that the calls
// point to may be collected or moved while a child is being cloned.
type program struct {
	calls  []call
	slots  []*int32
	keep   []unsafe.Pointer
	failed failure
}

// failure is what the child tells the parent, over the gate and in the ran
// file: which call, which error.
type failure struct {
	mark  byte // 'e'
	_     [3]byte
	index int32 // of the call; a helper's calls count as its own index
	errno int32
}

func (p *program) add(c call) *call {
	p.calls = append(p.calls, c)
	return &p.calls[len(p.calls)-1]
}

// do appends a call whose result doesn't matter beyond being no error.
func (p *program) do(step string, nr uintptr, arg ...uintptr) *call {
	c := call{step: step, nr: nr, want: anything}
	copy(c.arg[:], arg)
	return p.add(c)
}

// slot is a place for a result, to be used as an argument of later calls.
func (p *program) slot() *int32 {
	s := new(int32)
	*s = -1
	p.slots = append(p.slots, s)
	return s
}

// text is a C string, kept for as long as the program.
func (p *program) text(s string) uintptr {
	b, err := unix.BytePtrFromString(s)
	if err != nil {
		panic("launch: string with a NUL byte: " + s) // Config.check refuses them
	}
	return p.hold(unsafe.Pointer(b))
}

// hold keeps what q points to for as long as the program; q must be heap memory.
func (p *program) hold(q unsafe.Pointer) uintptr {
	p.keep = append(p.keep, q)
	return uintptr(q)
}

// clone makes the child, which runs the program and never returns. The calling
// goroutine must be locked to its thread. Signals are blocked around it, so
// that no handler of the Go runtime ever runs in the child; the child has none
// left (CLONE_CLEAR_SIGHAND, Linux 5.5) when it unblocks them.
func (p *program) clone(args *cloneArgs) (pid int, err error) {
	args.flags |= unix.CLONE_CLEAR_SIGHAND
	args.exitSignal = uint64(unix.SIGCHLD)
	full := ^uint64(0)
	var old uint64
	if err := sigmask(&full, &old); err != nil {
		return 0, err
	}
	r, errno := p.rawClone(args)
	sigmask(&old, nil)
	runtime.KeepAlive(p)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}

// cloneArgs is struct clone_args of clone3(2), version 2.
type cloneArgs struct {
	flags, pidfd, childTid, parentTid, exitSignal, stack, stackSize, tls, setTid, setTidSize, cgroup uint64
}

func sigmask(set, old *uint64) error {
	_, _, e := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// From here on: no allocation, no stack growth, no write barrier, no call into
// the Go runtime. Both sides of the clone run this.

//go:nosplit
//go:norace
//go:noinline
func (p *program) rawClone(args *cloneArgs) (uintptr, syscall.Errno) {
	pid, _, e := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0)
	if e != 0 || pid != 0 {
		return pid, e
	}
	p.run()
	return 0, 0
}

//go:nosplit
//go:norace
func (p *program) run() {
	last := syscall.ENOENT
	ran := false
	for i := 0; i < len(p.calls); i++ {
		c := &p.calls[i]
		if c.helper != nil {
			if rawVfork(unix.CLONE_VM|unix.CLONE_VFORK|unix.CLONE_FILES|unix.CLONE_NEWNS) == 0 {
				p.assist(c.helper, i)
			}
			// 0x40000000 is __WALL: the helper ends without a signal.
			syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), 0, 0x40000000, 0, 0, 0)
			continue
		}
		ran = ran || c.ran
		e := c.invoke()
		switch {
		case e == 0:
		case c.exec && (e == unix.ENOENT || e == unix.EACCES || e == unix.ENOTDIR || e == unix.ELOOP):
			if e == unix.EACCES {
				last = e // more telling than a later "not found", as in execvp(3)
			}
		default:
			p.fail(i, e, ran)
		}
	}
	p.fail(len(p.calls)-1, last, ran)
}

// assist is the helper's part of run. It shares the memory.
//
//go:nosplit
//go:norace
func (p *program) assist(calls []call, index int) {
	for i := 0; i < len(calls); i++ {
		if e := calls[i].invoke(); e != 0 {
			p.fail(index, e, false)
		}
	}
	syscall.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
}

//go:nosplit
//go:norace
func (c *call) invoke() syscall.Errno {
	var a [6]uintptr
	for i := 0; i < 6; i++ {
		a[i] = c.arg[i]
		if c.from[i] != nil {
			a[i] = uintptr(*c.from[i])
		}
	}
	r, _, e := syscall.RawSyscall6(c.nr, a[0], a[1], a[2], a[3], a[4], a[5])
	if e != 0 {
		if e == c.tolerate {
			return 0
		}
		return e
	}
	if c.want != anything && int32(r) != c.want {
		return unix.EPIPE // a short read of the gate: the parent is gone
	}
	if c.into != nil {
		*c.into = int32(r)
	}
	return 0
}

//go:nosplit
//go:norace
func (p *program) fail(index int, e syscall.Errno, ran bool) {
	p.failed.mark, p.failed.index, p.failed.errno = 'e', int32(index), int32(e)
	at, size := uintptr(unsafe.Pointer(&p.failed)), unsafe.Sizeof(p.failed)
	if ran {
		syscall.RawSyscall6(unix.SYS_PWRITE64, ranFD, at, size, 0, 0, 0)
	}
	syscall.RawSyscall6(unix.SYS_SENDTO, gateFD, at, size, unix.MSG_NOSIGNAL, 0, 0)
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, exitLaunch, 0, 0)
	}
}
