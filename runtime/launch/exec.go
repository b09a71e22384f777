package launch

import (
	"errors"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Entry is one more process in a running container.
type Entry struct {
	Target  int // pidfd of the container's first process
	UserNS  bool
	Cgroups []string // directories that the process joins
	// CgroupInto is the v2 one of them, into which it is cloned; "" if none.
	CgroupInto string
	Process    Process
	Stdio      [3]int // descriptors of ours for 0, 1 and 2; not used with a TTY
	TTY        bool   // a pseudo-terminal of the container's own is 0, 1 and 2
	Size       Size   // of the terminal
}

// Size of a terminal, in characters; zero where nobody knows.
type Size struct {
	Rows uint16 `json:"rows,omitempty"`
	Cols uint16 `json:"cols,omitempty"`
}

// execPatience is how long a command may take to be executed.
const execTimeout = 10 * time.Second

// Exec starts it and returns when its command was executed, with the master of
// its terminal if it has one, else -1. As in Start, born gets the pid first, and
// once more that of a process which takes its place; after an error the last of
// them may live: the caller ends it.
// setns(2) to a user namespace refuses a process with several threads, so the
// child joins by itself: it has but one.
//
// A worker only clones. From setns on the child is the container's to stop, so
// waiting for it must hold up nobody else, and not for ever.
func (l *Launcher) Exec(e *Entry, born func(pid int)) (master int, err error) {
	null, err := l.openNull(unix.O_WRONLY)
	if err != nil {
		return -1, &Error{AtStep, "open /dev/null", errnoOf(err), ""}
	}
	defer unix.Close(null)
	tasks, err := e.tasks()
	defer func() { closeAll(tasks) }()
	if err != nil {
		return -1, err
	}
	outside := startsOutside(e)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, &Error{AtStep, "make gate", errnoOf(err), ""}
	}
	defer unix.Close(pair[0])
	patience := unix.NsecToTimeval(execTimeout.Nanoseconds())
	err = unix.SetsockoptTimeval(pair[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience)
	if err == nil && outside {
		err = unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1) // for hearPid
	}
	entry := gateEnd{gate: pair[0]}
	pid := 0
	var w window
	if err == nil {
		std := [3]int{null, null, null} // until it has its own terminal
		if !e.TTY {
			var opened []int
			std, opened = l.replaceNull(e.Stdio)
			defer func() { closeAll(opened) }()
		}
		w, err = l.fillWindow(fds{std[0], std[1], std[2], pair[1], null, e.Target})
	}
	unix.Close(pair[1]) // it is in the window
	if err != nil {
		return -1, &Error{AtStep, "prepare", errnoOf(err), ""}
	}
	l.do(func(on *worker) {
		entry.program = execProgram(on.memory(e.Process.size()), e, outside, w, tasks)
		pid, err = on.cloneInto(e.Target, outside, e.CgroupInto, entry.program)
	})
	if err != nil {
		l.emptyWindow(w)
		return -1, &Error{AtStep, "clone", errnoOf(err), ""}
	}
	defer unix.Close(int(entry.program.pidfd))
	born(pid)
	err = entry.expectSeparate()
	l.emptyWindow(w)
	master = -1
	if err == nil {
		master, err = entry.letIn(e)
	}
	if err == nil && outside {
		if pid, err = entry.expectPid(pid); err == nil {
			born(pid)
		}
	}
	if err == nil {
		if _, err = entry.expect(0); err != nil && master >= 0 {
			unix.Close(master)
		}
	}
	if err != nil {
		return -1, launchError(err)
	}
	return master, nil
}

// stdio are the descriptors for 0, 1 and 2, with ours of /dev/null for the client's.
func (l *Launcher) replaceNull(given [3]int) (std [3]int, opened []int) {
	std = given
	for i, fd := range given {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil {
			continue
		}
		if null, err := l.openNull(flags & unix.O_ACCMODE); err == nil {
			std[i] = null
			opened = append(opened, null)
		}
	}
	return std, opened
}

