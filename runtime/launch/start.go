package launch

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"stead/runtime/fault"

	"golang.org/x/sys/unix"
)

// maskedProc, maskedSys and readOnlyProc are the paths below /proc and /sys that Docker and
// Podman hide or protect, and pressure: a process that can write there can make the kernel
// monitor the whole host for it.
var (
	maskedProc   = []string{"asound", "acpi", "interrupts", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug", "scsi"}
	maskedSys    = []string{"firmware", "devices/virtual/powercap"}
	readOnlyProc = []string{"bus", "fs", "irq", "pressure", "sys", "sysrq-trigger"}
)

// startJob is one start in progress, the parent's half of startProgram.
type startJob struct {
	*worker
	gateEnd
	c            *Config
	root         string // the container's directory in the nursery
	pid          int
	user         int     // the child's user namespace, -1 if it is the host's
	rootFD       int     // the root's mount
	windowInUse  *window // until the child has its own descriptor table
	opened       []int
	visibleMount []visibleMount
	toSeal       []int // mounts to make read-only once mount targets in them exist
}

// Start starts a container and returns when its command was executed. It calls cloned with the
// pid before the child may go on, so that the caller can record the pid before anything
// runs. It returns an *Error or the error of cloned. After an error the child, if cloned
// was called, is dead or dying: the caller reaps it.
func (l *Launcher) Start(c *Config, cloned func(pid int) error) error {
	if err := c.check(); err != nil {
		return err
	}
	var err error
	l.do(func(w *worker) {
		b := &startJob{worker: w, gateEnd: gateEnd{gate: -1}, c: c, root: "/root-" + c.Name + "." + c.Nonce, user: -1, rootFD: -1}
		err = b.start(cloned)
	})
	return err
}

// StartTimeout is how long a child may take from its clone to its execve. It only takes longer
// if a file system hangs, or a disk is extremely slow.
const StartTimeout = 30 * time.Second

// limit ends the wait for the child after StartTimeout: it kills the child, and wakes whoever
// reads from the gate, as a child in a system call that hangs does not die. stop ends the
// limit, and returns whether the time was up before.
func (b *startJob) limit() (stop func() (late bool)) {
	var mu sync.Mutex
	over, late := false, false
	timer := time.AfterFunc(StartTimeout, func() {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return // the descriptors may be others by now
		}
		late = true
		_ = unix.PidfdSendSignal(int(b.program.pidfd), unix.SIGKILL, nil, 0)
		_ = unix.Shutdown(b.gate, unix.SHUT_RDWR)
	})
	return func() bool {
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		over = true
		return late
	}
}

func (b *startJob) start(cloned func(int) error) (err error) {
	defer func() {
		if err != nil && b.pid > 0 {
			unix.Kill(b.pid, unix.SIGKILL) // not reaped yet, so the pid is still the child's
		}
		b.emptyLentWindow()
		for _, fd := range append(b.opened, b.gate) {
			if fd >= 0 {
				unix.Close(fd)
			}
		}
	}()
	child, tasks, err := b.prepare()
	if err != nil {
		return err
	}
	if err := b.clone(child, tasks); err != nil {
		return err
	}
	defer b.clearNursery()
	if err := cloned(b.pid); err != nil {
		return err
	}
	stop := b.limit()
	defer stop()
	for i, step := range []func() error{
		b.writeIDMaps,
		b.mount,
		b.attachProcAndSys,
		b.seal,
		b.letRun,
	} {
		fault.Point("launch-" + strconv.Itoa(i))
		if err := step(); err != nil {
			if stop() {
				return timedOut
			}
			return launchError(err)
		}
	}
	if stop() { // end of file was not that of a command that runs
		return timedOut
	}
	return nil
}

var timedOut = &Error{AtStep, "start", unix.ETIMEDOUT, "the command did not run within " + StartTimeout.String() + "; a file system that it needs hangs"}

