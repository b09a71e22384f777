package launch

import (
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	safe      = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	cwd       = ^uintptr(99)      // AT_FDCWD, -100
	last      = ^uintptr(0) >> 32 // descriptor
	rootUmask = 0o022
)

// fds are the parent's descriptors that the child gets as 0, 1, 2, gateFD, ranFD and, in
// exec, targetFD.
type fds []int

// startProgram returns the program of a container's first process, the child's half of
// start.go. root is the container's directory in the nursery, w holds the child's
// descriptors, and tasks are the tasks files of the cgroups that it joins.
func startProgram(mem []byte, c *Config, root string, w window, tasks []int) *program {
	p := newProgram(mem, c.moreCalls())
	p.join(tasks)
	p.keepWindow(w, ranFD+1)
	p.waitForGate("wait for id maps")
	p.do("setsid", unix.SYS_SETSID)
	p.becomeRoot()
	p.procFilesystem(c)
	p.waitForGate("wait for the mounts")
	p.do("copy mount namespace", unix.SYS_UNSHARE, unix.CLONE_NEWNS)
	p.do("report the copy", unix.SYS_SENDTO, gateFD, p.cString("u"), 1, unix.MSG_NOSIGNAL)
	tree := p.unlockedRoot(root)
	p.dev(tree, c, root)
	if !c.HostNetwork {
		p.loopback()
	}
	p.do("set host name", unix.SYS_SETHOSTNAME, p.cString(c.Hostname), uintptr(len(c.Hostname)))
	p.do("enter root", unix.SYS_FCHDIR).from[0] = tree
	dot := p.cString(".")
	p.do("pivot root", unix.SYS_PIVOT_ROOT, dot, dot)
	p.do("unmount old root", unix.SYS_UMOUNT2, dot, unix.MNT_DETACH)
	p.do("enter root", unix.SYS_CHDIR, p.cString("/"))
	// After the child has joined its cgroups, so that they are the root of the namespace.
	p.do("unshare cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	p.confine(&c.Process)
	if c.Process.Init {
		p.init()
	}
	p.execute(&c.Process)
	return p
}

// join joins v1 cgroups by their open tasks files (cgroups(7)). A process with one thread
// that moves itself takes no lock there. Being moved by another process, or through
// cgroup.procs, waits up to 20 ms for an RCU grace period (cgroup_threadgroup_rwsem, Linux
// 6.18). The kernel checks the permissions of the process that opened the file.
func (p *program) join(tasks []int) {
	for _, fd := range tasks {
		p.do("join cgroup", unix.SYS_WRITE, uintptr(fd), p.cString("0"), 1).want = 1
	}
}

// keepWindow gives the child its own descriptor table, moves the first n descriptors of the
// window to 0 and up, and closes the rest: if the child held the gate of another start
// open, the parent would never read its end of file.
func (p *program) keepWindow(w window, n int) {
	from := uintptr(w) + uintptr(n)
	p.do("have descriptors of its own", unix.SYS_CLOSE_RANGE, from, last, unix.CLOSE_RANGE_UNSHARE)
	p.do("report own descriptors", unix.SYS_SENDTO, uintptr(w)+gateFD, p.cString("d"), 1, unix.MSG_NOSIGNAL)
	for k := range n {
		flags := uintptr(0)
		if k >= gateFD {
			flags = unix.O_CLOEXEC
		}
		p.do("keep descriptor", unix.SYS_DUP3, uintptr(w)+uintptr(k), uintptr(k), flags)
	}
	p.do("close the rest", unix.SYS_CLOSE_RANGE, uintptr(n), last, 0)
	// The container must not reach this process by ptrace or /proc/PID/mem while it has the
	// keeper's memory. Entering a user namespace does not clear the flag; execve resets it.
	p.do("clear dumpable", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)
}

// waitForGate waits for one byte of the parent. End of file means that the parent died or
// cancelled the start.
func (p *program) waitForGate(step string) {
	p.do(step, unix.SYS_READ, gateFD, copyIn(p, byte(0)), 1).want = 1
}

// becomeRoot sets the ids to 0, once the id maps are written. Otherwise execve would drop all
// capabilities.
func (p *program) becomeRoot() {
	if hasSessionKeyrings() { // the keeper's may be an admin's, and its holder can read its keys
		p.do("leave session keyring", unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0)
	}
	p.do("drop groups", unix.SYS_SETGROUPS, 0, 0)
	p.do("become group 0", unix.SYS_SETRESGID, 0, 0, 0)
	p.do("become user 0", unix.SYS_SETRESUID, 0, 0, 0)
}

// hasSessionKeyrings reports whether the kernel has session keyrings and allows their use
// (session-keyring(7)). Each container and each exec gets an empty one.
var hasSessionKeyrings = sync.OnceValue(func() bool {
	_, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	return err != unix.ENOSYS && err != unix.EPERM
})

// fdMessage is a message of one byte that carries a descriptor.
type fdMessage struct {
	msg  unix.Msghdr
	iov  unix.Iovec
	b    [8]byte
	cmsg struct {
		unix.Cmsghdr
		fd int32
	}
}

// fill sets up the message to carry the letter and the descriptor. m lies in the memory of a
// program.
func (m *fdMessage) fill(letter byte) {
	m.b[0] = letter
	m.iov.Base, m.iov.Len = &m.b[0], 1
	m.msg.Iov, m.msg.Iovlen = &m.iov, 1
	m.cmsg.Level, m.cmsg.Type = unix.SOL_SOCKET, unix.SCM_RIGHTS
	m.cmsg.SetLen(unix.CmsgLen(4))
	m.msg.Control = (*byte)(unsafe.Pointer(&m.cmsg))
	m.msg.SetControllen(unix.CmsgLen(4))
}

// procFilesystem makes proc and sends it to the parent. Proc has to be made inside the
// container's pid and user namespace, so not by the parent. But the parent has to attach
// it before the child copies the nursery, so that it is locked together with its masks.
// fsopen(2) needs a mount namespace of the caller's user namespace, and no process can go
// back from such a namespace into the nursery. So a short-lived helper enters one
// and leaves the detached mount in the shared descriptor table. The kernel allows a new proc
// only where an unmasked one is visible; that is why the nursery has a proc.
func (p *program) procFilesystem(c *Config) {
	m := (*fdMessage)(p.alloc(unsafe.Sizeof(fdMessage{})))
	var work *call
	if c.IDBase != 0 {
		work = p.do("make proc", 0)
		work.kind = helperCall
	}
	before := len(p.steps)
	p.filesystem("proc", safe, nil, &m.cmsg.fd)
	if work != nil {
		work.arg[0] = uintptr(len(p.steps) - before)
	}
	m.fill('f')
	p.do("send proc", unix.SYS_SENDMSG, gateFD, uintptr(unsafe.Pointer(m)), unix.MSG_NOSIGNAL)
}

// filesystem appends the calls that make a new file system as a detached mount, whose
// descriptor goes to *fd. kv are key, value, …
func (p *program) filesystem(kind string, attr uintptr, kv []string, fd *int32) {
	s := p.slot()
	p.do("open "+kind, unix.SYS_FSOPEN, p.cString(kind), unix.FSOPEN_CLOEXEC).into = s
	for i := 0; i < len(kv); i += 2 {
		p.do(kind+" option "+kv[i], unix.SYS_FSCONFIG, 0, unix.FSCONFIG_SET_STRING, p.cString(kv[i]), p.cString(kv[i+1]), 0).from[0] = s
	}
	p.do("create "+kind, unix.SYS_FSCONFIG, 0, unix.FSCONFIG_CMD_CREATE, 0, 0, 0).from[0] = s
	c := p.do("mount "+kind, unix.SYS_FSMOUNT, 0, unix.FSMOUNT_CLOEXEC, attr)
	c.from[0], c.into = s, fd
	p.do("close "+kind, unix.SYS_CLOSE).from[0] = s
}

// unlockedRoot attaches an unlocked copy of the root on top of the root, because
// pivot_root(2) refuses a locked mount. The mounts below and the mount flags stay locked.
func (p *program) unlockedRoot(root string) *int32 {
	tree, path, empty := p.slot(), p.cString(root), p.cString("")
	p.do("copy root", unix.SYS_OPEN_TREE, cwd, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE).into = tree
	p.do("attach root", unix.SYS_MOVE_MOUNT, 0, empty, cwd, path, unix.MOVE_MOUNT_F_EMPTY_PATH).from[0] = tree
	return tree
}

// attach attaches the detached mount at a name below dir. The container controls the names
// in its root (dev may be a link to /), so every name is resolved like this.
func (p *program) attach(what string, mount, dir *int32, name string) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS}
	at, empty := p.slot(), p.cString("")
	c := p.do("find "+what, unix.SYS_OPENAT2, 0, p.cString(name), copyIn(p, how), unsafe.Sizeof(how))
	c.from[0], c.into = dir, at
	c = p.do("attach "+what, unix.SYS_MOVE_MOUNT, 0, empty, 0, empty, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	c.from[0], c.from[2] = mount, at
}

