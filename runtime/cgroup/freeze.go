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

// A group is frozen (cgroup.freeze, Linux 5.2) by its own file or by that of a group above it.
// stead checks the group and the parent group; groups further up belong to others.

// freezeAttr marks a group that stead has frozen. A frozen group without it was frozen by
// somebody else.
const freezeAttr = "trusted.stead.freeze"

// freezeTimeout is how long the processes of a group may take to freeze. A process that waits
// in the kernel for a disk or a dead server may never freeze.
const freezeTimeout = time.Second

// Frozen reports whether the group is frozen.
func (g *Group) Frozen() bool {
	return g.host.unified != "" && isFrozen(g.unifiedFile(""))
}

func isFrozen(dir string) bool {
	s, err := read(dir + "/cgroup.freeze")
	return err == nil && s == "1"
}

// ParentFrozen reports whether the parent group, and with it every container, is frozen.
func (h *Host) ParentFrozen() bool { return h.parentGroup().Frozen() }

// ThawParent thaws the parent group.
func (h *Host) ThawParent() error { return h.parentGroup().Thaw() }

func (h *Host) parentGroup() *Group { return &Group{host: h, path: h.Parent} }

// FrozenByUs reports whether stead has frozen the group to change its limits. If the daemon
// died meanwhile, the group stays frozen.
func (g *Group) FrozenByUs() bool { return hasFreezeMark(g.unifiedFile("")) }

func hasFreezeMark(dir string) bool {
	_, err := unix.Getxattr(dir, freezeAttr, nil)
	return err == nil
}

// FrozenByHand reports whether somebody else has frozen the group with this directory below the
// cgroup2 mount.
func FrozenByHand(dir string) bool { return isFrozen(dir) && !hasFreezeMark(dir) && !IsHeld(dir) }

// Thaw thaws the group. It may be repeated. It is no error if the group does not exist or if
// this host can't freeze groups.
func (g *Group) Thaw() error {
	if g.Frozen() {
		if err := write(g.unifiedFile("cgroup.freeze"), "0"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("thaw cgroup: %w", err)
		}
	}
	unix.Removexattr(g.unifiedFile(""), freezeAttr) // last; mostly they are not set
	unix.Removexattr(g.unifiedFile(""), holdAttr)
	return nil
}

// whileFrozen runs do while the group is frozen, and always thaws the group. If the daemon dies
// meanwhile, the mark tells the next one to thaw the group.
func (g *Group) whileFrozen(do func() error) (err error) {
	dir := g.unifiedFile("")
	if err := unix.Setxattr(dir, freezeAttr, nil, 0); err != nil {
		return &os.PathError{Op: "setxattr", Path: dir, Err: err}
	}
	defer func() { err = errors.Join(err, g.Thaw()) }()
	if err := write(g.unifiedFile("cgroup.freeze"), "1"); err != nil {
		return err
	}
	if err := awaitFrozen(dir, freezeTimeout); err != nil {
		return fmt.Errorf("can't freeze the container for the change: %w", err)
	}
	fault.Point("limits-frozen")
	return do()
}

// awaitFrozen waits until the kernel reports the group as frozen. A write to cgroup.freeze, which
// is all that the library's Freeze does, only requests it.
func awaitFrozen(dir string, patience time.Duration) error {
	file := dir + "/cgroup.events"
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(fd)
	deadline := time.Now().Add(patience)
	for b := make([]byte, 256); ; {
		n, err := unix.Pread(fd, b, 0) // also makes poll report the next change
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return &os.PathError{Op: "read", Path: file, Err: err}
		case bytes.Contains(b[:n], []byte("frozen 1")):
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not all processes stopped within %v", patience)
		}
		// The kernel reports a change up to 10 ms late if another one came shortly before,
		// so the wait is short: the container stands still meanwhile.
		const millisecond = 1
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}, millisecond); err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
	}
}
