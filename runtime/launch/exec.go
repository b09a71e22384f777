package launch

import (
	"errors"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Entry describes one more process in a running container.
type Entry struct {
	Target  int // pidfd of the container's first process
	UserNS  bool
	Cgroups []string // directories that the process joins
	// CgroupInto is the v2 one of Cgroups, into which the process is cloned; "" if none.
	CgroupInto string
	Process    Process
	Stdio      [3]int // the caller's descriptors for 0, 1 and 2; not used with a TTY
	TTY        bool   // a pseudo-terminal of the container's own is 0, 1 and 2
	Size       Size   // of the terminal
}

// Size is the size of a terminal in characters; zero if unknown.
type Size struct {
	Rows uint16 `json:"rows,omitempty"`
	Cols uint16 `json:"cols,omitempty"`
}

// execTimeout is how long the child may take until it executes its command.
const execTimeout = 10 * time.Second

// Exec starts the process and returns when its command was executed. It returns the master of
// the process's terminal, or -1 without a terminal. As in Start, it first calls cloned with the pid, and
// calls it again if another process takes the place of the first. After an error the
// last process may still live: the caller kills it.
//
// setns(2) to a user namespace refuses a process with several threads. The child has only
// one, so it joins the namespaces itself.
//
// A worker only clones. After setns the container can stop the child, so waiting for the
// child must not block a worker and must have a timeout.
func (l *Launcher) Exec(e *Entry, cloned func(pid int)) (master int, err error) {
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
		err = unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1) // for expectPid
	}
	entry := gateEnd{gate: pair[0]}
	pid := 0
	var w window
	if err == nil {
		std := [3]int{null, null, null} // until the child has its own terminal
		if !e.TTY {
			var opened []int
			std, opened = l.replaceNull(e.Stdio)
			defer func() { closeAll(opened) }()
		}
		w, err = l.fillWindow(fds{std[0], std[1], std[2], pair[1], null, e.Target})
	}
	unix.Close(pair[1]) // the window has a copy
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
	cloned(pid)
	err = errors.Join(l.resetChild(pid), entry.expectSeparate())
	l.emptyWindow(w)
	master = -1
	if err == nil {
		master, err = entry.letIn(e)
	}
	if err == nil && outside {
		if pid, err = entry.expectPid(pid); err == nil {
			cloned(pid)
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

// replaceNull returns given with each /dev/null of the client replaced by the launcher's own.
// opened are the new descriptors.
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

// tasks opens the tasks files of the existing v1 cgroups, by which the child joins them.
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

// letIn lets the child go on and returns the master of its terminal, -1 without one.
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

// cloneInto creates a child in the target's pid namespace, or in the host's if outside is
// set. Only children enter a pid namespace (pid_namespaces(7)), so the thread sets
// the namespace of its children for a moment.
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

// startsOutside reports whether the child of an exec starts outside the container's pid
// namespace. Test builds replace it.
var startsOutside = func(e *Entry) bool { return !e.UserNS }

// execProgram returns the program of an exec's child. Without a user namespace the child starts
// outside the container's pid namespace: root in the container with SYS_PTRACE could
// attach to any process that it sees, dumpable or not, and this one still has all
// capabilities and the host's root (CVE-2016-9962). After it has dropped both, a sibling
// inside continues.
func execProgram(mem []byte, e *Entry, outside bool, w window, tasks []int) *program {
	p := newProgram(mem, 0)
	p.join(tasks)
	p.keepWindow(w, windowSize)
	p.waitForGate("wait for the keeper")
	ns := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP)
	if e.UserNS { // joining our own is EINVAL
		ns |= unix.CLONE_NEWUSER
	}
	if outside {
		ns |= unix.CLONE_NEWPID // of later children
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

// handOn makes a sibling, another child of the keeper, do the remaining calls.
func (p *program) continueInSibling() {
	p.do("close what leads to the container's first process", unix.SYS_CLOSE, targetFD)
	told := (*pidMessage)(p.alloc(unsafe.Sizeof(pidMessage{})))
	told.letter = 'b'
	p.do("enter pid namespace", 0, uintptr(unsafe.Pointer(told))).kind = siblingCall
	p.do("setsid", unix.SYS_SETSID)
}

// pidMessage sends the pid of the sibling to the keeper.
type pidMessage struct {
	letter byte
	_      [3]byte
	pid    int32
}

// continueInSibling clones a sibling, in which it returns 0. The caller exits; if the clone
// fails, the error is returned to it.
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

// terminal appends the calls that open a pseudo-terminal from the container's own devpts, send
// its master to the keeper and make its slave 0, 1 and 2. The slave comes from the master
// (TIOCGPTPEER, Linux 4.13), not from a path that the container controls. The admin's own
// terminal is not passed in, because the container could type into it.
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