// loopback brings lo up (netdevice(7), SIOCSIFFLAGS).
func (p *program) loopback() {
	ifr := struct {
		name  [unix.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{flags: unix.IFF_UP | unix.IFF_RUNNING}
	copy(ifr.name[:], "lo")
	s := p.slot()
	p.do("open socket for lo", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0).into = s
	p.do("bring lo up", unix.SYS_IOCTL, 0, unix.SIOCSIFFLAGS, copyIn(p, ifr)).from[0] = s
}

// explain returns the error for a failed call of the child.
func (p *program) explain(f failure) *Error {
	e := &Error{Where: AtStep, Errno: syscall.Errno(f.errno), Step: "start"}
	if f.index < 0 || int(f.index) >= len(p.made) {
		return e
	}
	c := p.made[f.index]
	e.Step = p.steps[f.index]
	if c.kind == execCall {
		e.Where, e.Hint = AtCommand, commandHint(e.Errno)
	}
	if c.nr == unix.SYS_PRLIMIT64 && e.Errno == unix.EPERM {
		e.Hint = "above the keeper's own hard limit (raising it needs CAP_SYS_RESOURCE) or above fs.nr_open"
	}
	return e
}

// CommandError returns the error for a command that can't be executed.
func CommandError(command string, errno syscall.Errno) error {
	return &Error{AtCommand, "execute " + command, errno, commandHint(errno)}
}

func commandHint(e syscall.Errno) string {
	switch e {
	case unix.ENOENT:
		return "the file or its interpreter does not exist in the container's root"
	case unix.EACCES:
		return "not executable for this user"
	case unix.ENOEXEC:
		return "not a program for this machine; a script needs a #! line"
	}
	return ""
}