// prepare opens the child's descriptors in the host's namespace.
func (b *startJob) prepare() (child fds, tasks []int, err error) {
	open := func(name string, flags int) int {
		if err != nil {
			return -1
		}
		fd, e := unix.Open(name, flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		if e != nil {
			err = &Error{AtStep, "open " + name, errnoOf(e), ""}
			return -1
		}
		b.opened = append(b.opened, fd)
		return fd
	}
	child = make(fds, ranFD+1)
	child[0], err = b.openNull(unix.O_RDONLY)
	if err != nil {
		return child, nil, &Error{AtStep, "open /dev/null", errnoOf(err), ""}
	}
	b.opened = append(b.opened, child[0])
	// Read-write, so that the container gets no SIGPIPE while nobody reads.
	child[1] = open(b.c.Stdout, unix.O_RDWR)
	child[2] = open(b.c.Stderr, unix.O_RDWR)
	child[ranFD] = open(b.c.Ran, unix.O_WRONLY)
	for _, dir := range b.c.Cgroups {
		tasks = append(tasks, open(dir+"/tasks", unix.O_WRONLY))
	}
	if err != nil {
		return child, nil, err
	}
	pair, e := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if e != nil {
		return child, nil, &Error{AtStep, "make gate", errnoOf(e), ""}
	}
	b.gate, child[gateFD] = pair[0], pair[1]
	return child, tasks, nil
}

// clone creates the child in the nursery, without CLONE_NEWNS.
func (b *startJob) clone(child fds, tasks []int) error {
	w, err := b.fillWindow(child)
	unix.Close(child[gateFD]) // the window has a copy
	if err != nil {
		return &Error{AtStep, "prepare", errnoOf(err), ""}
	}
	b.windowInUse = &w
	b.program = startProgram(b.memory(b.c.size()), b.c, b.root, w, tasks)
	args := &cloneArgs{flags: unix.CLONE_NEWUTS | unix.CLONE_NEWIPC}
	if !b.c.HostPids {
		args.flags |= unix.CLONE_NEWPID
	}
	if !b.c.HostNetwork {
		args.flags |= unix.CLONE_NEWNET
	}
	if b.c.IDBase != 0 {
		args.flags |= unix.CLONE_NEWUSER
	}
	if b.c.CgroupInto != "" {
		fd, err := unix.Open(b.c.CgroupInto, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &Error{AtStep, "open cgroup", errnoOf(err), ""}
		}
		b.opened = append(b.opened, fd)
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(fd)
	}
	if err := b.enter(b.nursery); err != nil {
		return &Error{AtStep, "enter nursery", errnoOf(err), ""}
	}
	err = unix.Mkdir(b.root, 0o755)
	if err == nil {
		b.pid, err = b.program.clone(args)
		if err != nil {
			unix.Rmdir(b.root)
		} else {
			b.opened = append(b.opened, int(b.program.pidfd))
		}
	}
	if e := b.enter(b.host); e != nil {
		return &Error{AtStep, "leave nursery", errnoOf(e), ""}
	}
	if err != nil {
		return &Error{AtStep, "clone", errnoOf(err), ""}
	}
	return nil
}

// writeIDMaps writes the child's id maps and oom_score_adj, lets it go on and sets the sysctls.
func (b *startJob) writeIDMaps() error {
	if err := b.resetChild(b.pid); err != nil {
		return fmt.Errorf("reset oom_score_adj: %w", err)
	}
	if b.c.IDBase != 0 {
		fd, err := b.writeMaps(b.pid, b.c.IDBase)
		if err != nil {
			return err
		}
		b.user = fd
		b.opened = append(b.opened, fd)
	}
	if err := b.send('m'); err != nil {
		return err
	}
	err := b.expectSeparate()
	b.emptyLentWindow()
	if err == nil {
		err = b.setSysctls()
	}
	return err
}

// setSysctls sets the sysctls of the container's namespaces. This thread does so inside them
// but with the host's rights: before Linux 6.9 nobody in a user namespace may set those
// of IPC.
func (b *startJob) setSysctls() (err error) {
	if len(b.c.Sysctls) == 0 {
		return nil
	}
	spaces := unix.CLONE_NEWIPC
	if !b.c.HostNetwork {
		spaces |= unix.CLONE_NEWNET
	}
	for _, name := range []string{"ipc", "net"} {
		own, err := unix.Openat(b.proc, "thread-self/ns/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s namespace: %w", name, err)
		}
		defer func() {
			if err := unix.Setns(own, 0); err != nil {
				panic(fmt.Sprintf("leave %s namespace of a container: %v", name, err)) // the next start would run in it
			}
			unix.Close(own)
		}()
	}
	if err := unix.Setns(int(b.program.pidfd), spaces); err != nil {
		return fmt.Errorf("enter namespaces to set sysctls: %w", err)
	}
	for _, s := range b.c.Sysctls {
		file := "sys/" + strings.ReplaceAll(s.Name, ".", "/")
		err := writeAt(b.proc, file, s.Value)
		if err == unix.EACCES && b.c.IDBase != 0 { // since Linux 6.9 only the container's root may set those of IPC
			err = asUser(b.c.IDBase, func() error { return writeAt(b.proc, file, s.Value) })
		}
		if err != nil {
			hint := map[error]string{
				unix.ENOENT: "this kernel has no such sysctl for a single container", unix.EACCES: "it can't be set for a single container",
				unix.EPERM: "it can't be set for a single container", unix.EINVAL: "the kernel refuses this value",
			}[errnoOf(err)]
			return &Error{AtStep, "set sysctl " + s.Name + " to " + s.Value, errnoOf(err), hint}
		}
	}
	return nil
}

// asUser runs do with another effective user id of this thread.
func asUser(id uint32, do func() error) error {
	const same = ^uintptr(0)
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(id), same); e != 0 {
		return e
	}
	err := do()
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, same, 0, same); e != 0 {
		panic("become root again: " + e.Error())
	}
	return err
}

// emptyLentWindow closes the child's descriptors in the parent, which would otherwise never
// read end of file.
func (b *startJob) emptyLentWindow() {
	if b.windowInUse != nil {
		b.emptyWindow(*b.windowInUse)
		b.windowInUse = nil
	}
}

func writeAt(dir int, name, text string) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}

// letRun lets the child copy the nursery, then unmounts the container's tree in the nursery
// so that later copies don't contain it, and waits for the execve: end of file.
func (b *startJob) letRun() error {
	if err := b.send('g'); err != nil {
		return err
	}
	if _, err := b.expect('u'); err != nil {
		return err
	}
	if err := unix.Unmount(b.root, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach root from nursery: %w", err)
	}
	_, err := b.expect(0)
	return err
}

// clearNursery removes the container's directory from the nursery. It must run after execve:
// rmdir unmounts the directory in every namespace, also in that of a child that has not
// pivoted yet.
func (b *startJob) clearNursery() {
	if b.enter(b.nursery) == nil {
		unix.Unmount(b.root, unix.MNT_DETACH)
		unix.Rmdir(b.root)
		b.clearDevices()
	}
	if err := b.enter(b.host); err != nil {
		panic(fmt.Sprintf("leave nursery: %v", err)) // the next start would resolve host paths there
	}
}
