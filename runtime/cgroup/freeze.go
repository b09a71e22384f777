package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"stead/runtime/fault"

	"golang.org/x/sys/unix"
)

// A group is frozen (cgroup.freeze, Linux 5.2) by its own file or by one above it.
// That of the parent is ours to look at too; further up it is other people's.

// freezeAttr marks a group that we froze: one that is found frozen without it was by
// somebody else.
const freezeAttr = "trusted.stead.freeze"

// freezePatience is how long all processes may take to stop where they are: those
// that wait in the kernel for a disk or a dead server do when that answers, if ever.
const freezeTimeout = time.Second

// Frozen says whether the group's processes were stopped where they are.
func (g *Group) Frozen() bool {
	return g.host.unified != "" && isFrozen(g.unifiedFile(""))
}

func isFrozen(dir string) bool {
	s, err := read(dir + "/cgroup.freeze")
	return err == nil && s == "1"
}

// ParentFrozen says whether all groups were at once.
func (h *Host) ParentFrozen() bool { return h.parentGroup().Frozen() }

// ThawParent ends that.
func (h *Host) ThawParent() error { return h.parentGroup().Thaw() }

func (h *Host) parentGroup() *Group { return &Group{host: h, path: h.Parent} }

// FrozenByUs says whether a change of limits holds the group still, or did until
// whoever made it died.
func (g *Group) FrozenByUs() bool { return hasFreezeMark(g.unifiedFile("")) }

func hasFreezeMark(dir string) bool {
	_, err := unix.Getxattr(dir, freezeAttr, nil)
	return err == nil
}

// FrozenByHand says of a group's directory below the cgroup2 mount whether its
// processes were stopped by somebody else.
func FrozenByHand(dir string) bool { return isFrozen(dir) && !hasFreezeMark(dir) }

// Thaw lets the group's processes go on. It is safe to repeat; a group that is
// gone, or that this host can't freeze, does not stand still.
func (g *Group) Thaw() error {
	if g.Frozen() {
		if err := write(g.unifiedFile("cgroup.freeze"), "0"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("thaw cgroup: %w", err)
		}
	}
	unix.Removexattr(g.unifiedFile(""), freezeAttr) // last, and mostly not there
	return nil
}

// whileFrozen does something while no process of the group runs, and lets them go on
// whatever comes of it. If we die meanwhile, the mark tells who is to thaw it.
func (g *Group) whileFrozen(do func() error) (err error) {
	dir := g.unifiedFile("")
	if err := unix.Setxattr(dir, freezeAttr, nil, 0); err != nil {
		return &os.PathError{Op: "setxattr", Path: dir, Err: err}
	}
	defer func() { err = errors.Join(err, g.Thaw()) }()
	if err := write(g.unifiedFile("cgroup.freeze"), "1"); err != nil {
		return err
	}
	if err := g.awaitFrozen(freezeTimeout); err != nil {
		return err
	}
	fault.Point("limits-frozen")
	return do()
}

// awaitFrozen waits for the kernel's word: what is written to cgroup.freeze only asks
// (and so does the library's Freeze).
func (g *Group) awaitFrozen(patience time.Duration) error {
	file := g.unifiedFile("cgroup.events")
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(fd)
	deadline := time.Now().Add(patience)
	for b := make([]byte, 256); ; {
		n, err := unix.Pread(fd, b, 0) // also makes the next change one that poll tells
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return &os.PathError{Op: "read", Path: file, Err: err}
		case bytes.Contains(b[:n], []byte("frozen 1")):
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("its processes can't be held still for the change: not all stopped within %v", patience)
		}
		// The kernel tells of a change 10 ms late if one was not long before, so the
		// wait is cut short: all this time the container stands still.
		const millisecond = 1
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}, millisecond); err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
	}
}
