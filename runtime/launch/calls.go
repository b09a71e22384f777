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

// call is one system call of the child. It and all that it points to lie in
// the program's memory.
type call struct {
	nr   uintptr
	arg  [6]uintptr
	from [6]*int32 // where set, the argument is *from: the result of an earlier call
	into *int32    // where set, gets the result
	want int32     // the result must be this; any but an error will do if it is `anything`
	kind kind
}

type kind int32

const (
	plainCall   kind = iota
	execCall         // an execve: the next one is tried when it finds no file
	runMark          // from here on the workload may have run
	helperCall       // no call: the next arg[0] calls are for a vforked helper with its own mount namespace
	initCall         // no call: the rest is for a child; we become its reaping parent (init.go)
	siblingCall      // no call: the rest is for a sibling, whose pid is told; we end
)

const anything = -1

// table is what the child sees: the first thing in the program's memory.
type table struct {
	calls  *call
	n      int32
	failed failure
}

// failure is what the child tells the parent, over the gate and in the ran
// file: which call, which error.
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

// program is all that a child does. Its memory is the only part of ours that
// the child gets besides code and static data (see withhold): the table, the
// calls, what they point to, and the child's stack at the end.
type program struct {
	mem   []byte
	used  uintptr
	table *table
	steps []string // what each call is for, named in errors
	made  []traits // of each call, once it is cloned: mem may be the next program's by then
	pidfd int32    // of the child
	err   error
}

// traits are what an error's text needs to know of a call.
type traits struct {
	nr   uintptr
	kind kind
}

// newProgram starts a program in mem, which is zeroed as far as it is used.
// It has room for more calls than every program may need.
func newProgram(mem []byte, more int) *program {
	room := maxCalls + more
	p := &program{mem: mem, pidfd: -1, steps: make([]string, 0, room)}
	p.table = (*table)(p.alloc(unsafe.Sizeof(table{})))
	p.table.calls = (*call)(p.alloc(uintptr(room) * unsafe.Sizeof(call{})))
	return p
}

// alloc is zeroed memory that the child has, too, aligned for anything.
func (p *program) alloc(size uintptr) unsafe.Pointer {
	at := (p.used + 15) &^ 15
	if at+size > uintptr(len(p.mem))-stackSize-tlsSize {
		p.err = fmt.Errorf("arguments and environment: %w", unix.E2BIG)
		at = 0 // anything: the program is not run
		size = min(size, 4096)
	}
	clear(p.mem[at : at+size])
	p.used = max(p.used, at+size)
	return unsafe.Pointer(&p.mem[at])
}

func (p *program) call(i int) *call {
	return (*call)(unsafe.Add(unsafe.Pointer(p.table.calls), uintptr(i)*unsafe.Sizeof(call{})))
}

// do appends a call whose result doesn't matter beyond being no error.
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

// slot is a place for a result, to be used as an argument of later calls.
func (p *program) slot() *int32 {
	s := (*int32)(p.alloc(4))
	*s = -1
	return s
}

// text is a C string. Config.check has refused NUL bytes.
func (p *program) cString(s string) uintptr {
	m := p.alloc(uintptr(len(s)) + 1)
	copy(unsafe.Slice((*byte)(m), len(s)), s)
	return uintptr(m)
}

// texts is a NULL-terminated array of C strings.
func (p *program) cStrings(all []string) uintptr {
	array := unsafe.Slice((*uintptr)(p.alloc(uintptr(len(all)+1)*8)), len(all)+1)
	for i, s := range all {
		array[i] = p.cString(s)
	}
	return uintptr(unsafe.Pointer(&array[0]))
}

// data is a copy of v, which must hold no pointers.
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

// clone makes the child, which runs the program and never returns. It shares our
// descriptors until it says 'd' (descriptors.go). The calling
// goroutine must be locked to its thread. Signals are blocked around it and
// the child has no handlers (CLONE_CLEAR_SIGHAND, Linux 5.5): none of the Go
// runtime's ever runs there.
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
	args.exitSignal = uint64(unix.SIGCHLD)
	args.stack, args.stackSize = uint64(uintptr(top)-stackSize), stackSize
	full := ^uint64(0)
	var old uint64
	if err := sigmask(&full, &old); err != nil {
		return 0, err
	}
	tls := uintptr(0) // the thread's own, a copy of which the child has
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

// The rest runs in the child: no allocation, no stack growth, no write barrier,
// no call into the Go runtime, no memory but static data and the program's.

var _ = runChild // called by assembly
