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

// fds are the parent's numbers of what the child keeps as 0, 1, 2, gateFD,
// ranFD and, in exec, targetFD.
type fds []int

// childOf is the program of a container's first process; root is where the
// parent attaches its tree in the nursery, w are its descriptors, tasks the
// cgroups that it joins. It is the child's half of start.go.
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
	p.do("tell of the copy", unix.SYS_SENDTO, gateFD, p.cString("u"), 1, unix.MSG_NOSIGNAL)
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
	// Late, so that the cgroups that we joined are the root of it.
	p.do("unshare cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	p.confine(&c.Process)
	if c.Process.Init {
		p.init()
	}
	p.execute(&c.Process)
	return p
}

// join joins v1 cgroups by their open tasks files (cgroups(7)). A process with
// one thread that moves itself takes no lock there; one that is moved by another,
// or by cgroup.procs, waits for an RCU grace period of up to 20 ms
// (cgroup_threadgroup_rwsem, Linux 6.18). What counts is who opened the file.
func (p *program) join(tasks []int) {
	for _, fd := range tasks {
		p.do("join cgroup", unix.SYS_WRITE, uintptr(fd), p.cString("0"), 1).want = 1
	}
}

// keepOnly leaves our table of descriptors, moves the n in a window to 0–5 and
// closes the rest: another start's gate, held open here, would hide its end of file.
func (p *program) keepWindow(w window, n int) {
	from := uintptr(w) + uintptr(n)
	p.do("have descriptors of its own", unix.SYS_CLOSE_RANGE, from, last, unix.CLOSE_RANGE_UNSHARE)
	p.do("tell of them", unix.SYS_SENDTO, uintptr(w)+gateFD, p.cString("d"), 1, unix.MSG_NOSIGNAL)
	for k := range n {
		flags := uintptr(0)
		if k >= gateFD {
			flags = unix.O_CLOEXEC
		}
		p.do("keep descriptor", unix.SYS_DUP3, uintptr(w)+uintptr(k), uintptr(k), flags)
	}
	p.do("close the rest", unix.SYS_CLOSE_RANGE, uintptr(n), last, 0)
	// Never visible to ptrace or /proc/PID/mem from inside while this is still
	// our memory; execve sets it back. Entering a user namespace doesn't clear it.
	p.do("clear dumpable", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)
}

// hearGate waits for one byte of the parent. End of file: it died or gave up.
func (p *program) waitForGate(step string) {
	p.do(step, unix.SYS_READ, gateFD, copyIn(p, byte(0)), 1).want = 1
}

// becomeRoot is possible after the maps were written. Without it execve would
// drop all capabilities.
func (p *program) becomeRoot() {
	if hasSessionKeyrings() { // ours may be an admin's, and whoever holds one can read its keys
		p.do("leave session keyring", unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0)
	}
	p.do("drop groups", unix.SYS_SETGROUPS, 0, 0)
	p.do("become group 0", unix.SYS_SETRESGID, 0, 0, 0)
	p.do("become user 0", unix.SYS_SETRESUID, 0, 0, 0)
}

// hasKeyrings says whether the kernel has session keyrings and lets us at them
// (session-keyring(7)). Each container, and each exec, gets an empty one.
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

// fill makes it carry the letter and the descriptor, from memory of a program.
func (m *fdMessage) fill(letter byte) {
	m.b[0] = letter
	m.iov.Base, m.iov.Len = &m.b[0], 1
	m.msg.Iov, m.msg.Iovlen = &m.iov, 1
	m.cmsg.Level, m.cmsg.Type = unix.SOL_SOCKET, unix.SCM_RIGHTS
	m.cmsg.SetLen(unix.CmsgLen(4))
	m.msg.Control = (*byte)(unsafe.Pointer(&m.cmsg))
	m.msg.SetControllen(unix.CmsgLen(4))
}

// procFilesystem makes proc and sends it to the parent. It has to be made inside
// the container's pid and user namespace, so not by the parent; but to be locked
// with its masks it has to be attached by the parent, before the copy. fsopen(2)
// needs a mount namespace of our own, and there is no way back from one into the
// nursery: so a short-lived helper takes one and leaves a detached mount in the
// shared descriptor table. The kernel allows it only where an unmasked one is
// visible, which is why the nursery holds a proc.
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

// filesystem makes a new one as a detached mount, into fd. kv are key, value, …
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

// unlockedRoot puts an unlocked copy of the root on top of it: a locked mount
// can't be pivoted to. Mounts below stay locked, and so do the flags.
func (p *program) unlockedRoot(root string) *int32 {
	tree, path, empty := p.slot(), p.cString(root), p.cString("")
	p.do("copy root", unix.SYS_OPEN_TREE, cwd, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE).into = tree
	p.do("attach root", unix.SYS_MOVE_MOUNT, 0, empty, cwd, path, unix.MOVE_MOUNT_F_EMPTY_PATH).from[0] = tree
	return tree
}

// attach moves the detached mount to a name below dir. Names in a root are the
// container's to choose (dev may be a link to /): they are resolved in no other
// way than this.
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

// explain is the error of a child that failed.
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
		e.Hint = "more than the keeper's own hard limit, which takes CAP_SYS_RESOURCE to raise, or than fs.nr_open"
	}
	return e
}

// CommandError is what a command gets that can't be executed.
func CommandError(command string, errno syscall.Errno) error {
	return &Error{AtCommand, "execute " + command, errno, commandHint(errno)}
}

func commandHint(e syscall.Errno) string {
	switch e {
	case unix.ENOENT:
		return "not in the container's root, or its interpreter is not"
	case unix.EACCES:
		return "not executable for this user"
	case unix.ENOEXEC:
		return "no program for this machine; a script needs a #! line"
	}
	return ""
}