// tasks opens the files by which the child joins the v1 cgroups, those that
// there are.
func (e *Entry) tasks() (fds []int, err error) {
	for _, dir := range e.Cgroups {
		if dir == e.CgroupInto {
			continue
		}
		fd, err := unix.Open(dir+"/tasks", unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return fds, &Error{AtStep, "open " + dir + "/tasks", errnoOf(err), ""}
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// letIn lets the child go on and gets its terminal.
func (l *gateEnd) letIn(e *Entry) (master int, err error) {
	if err := l.send('m'); err != nil {
		return -1, err
	}
	master = -1
	if e.TTY {
		fd, err := l.expect('p')
		if err != nil || len(fd) != 1 {
			closeAll(fd)
			return -1, errors.Join(err, unix.EPROTO)
		}
		master = fd[0]
	}
	return master, nil
}

// cloneInto makes a child in the target's pid namespace: only children enter
// one (pid_namespaces(7)), so this thread's are put there for a moment. One that
// begins outside has no need of it.
func (w *worker) cloneInto(target int, outside bool, cgroup string, p *program) (int, error) {
	args := &cloneArgs{}
	if cgroup != "" {
		fd, err := unix.Open(cgroup, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, err
		}
		defer unix.Close(fd)
		args.flags, args.cgroup = unix.CLONE_INTO_CGROUP, uint64(fd)
	}
	if outside {
		return p.clone(args)
	}
	own, err := unix.Open("/proc/self/ns/pid", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(own)
	if err := unix.Setns(target, unix.CLONE_NEWPID); err != nil {
		return 0, os.NewSyscallError("setns", err)
	}
	pid, err := p.clone(args)
	if e := unix.Setns(own, unix.CLONE_NEWPID); e != nil {
		panic("leave pid namespace: " + e.Error()) // the next start would be in it
	}
	return pid, err
}

// beginsOutside reports whether the child of an exec begins outside of the container's pid
// namespace.
var startsOutside = func(e *Entry) bool { return !e.UserNS }

// joiner is the program of an exec's child. Without a user namespace it begins
// outside of the container's pid namespace: with SYS_PTRACE root inside could take
// hold of any process that he sees, dumpable or not, and this one still has all
// capabilities and the host's root (CVE-2016-9962). When it has given up both it
// hands on to a sibling inside.
func execProgram(mem []byte, e *Entry, outside bool, w window, tasks []int) *program {
	p := newProgram(mem, 0)
	p.join(tasks)
	p.keepWindow(w, windowSize)
	p.waitForGate("wait to be known")
	ns := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP)
	if e.UserNS { // joining our own is EINVAL
		ns |= unix.CLONE_NEWUSER
	}
	if outside {
		ns |= unix.CLONE_NEWPID // of children
	}
	p.do("join namespaces", unix.SYS_SETNS, targetFD, ns)
	p.weakenJoined()
	p.do("setsid", unix.SYS_SETSID)
	p.becomeRoot()
	if e.TTY {
		p.terminal(e.Process.UID, e.Size)
	}
	p.confine(&e.Process)
	if outside {
		p.continueInSibling()
	}
	if e.TTY {
		p.do("make it the controlling terminal", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
	p.execute(&e.Process)
	return p
}

// handOn has what follows done by a sibling, a child of our parent's as we are.
func (p *program) continueInSibling() {
	p.do("close what leads to the container's first process", unix.SYS_CLOSE, targetFD)
	told := (*pidMessage)(p.alloc(unsafe.Sizeof(pidMessage{})))
	told.letter = 'b'
	p.do("enter pid namespace", 0, uintptr(unsafe.Pointer(told))).kind = siblingCall
	p.do("setsid", unix.SYS_SETSID)
}

// pidMessage tells the parent of a process.
type pidMessage struct {
	letter byte
	_      [3]byte
	pid    int32
}

// handOn clones. In the sibling it returns 0; the caller ends, or it is the error.
//
//go:nosplit
//go:norace
//go:nocheckptr
func continueInSibling(c *call) syscall.Errno {
	m := *(**pidMessage)(unsafe.Pointer(&c.arg[0]))
	pid, _, e := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.CLONE_PARENT)|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if e != 0 || pid == 0 {
		return e
	}
	m.pid = int32(pid)
	syscall.RawSyscall6(unix.SYS_SENDTO, gateFD, uintptr(unsafe.Pointer(m)), unsafe.Sizeof(*m), unix.MSG_NOSIGNAL, 0, 0)
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}

// terminal opens a pseudo-terminal from the container's own devpts, sends its
// master to the parent and makes its slave 0, 1 and 2. The slave
// is had from the master (TIOCGPTPEER, Linux 4.13), not by a path, which would
// be the container's to choose; and it is not the admin's own terminal, into
// which the container could type.
func (p *program) terminal(uid uint32, size Size) {
	slave := p.slot()
	m := (*fdMessage)(p.alloc(unsafe.Sizeof(fdMessage{})))
	m.fill('p')
	master := &m.cmsg.fd
	how := unix.OpenHow{Flags: unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	p.do("open /dev/pts/ptmx", unix.SYS_OPENAT2, cwd, p.cString("/dev/pts/ptmx"), copyIn(p, how), unsafe.Sizeof(how)).into = master
	p.do("unlock terminal", unix.SYS_IOCTL, 0, unix.TIOCSPTLCK, copyIn(p, int32(0))).from[0] = master
	c := p.do("open terminal", unix.SYS_IOCTL, 0, unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	c.from[0], c.into = master, slave
	p.do("give terminal to the user", unix.SYS_FCHOWN, 0, uintptr(uid), ^uintptr(0)).from[0] = slave
	if size != (Size{}) { // before its command can ask
		p.do("size terminal", unix.SYS_IOCTL, 0, unix.TIOCSWINSZ, copyIn(p, unix.Winsize{Row: size.Rows, Col: size.Cols})).from[0] = master
	}
	p.do("send terminal", unix.SYS_SENDMSG, gateFD, uintptr(unsafe.Pointer(m)), unix.MSG_NOSIGNAL)
	for fd := range uintptr(3) {
		p.do("use terminal", unix.SYS_DUP3, 0, fd, 0).from[0] = slave
	}
}
