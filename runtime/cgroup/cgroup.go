// Package cgroup manages containers' cgroups and their limits on cgroup v1, hybrid and v2
// hosts. It uses containerd/cgroups and works around its faults (a comment names each one).
// It knows no manifests, and processes only by their pid.
package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// controllers lists the controllers of every v1 group. cpuset and blkio are added when a
// limit needs them, because each hierarchy costs time at every start.
var controllers = []string{"memory", "cpu", "pids"}

// Group is the cgroup of one start of a container. It need not exist.
type Group struct {
	host *Host
	path string // "/stead/web.4f1c"
}

// Group returns the group with this name below the parent, one for each start of a container.
func (h *Host) Group(name string) *Group {
	return &Group{host: h, path: filepath.Join(h.Parent, name)}
}

// Name returns the group's name below the parent.
func (g *Group) Name() string { return filepath.Base(g.path) }

// Join returns how a process enters the group: dirs are existing v1 directories, which it joins
// by their tasks file; into is the v2 directory to clone it into, or "".
func (g *Group) Join() (dirs []string, into string) {
	for _, d := range g.Dirs() {
		if g.host.unified != "" && strings.HasPrefix(d, g.host.unified+"/") {
			into = d
			continue
		}
		dirs = append(dirs, d)
	}
	return dirs, into
}

// MayJoin returns all v1 directories that Join may ever return, existing or not: a later limit
// may create one.
func (g *Group) MayJoin() []string {
	return slices.DeleteFunc(g.paths(), func(dir string) bool {
		return g.host.unified != "" && strings.HasPrefix(dir, g.host.unified+"/")
	})
}

// Dirs returns the group's existing directories in all hierarchies.
func (g *Group) Dirs() []string {
	return slices.DeleteFunc(g.paths(), func(dir string) bool {
		_, err := os.Stat(dir)
		return err != nil
	})
}

// paths returns the group's possible directories in all hierarchies.
func (g *Group) paths() []string {
	all := g.host.mountPoints()
	for i, p := range all {
		all[i] = filepath.Join(p, g.path)
	}
	return all
}

// Exists reports whether the group exists in all hierarchies that every container needs.
func (g *Group) Exists() bool {
	if g.host.unified != "" {
		if _, err := os.Stat(g.unifiedFile("")); err != nil {
			return false
		}
	}
	if g.host.Mode == V2 {
		return true
	}
	for _, c := range controllers {
		if _, err := os.Stat(g.v1File(c, "")); err != nil {
			return false
		}
	}
	return true
}

func (g *Group) unifiedFile(name string) string {
	return filepath.Join(g.host.unified, g.path, name)
}

func (g *Group) v1File(controller, name string) string {
	return filepath.Join(g.host.v1[controller], g.path, name)
}

// Pids returns the processes in the group.
func (g *Group) Pids() ([]int, error) {
	file := g.unifiedFile("cgroup.procs")
	if g.host.unified == "" {
		file = g.v1File("pids", "cgroup.procs")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	var pids []int
	for _, s := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(s); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// ownerAttr holds the owner of a group, as several stead instances may share a parent.
const ownerAttr = "trusted.stead"

// setOwner marks the group as made by this instance.
func (g *Group) setOwner() error {
	for _, d := range g.paths() {
		if err := unix.Setxattr(d, ownerAttr, []byte(g.host.Owner), 0); err != nil && err != unix.ENOENT {
			return &os.PathError{Op: "setxattr", Path: d, Err: err}
		}
	}
	return nil
}

// Foreign reports whether another instance made the group.
func (g *Group) Foreign() bool {
	b := make([]byte, 4096)
	for _, d := range g.Dirs() {
		if n, err := unix.Getxattr(d, ownerAttr, b); err == nil && string(b[:n]) != g.host.Owner {
			return true
		}
	}
	return false
}

// OOMKills returns how many processes the kernel killed for lack of memory.
func (g *Group) OOMKills() int64 {
	file := g.v1File("memory", "memory.oom_control")
	if g.host.Mode == V2 {
		file = g.unifiedFile("memory.events.local")
	}
	return readKeyed(file)["oom_kill"]
}

// write writes values to an existing control file, each by its own write(2). os.WriteFile would
// try to create a missing file and report "permission denied". Package os is unfit
// anyway: these files can be polled, and when a write returns EAGAIN (memory.reclaim, if it
// reclaimed less than requested), it would wait for ever.
func write(file string, values ...string) error {
	fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(fd)
	for _, value := range values {
		for {
			if _, err = unix.Write(fd, []byte(value)); err != unix.EINTR {
				break
			}
		}
		if err != nil {
			return &os.PathError{Op: "write", Path: file, Err: err}
		}
	}
	return nil
}

// read returns the content of a control file without surrounding white space. Package os would
// register each file with epoll, and thousands are read every minute.
func read(file string) (string, error) {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(fd)
	var text []byte
	for b := make([]byte, 512); ; {
		n, err := unix.Read(fd, b)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return "", &os.PathError{Op: "read", Path: file, Err: err}
		case n == 0:
			return strings.TrimSpace(string(text)), nil
		default:
			text = append(text, b[:n]...)
		}
	}
}
