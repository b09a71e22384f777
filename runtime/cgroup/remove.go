package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-multierror"
	"golang.org/x/sys/unix"
)

// Kill sends SIGKILL to every process of the group at once (cgroup.kill, Linux 5.14). On a
// pure v1 host it returns errors.ErrUnsupported; the caller then kills the init of
// the pid namespace.
func (g *Group) Kill() error {
	if g.host.unified == "" {
		if len(g.Dirs()) == 0 {
			return nil // no group, no process
		}
		return errors.ErrUnsupported
	}
	err := write(g.unifiedFile("cgroup.kill"), "1")
	if errors.Is(err, os.ErrNotExist) {
		if _, e := os.Stat(g.unifiedFile("")); e != nil {
			return nil // no group, no process
		}
		return errors.ErrUnsupported // an older kernel
	}
	return err
}

// KillAll is Kill for a group whose processes have no own pid namespace. Where the kernel
// can't kill them at once, it kills each process until none is left.
func (g *Group) KillAll() error {
	err := g.Kill()
	for range 3000 {
		if !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		pids, e := g.Pids()
		if e != nil || len(pids) == 0 {
			return e
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(time.Millisecond) // killed processes leave a group without an event (v1)
	}
	return errors.New("processes fork faster than they can be killed")
}

// Remove removes the group from all hierarchies. Its processes must be killed; Remove waits up
// to a few seconds until they are gone. A missing group is no error.
func (g *Group) Remove() error {
	var failed *multierror.Error
	low := ""
	if g.host.Mode == V2 {
		low, _ = read(g.unifiedFile("memory.low"))
	}
	for _, dir := range g.paths() {
		if err := g.removeDir(dir); err != nil {
			failed = multierror.Append(failed, err)
		}
	}
	if low != "" && low != "0" {
		if err := g.protectParent(); err != nil && !errors.Is(err, os.ErrNotExist) {
			failed = multierror.Append(failed, err)
		}
	}
	return failed.ErrorOrNil()
}

func (g *Group) removeDir(dir string) error {
	wait := time.Millisecond
	for deadline := time.Now().Add(3 * time.Second); ; {
		err := unix.Rmdir(dir)
		if err == nil || err == unix.ENOENT {
			return nil
		}
		if below, e := os.ReadDir(dir); err == unix.EBUSY && e == nil { // it has groups below
			for _, d := range below {
				if d.IsDir() {
					if err := g.removeDir(filepath.Join(dir, d.Name())); err != nil {
						return err
					}
				}
			}
		}
		if err != unix.EBUSY || time.Now().After(deadline) {
			return &os.PathError{Op: "rmdir", Path: dir, Err: err}
		}
		// v1 has no event for "empty"; a killed process leaves its group after it has
		// freed its memory.
		time.Sleep(wait)
		wait = min(2*wait, 50*time.Millisecond)
	}
}

// RemoveParent removes the parent group if it is empty.
func (h *Host) RemoveParent() error {
	for _, d := range h.parentGroup().Dirs() {
		if err := unix.Rmdir(d); err != nil && err != unix.ENOENT && err != unix.EBUSY {
			return &os.PathError{Op: "rmdir", Path: d, Err: err}
		}
	}
	return nil
}
