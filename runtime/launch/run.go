package launch

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// runChild makes the calls of the table. rawClone calls it on the child's own stack.
//
//go:nosplit
//go:norace
//go:nocheckptr
func runChild(t *table) {
	last := syscall.ENOENT
	ran := false
	for i := int32(0); i < t.n; i++ {
		c := t.at(i)
		if c.kind == helperCall {
			n := int32(c.arg[0])
			if rawVfork(unix.CLONE_VM|unix.CLONE_VFORK|unix.CLONE_FILES|unix.CLONE_NEWNS) == 0 {
				t.assist(i+1, n)
			}
			// 0x40000000 is __WALL: the helper ends without a signal.
			syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), 0, 0x40000000, 0, 0, 0)
			i += n
			continue
		}
		if c.kind == initCall {
			if e := runInit(c); e != 0 {
				t.fail(i, e, ran)
			}
			continue
		}
		if c.kind == siblingCall {
			if e := continueInSibling(c); e != 0 {
				t.fail(i, e, ran)
			}
			continue
		}
		if c.kind == runMark {
			ran = true
		}
		e := c.invoke()
		switch {
		case e == 0:
		case c.kind == execCall && (e == unix.ENOENT || e == unix.EACCES || e == unix.ENOTDIR || e == unix.ELOOP):
			if e == unix.EACCES {
				last = e // says more than a later "not found", as in execvp(3)
			}
		default:
			t.fail(i, e, ran)
		}
	}
	t.fail(t.n-1, last, ran)
}

//go:nosplit
//go:norace
//go:nocheckptr
func (t *table) at(i int32) *call {
	return (*call)(unsafe.Add(unsafe.Pointer(t.calls), uintptr(i)*unsafe.Sizeof(call{})))
}

// assist makes the helper's calls. The helper shares the child's memory.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (t *table) assist(from, n int32) {
	for i := from; i < from+n; i++ {
		if e := t.at(i).invoke(); e != 0 {
			t.fail(i, e, false)
		}
	}
	syscall.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
}

//go:nosplit
//go:norace
//go:nocheckptr
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
		return e
	}
	if c.want != anything && int32(r) != c.want {
		return unix.EPIPE // a short read of the gate: the parent has died
	}
	if c.into != nil {
		*c.into = int32(r)
	}
	return 0
}

//go:nosplit
//go:norace
//go:nocheckptr
func (t *table) fail(index int32, e syscall.Errno, ran bool) {
	t.failed.runMark, t.failed.index, t.failed.errno = 'e', index, int32(e)
	at, size := uintptr(unsafe.Pointer(&t.failed)), unsafe.Sizeof(t.failed)
	if ran {
		syscall.RawSyscall6(unix.SYS_PWRITE64, ranFD, at, size, 0, 0, 0)
	}
	syscall.RawSyscall6(unix.SYS_SENDTO, gateFD, at, size, unix.MSG_NOSIGNAL, 0, 0)
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, exitLaunch, 0, 0)
	}
}
