package launch

import (
	"errors"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A child inherits much from the thread that clones it, and the keeper much from the process
// that started it. ResetThread takes that back on the cloning thread, outside of user
// namespaces: inside one, a lower nice value or oom_score_adj can't be set.

// defaultSlack is the timer slack of a process that nobody has changed, in nanoseconds.
const defaultSlack = 50_000

// ResetThread gives the calling thread the CPUs, scheduling, I/O priority, timer slack,
// personality, memory policy and securebits of a process that nobody has changed. The
// calling goroutine must be locked to its thread. It does all it can and returns the first error.
func ResetThread() error {
	var cpus [128]uint64 // a machine has fewer; the kernel takes those that there are
	for i := range cpus {
		cpus[i] = ^uint64(0)
	}
	var failed error
	do := func(what string, nr uintptr, args ...uintptr) {
		var a [3]uintptr
		copy(a[:], args)
		_, _, e := unix.RawSyscall(nr, a[0], a[1], a[2])
		if e != 0 && e != unix.ENOSYS && failed == nil { // ENOSYS: this kernel has no such thing
			failed = os.NewSyscallError("reset "+what, e)
		}
	}
	do("CPU affinity", unix.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(cpus), uintptr(unsafe.Pointer(&cpus)))
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}
	do("scheduling policy and nice value", unix.SYS_SCHED_SETATTR, 0, uintptr(unsafe.Pointer(&attr)), 0)
	const process, noClass = 1, 0 // IOPRIO_WHO_PROCESS, IOPRIO_CLASS_NONE
	do("I/O priority", unix.SYS_IOPRIO_SET, process, 0, noClass)
	do("timer slack", unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, defaultSlack)
	do("personality", unix.SYS_PERSONALITY, 0)
	do("memory policy", unix.SYS_SET_MEMPOLICY, unix.MPOL_DEFAULT, 0, 0)
	do("securebits", unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, 0)
	return failed
}

// leaveLoginSession clears the login user id of the thread (the audit system's), which it has
// if an admin's login started this process. It can't be cleared where the kernel makes it
// immutable; then containers have it, too.
func leaveLoginSession() {
	const file, none = "/proc/thread-self/loginuid", "4294967295"
	if b, err := os.ReadFile(file); err == nil && string(b) != none {
		_ = os.WriteFile(file, []byte(none), 0)
	}
}

// resetChild resets what belongs to a whole process and can be set from outside alone.
func (l *Launcher) resetChild(pid int) error {
	err := writeAt(l.proc, strconv.Itoa(pid)+"/oom_score_adj", "0")
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return nil // it has died, which the caller notices
	}
	return err
}
