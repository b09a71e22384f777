package cgroup

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The keeper holds a group frozen for as long as somebody has a connection to it, such as a backup.
// These functions take the directory of the group in the cgroup2 hierarchy: the keeper knows no
// hosts.

// holdAttr marks a group that the keeper holds frozen. Whoever thaws the group removes the mark, so
// that the keeper notices.
const holdAttr = "trusted.stead.hold"

// ErrThawed is returned when a group was thawed before its time.
var ErrThawed = errors.New("the container was thawed before its time")

// Held reports whether the keeper holds the group frozen.
func (g *Group) Held() bool { return g.host.unified != "" && IsHeld(g.unifiedFile("")) }

// IsHeld is Held for the directory of a group.
func IsHeld(dir string) bool {
	_, err := unix.Getxattr(dir, holdAttr, nil)
	return err == nil
}

// UnifiedDir returns the directory of the group in the cgroup2 hierarchy, "" if this host has none.
func (g *Group) UnifiedDir() string {
	if g.host.unified == "" {
		return ""
	}
	return g.unifiedFile("")
}

// Hold freezes the group until Release. It waits until all processes stand still. If it fails, the
// group is as before.
func Hold(dir string, patience time.Duration) error {
	if isFrozen(dir) {
		return errors.New("the container is frozen already")
	}
	if err := unix.Setxattr(dir, holdAttr, nil, unix.XATTR_CREATE); err != nil {
		return &os.PathError{Op: "setxattr", Path: dir, Err: err}
	}
	err := write(dir+"/cgroup.freeze", "1")
	if err == nil {
		err = awaitFrozen(dir, patience)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("can't freeze the container: %w", err), ignoreThawed(Release(dir)))
	}
	return nil
}

func ignoreThawed(err error) error {
	if errors.Is(err, ErrThawed) {
		return nil
	}
	return err
}

// Release thaws a group. The error is ErrThawed if it was thawed since Hold.
func Release(dir string) error {
	events, err := read(dir + "/cgroup.events")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return ErrThawed // it is gone
	}
	still := err == nil && strings.Contains(events, "frozen 1") && IsHeld(dir)
	if err := write(dir+"/cgroup.freeze", "0"); err != nil {
		return fmt.Errorf("thaw cgroup: %w", err)
	}
	unix.Removexattr(dir, holdAttr)
	if !still {
		return ErrThawed
	}
	return nil
}

// ReleaseAll thaws all groups below the parent that a keeper held which is no more.
func (h *Host) ReleaseAll() error {
	names, err := h.Children()
	for _, name := range names {
		if g := h.Group(name); g.Held() && !g.Foreign() {
			err = errors.Join(err, g.Thaw())
		}
	}
	return err
}
