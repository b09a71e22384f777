package launch

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"

	"stead/runtime/fault"
	"stead/runtime/hostpath"
	"stead/runtime/weak"

	"golang.org/x/sys/unix"
)

// What Docker and Podman hide and protect, below /proc and /sys, and pressure: whoever
// can write there has the kernel watch all of the host for him.
var (
	maskedProc   = []string{"asound", "acpi", "interrupts", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug", "scsi"}
	maskedSys    = []string{"firmware", "devices/virtual/powercap"}
	readOnlyProc = []string{"bus", "fs", "irq", "pressure", "sys", "sysrq-trigger"}
)

// birth is one start under way, the parent's half of childOf.
type birth struct {
	*worker
	line
	c      *Config
	root   string // of the container, in the nursery
	pid    int
	user   int // the child's user namespace, -1 if it is the host's
	rootFD int // the root's mount
	opened []int
	sealed []int        // mounts to be made read-only once their targets are there
	late   func() error // only in a build with the tag weak
}

// Start starts a container and returns when its command was executed. born is
// called with the pid before the child may go on: what it notes is on record
// before anything runs. Errors are *Error, or of born. After an error the child, if
// born was called, is dead or about to be: the caller reaps it.
func (l *Launcher) Start(c *Config, born func(pid int) error) error {
	if err := c.check(); err != nil {
		return err
	}
	var err error
	l.do(func(w *worker) {
		b := &birth{worker: w, line: line{gate: -1}, c: c, root: "/root-" + c.Name + "." + c.Nonce, user: -1, rootFD: -1}
		err = b.start(born)
	})
	return err
}

func (b *birth) start(born func(int) error) (err error) {
	defer func() {
		for _, fd := range append(b.opened, b.gate) {
			if fd >= 0 {
				unix.Close(fd)
			}
		}
		if err != nil && b.pid > 0 {
			unix.Kill(b.pid, unix.SIGKILL) // not reaped yet, so the pid is its
		}
	}()
	child, procs, err := b.prepare()
	if err != nil {
		return err
	}
	if err := b.clone(child); err != nil {
		return err
	}
	defer b.clear()
	if err := born(b.pid); err != nil {
		return err
	}
	for i, step := range []func() error{
		func() error { return b.identify(procs) },
		b.mount,
		b.attachKernel,
		b.seal,
		b.handOver,
	} {
		fault.Point("launch-" + strconv.Itoa(i))
		if err := step(); err != nil {
			return reason(err)
		}
	}
	return nil
}

// prepare opens all that the child starts with, in the host's namespace.
func (b *birth) prepare() (child fds, procs []int, err error) {
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
	child[0] = open("/dev/null", unix.O_RDONLY)
	// Read-write, so that no writer ever gets SIGPIPE while nobody reads.
	child[1] = open(b.c.Stdout, unix.O_RDWR)
	child[2] = open(b.c.Stderr, unix.O_RDWR)
	child[ranFD] = open(b.c.Ran, unix.O_WRONLY)
	for _, dir := range b.c.Cgroups {
		procs = append(procs, open(dir+"/cgroup.procs", unix.O_WRONLY))
	}
	if err != nil {
		return child, nil, err
	}
	pair, e := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if e != nil {
		return child, nil, &Error{AtStep, "make gate", errnoOf(e), ""}
	}
	b.gate, child[gateFD] = pair[0], pair[1]
	return child, procs, nil
}

// clone makes the child, still in the nursery: without CLONE_NEWNS.
func (b *birth) clone(child fds) error {
	defer unix.Close(child[gateFD]) // else we would never read end of file
	b.program = childOf(b.memory(b.c.size()), b.c, b.root, child)
	args := &cloneArgs{flags: unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC}
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
	err := unix.Mkdir(b.root, 0o755)
	if err == nil {
		b.pid, err = b.program.clone(args)
		if err != nil {
			unix.Rmdir(b.root)
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

// identify gives the child its ids and cgroups and lets it go on.
func (b *birth) identify(procs []int) error {
	pid := strconv.Itoa(b.pid)
	if b.c.IDBase != 0 {
		m := fmt.Sprintf("0 %d 65536", b.c.IDBase)
		for _, file := range []string{"uid_map", "gid_map"} {
			if err := writeAt(b.proc, pid+"/"+file, m); err != nil {
				return fmt.Errorf("write %s: %w", file, err)
			}
		}
		fd, err := unix.Openat(b.proc, pid+"/ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open user namespace: %w", err)
		}
		b.user = fd
		b.opened = append(b.opened, fd)
	}
	for i, fd := range procs {
		if _, err := unix.Write(fd, []byte(pid)); err != nil {
			return fmt.Errorf("join cgroup %s: %w", b.c.Cgroups[i], err)
		}
	}
	return b.tell('m')
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

// mount builds the tree while the child makes its proc and sysfs. Copies of
// mounts are taken in the host's namespace (open_tree only works where a mount
// is) and mapped while detached (an attached mount can't be any more).
func (b *birth) mount() error {
	root, err := b.tree(b.c.Root.Path, unix.MOUNT_ATTR_NODEV, AtRoot)
	if err != nil {
		return err
	}
	b.rootFD = root
	usr := -1
	if b.c.Root.Usr != "" {
		if usr, err = b.tree(b.c.Root.Usr, unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_RDONLY, AtRoot); err != nil {
			return err
		}
	}
	sources := make([]int, len(b.c.Mounts))
	for i, m := range b.c.Mounts {
		if sources[i], err = b.source(m); err != nil {
			return err
		}
	}
	if err := b.enter(b.nursery); err != nil {
		return fmt.Errorf("enter nursery: %w", err)
	}
	if err := unix.MoveMount(root, "", unix.AT_FDCWD, b.root, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach root: %w", err)
	}
	if err := b.makeDevices(); err != nil {
		return err
	}
	if b.c.Root.ReadOnly {
		b.sealed = append(b.sealed, root)
	}
	if usr >= 0 {
		if err := b.attachAt(usr, "/usr", false); err != nil {
			return err
		}
	}
	if weak.Is("mounts over proc") { // CVE-2019-16884
		b.late = func() error { return b.attachMounts(sources) }
		return nil
	}
	return b.attachMounts(sources)
}

func (b *birth) attachMounts(sources []int) error {
	for i, m := range b.c.Mounts {
		if weak.Is("targets made by path") && m.Source == "" { // CVE-2024-45310
			b.enter(b.host)
			os.MkdirAll(b.c.Root.Path+m.Target, 0o755)
			b.enter(b.nursery)
		}
		if err := b.attachMount(m, sources[i]); err != nil {
			return err
		}
	}
	return nil
}

// seal makes mounts read-only, last, so that missing targets could be made.
func (b *birth) seal() error {
	for _, fd := range b.sealed {
		if err := setReadOnly(fd); err != nil {
			return fmt.Errorf("make read-only: %w", err)
		}
	}
	return nil
}

func (b *birth) tree(path string, attr uint64, where Where) (int, error) {
	fd, err := b.hostTree(path, attr)
	if err != nil {
		if errors.Is(err, errNoIdmap) {
			return -1, &Error{AtIDMap, "map ids of " + path, unix.EINVAL, errNoIdmap.Error() + "; security.userns: host does without"}
		}
		e := &Error{where, "open " + string(where) + " " + path, errnoOf(err), ""}
		var link *hostpath.LinkError
		if errors.As(err, &link) {
			e.Hint = link.Error()
		}
		return -1, e
	}
	b.opened = append(b.opened, fd)
	return fd, nil
}

// hostTree is what is mounted of a host's path: what was found by walking it.
func (b *birth) hostTree(path string, attr uint64) (int, error) {
	if weak.Is("sources by path") { // CVE-2017-1002101
		return tree(unix.AT_FDCWD, path, attr, b.user)
	}
	at, _, err := hostpath.Open(path, func(dir string) bool { return slices.Contains(b.c.Shared, dir) })
	if err != nil {
		return -1, err
	}
	defer unix.Close(at)
	return tree(at, "", attr, b.user)
}

func (b *birth) source(m Mount) (int, error) {
	if m.Source != "" {
		return b.tree(m.Source, unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID, AtSource)
	}
	id := strconv.FormatUint(uint64(b.c.IDBase), 10)
	fd, err := newFilesystem("tmpfs", unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID,
		"size", strconv.FormatInt(m.Size, 10), "mode", strconv.FormatUint(uint64(m.Mode), 8), "uid", id, "gid", id)
	if err != nil {
		return -1, &Error{AtSource, "make tmpfs for " + m.Target, errnoOf(err), ""}
	}
	b.opened = append(b.opened, fd)
	return fd, nil
}

func (b *birth) attachMount(m Mount, source int) error {
	var st unix.Stat_t
	if err := unix.Fstat(source, &st); err != nil {
		return &Error{AtSource, "stat " + m.Source, errnoOf(err), ""}
	}
	if err := b.attachAt(source, m.Target, st.Mode&unix.S_IFMT != unix.S_IFDIR); err != nil {
		return err
	}
	if m.ReadOnly {
		b.sealed = append(b.sealed, source)
	}
	return nil
}

func (b *birth) attachAt(mount int, target string, file bool) error {
	at, err := makeTarget(b.rootFD, target, file, b.c.IDBase)
	if weak.Is("targets by path") { // CVE-2021-30465
		at, err = unix.Open(b.root+target, unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	if err == nil {
		var st unix.Stat_t
		if err = unix.Fstat(at, &st); err == nil && (st.Mode&unix.S_IFMT == unix.S_IFDIR) == file {
			err = unix.ENOTDIR
		}
		if err == nil {
			err = move(mount, at)
		}
		unix.Close(at)
	}
	if err == nil {
		return nil
	}
	return TargetError(target, errnoOf(err))
}

// TargetError is what a mount gets whose target can't be had.
func TargetError(target string, errno syscall.Errno) error {
	e := &Error{AtTarget, "mount at " + target, errno, ""}
	switch e.Errno {
	case unix.EXDEV:
		e.Hint = "a symbolic link there leads out of the root; name the place that it means"
	case unix.ELOOP:
		e.Hint = "symbolic links are not followed there"
	case unix.ENOTDIR:
		e.Hint = "one of source and target is a directory, the other is not"
	}
	return e
}

// handOver lets the child copy the nursery, clears our copy of its tree at once
// so that later copies don't contain it, and waits for the execve: end of file.
func (b *birth) handOver() error {
	if err := b.tell('g'); err != nil {
		return err
	}
	if _, err := b.hear('u'); err != nil {
		return err
	}
	if err := unix.Unmount(b.root, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach root from nursery: %w", err)
	}
	_, err := b.hear(0)
	return err
}

// clear takes what is left of the container out of the nursery. Only now, after
// execve: rmdir unmounts what is mounted there in every namespace, also in
// that of a child that has not pivoted yet.
func (b *birth) clear() {
	if b.enter(b.nursery) == nil {
		unix.Unmount(b.root, unix.MNT_DETACH)
		unix.Rmdir(b.root)
		b.clearDevices()
	}
	if err := b.enter(b.host); err != nil {
		panic(fmt.Sprintf("leave nursery: %v", err)) // the next start would look for host paths there
	}
}
