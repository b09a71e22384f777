package launch

import (
	"fmt"
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

// call is one system call of the child. The call and everything it points to lie in the
// program's memory.
type call struct {
	nr   uintptr
	arg  [6]uintptr
	from [6]*int32 // if set, the argument is *from: the result of an earlier call
	into *int32    // if set, receives the result
	want int32     // the required result; `anything` accepts all but an error
	kind kind
}

type kind int32

const (
	plainCall   kind = iota
	execCall         // an execve; if it finds no file, the next call is tried
	runMark          // after this call the workload may have run
	helperCall       // no call: a vforked helper with its own mount namespace makes the next arg[0] calls
	initCall         // no call: a forked child makes the remaining calls; the parent becomes its init (init.go)
	siblingCall      // no call: a cloned sibling makes the remaining calls; its pid is sent to the keeper and the caller exits
)

const anything = -1

// table is the child's list of calls. It lies at the start of the program's memory.
type table struct {
	calls  *call
	n      int32
	failed failure
}

// failure reports a failed call to the parent, over the gate and in the ran file.
type failure struct {
	runMark byte // 'e'
	_       [3]byte
	index   int32 // of the call
	errno   int32
}

const (
	maxCalls  = 320
	stackSize = 32 << 10
	tlsSize   = 256
)

// program holds all calls of a child. The child gets a copy of the program's memory, of code
// and of static data, but of nothing else (see excludeFromFork). The memory holds the
// table, the calls, what they point to and, at the end, the child's stack.
type program struct {
	mem   []byte
	used  uintptr
	table *table
	steps []string // the purpose of each call, for errors
	made  []traits // of each call, set by clone: afterwards mem may hold the next program
	pidfd int32    // of the child
	err   error

	noSignal bool // the child's end sends no SIGCHLD; only wait4 with WALL reaps it
}

// traits are the parts of a call that the text of an error needs.
type traits struct {
	nr   uintptr
	kind kind
}

// newProgram returns an empty program in mem. It has room for maxCalls calls and `more`
// besides.
func newProgram(mem []byte, more int) *program {
	room := maxCalls + more
	p := &program{mem: mem, pidfd: -1, steps: make([]string, 0, room)}
	p.table = (*table)(p.alloc(unsafe.Sizeof(table{})))
	p.table.calls = (*call)(p.alloc(uintptr(room) * unsafe.Sizeof(call{})))
	return p
}

// alloc returns zeroed memory of the program, aligned for any type.
func (p *program) alloc(size uintptr) unsafe.Pointer {
	at := (p.used + 15) &^ 15
	if at+size > uintptr(len(p.mem))-stackSize-tlsSize {
		p.err = fmt.Errorf("arguments and environment: %w", unix.E2BIG)
		at = 0 // any address will do: the program is not run
		size = min(size, 4096)
	}
	clear(p.mem[at : at+size])
	p.used = max(p.used, at+size)
	return unsafe.Pointer(&p.mem[at])
}

func (p *program) call(i int) *call {
	return (*call)(unsafe.Add(unsafe.Pointer(p.table.calls), uintptr(i)*unsafe.Sizeof(call{})))
}

// do appends a call. Any result except an error is fine unless the caller sets want.
func (p *program) do(step string, nr uintptr, arg ...uintptr) *call {
	if room := cap(p.steps); len(p.steps) == room {
		p.err = fmt.Errorf("more than %d steps: %w", room, unix.E2BIG)
		p.steps = p.steps[:room-1]
	}
	c := p.call(len(p.steps))
	*c = call{nr: nr, want: anything}
	copy(c.arg[:], arg)
	p.steps = append(p.steps, step)
	p.table.n = int32(len(p.steps))
	return c
}

// slot returns a place for the result of a call, which later calls can use as an argument.
func (p *program) slot() *int32 {
	s := (*int32)(p.alloc(4))
	*s = -1
	return s
}

// cString returns the address of s as a C string. Config.check has refused NUL bytes.
func (p *program) cString(s string) uintptr {
	m := p.alloc(uintptr(len(s)) + 1)
	copy(unsafe.Slice((*byte)(m), len(s)), s)
	return uintptr(m)
}

// cStrings returns the address of a NULL-terminated array of C strings.
func (p *program) cStrings(all []string) uintptr {
	array := unsafe.Slice((*uintptr)(p.alloc(uintptr(len(all)+1)*8)), len(all)+1)
	for i, s := range all {
		array[i] = p.cString(s)
	}
	return uintptr(unsafe.Pointer(&array[0]))
}

// copyIn copies v into the program's memory and returns its address. v must hold no pointers.
func copyIn[T any](p *program, v T) uintptr {
	m := (*T)(p.alloc(unsafe.Sizeof(v)))
	*m = v
	return uintptr(unsafe.Pointer(m))
}

// cloneArgs is struct clone_args of clone3(2), version 2.
type cloneArgs struct {
	flags                        uint64
	pidfd                        uint64
	_                            [2]uint64 // child_tid, parent_tid
	exitSignal, stack, stackSize uint64
	_                            [3]uint64 // tls, set_tid, set_tid_size
	cgroup                       uint64
}

// clone creates the child, which runs the program and never returns. The child shares the
// parent's descriptors until it sends 'd' (descriptors.go). The calling goroutine must be
// locked to its thread. Signals are blocked during the clone and the child has no signal
// handlers (CLONE_CLEAR_SIGHAND, Linux 5.5), so no handler of the Go runtime runs there.
func (p *program) clone(args *cloneArgs) (pid int, err error) {
	if p.err != nil {
		return 0, p.err
	}
	p.weaken()
	p.made = make([]traits, len(p.steps))
	for i := range p.made {
		p.made[i] = traits{p.call(i).nr, p.call(i).kind}
	}
	top := unsafe.Pointer(&p.mem[len(p.mem)-tlsSize])
	clear(p.mem[len(p.mem)-tlsSize:])
	args.flags |= unix.CLONE_CLEAR_SIGHAND | unix.CLONE_FILES | unix.CLONE_PIDFD
	args.pidfd = uint64(uintptr(unsafe.Pointer(&p.pidfd)))
	if !p.noSignal {
		args.exitSignal = uint64(unix.SIGCHLD)
	}
	args.stack, args.stackSize = uint64(uintptr(top)-stackSize), stackSize
	full := ^uint64(0)
	var old uint64
	if err := sigmask(&full, &old); err != nil {
		return 0, err
	}
	tls := uintptr(0) // 0: the child uses its copy of the thread's own
	if canExcludeFromFork {
		tls = uintptr(top) + tlsSize/2
	}
	r := rawClone(args, unsafe.Sizeof(*args), tls, p.table)
	sigmask(&old, nil)
	if e := int(r); e < 0 {
		return 0, syscall.Errno(-e)
	}
	return int(r), nil
}

func sigmask(set, old *uint64) error {
	_, _, e := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// runChild (run.go) and what it calls run in the child: without allocation, stack growth,
// write barriers or calls into the Go runtime, and only with static data and the
// program's memory.

var _ = runChild // called by assembly
