package launch

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Entry is one more process in a running container.
type Entry struct {
	Pid     int // of the container's first process, in the host's pid namespace
	UserNS  bool
	Cgroups []string // as in Config
	Process Process
	Stdio   [3]int // descriptors of ours for 0, 1 and 2
}

// Exec starts it and returns when its command was executed. As in Start, born
// gets the pid first. setns(2) to a user namespace refuses a process with
// several threads, so the child joins by itself: it has but one.
func (l *Launcher) Exec(e *Entry, born func(pid int)) error {
	var err error
	l.do(func(w *worker) { err = w.exec(e, born) })
	return err
}

func (w *worker) exec(e *Entry, born func(int)) error {
	target, err := unix.PidfdOpen(e.Pid, 0)
	if err != nil {
		return &Error{AtStep, "open container's process", errnoOf(err), ""}
	}
	defer unix.Close(target)
	null, err := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &Error{AtStep, "open /dev/null", errnoOf(err), ""}
	}
	defer unix.Close(null)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return &Error{AtStep, "make gate", errnoOf(err), ""}
	}
	defer unix.Close(pair[0])
	entry := line{program: joiner(w.memory(e.Process.size()), e, fds{e.Stdio[0], e.Stdio[1], e.Stdio[2], pair[1], null, target}), gate: pair[0]}
	pid, err := w.cloneInto(target, entry.program)
	unix.Close(pair[1])
	if err != nil {
		return &Error{AtStep, "clone", errnoOf(err), ""}
	}
	born(pid)
	for _, dir := range e.Cgroups {
		if err := writeAt(unix.AT_FDCWD, dir+"/cgroup.procs", strconv.Itoa(pid)); err != nil {
			unix.Kill(pid, unix.SIGKILL)
			return &Error{AtStep, "join cgroup " + dir, errnoOf(err), ""}
		}
	}
	if err := entry.tell('m'); err != nil {
		unix.Kill(pid, unix.SIGKILL)
		return reason(err)
	}
	if _, err := entry.hear(0); err != nil {
		return reason(err)
	}
	return nil
}

// cloneInto makes a child in the target's pid namespace: only children enter
// one (pid_namespaces(7)), so this thread's are put there for a moment.
func (w *worker) cloneInto(target int, p *program) (int, error) {
	own, err := unix.Open("/proc/self/ns/pid", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(own)
	if err := unix.Setns(target, unix.CLONE_NEWPID); err != nil {
		return 0, os.NewSyscallError("setns", err)
	}
	pid, err := p.clone(&cloneArgs{})
	if e := unix.Setns(own, unix.CLONE_NEWPID); e != nil {
		panic("leave pid namespace: " + e.Error()) // the next start would be in it
	}
	return pid, err
}

// joiner is the program of an exec's child.
func joiner(mem []byte, e *Entry, f fds) *program {
	p := newProgram(mem)
	p.keepOnly(f)
	p.hearGate("wait for cgroups")
	ns := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP)
	if e.UserNS { // joining our own is EINVAL
		ns |= unix.CLONE_NEWUSER
	}
	p.do("join namespaces", unix.SYS_SETNS, targetFD, ns)
	p.do("setsid", unix.SYS_SETSID)
	p.becomeRoot()
	p.execute(&e.Process)
	return p
}
