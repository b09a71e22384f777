// Package cgroup keeps a container's limits: groups on cgroup v1, hybrid and
// v2 hosts, by containerd/cgroups with its faults wrapped (each is named where
// it is). It knows no manifest and no process but by its id.
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

// controllers are those that every v1 group has; cpuset and blkio join when a
// limit asks for them: each hierarchy costs time at every start.
var controllers = []string{"memory", "cpu", "pids"}

// Group is one container's group; it need not exist.
type Group struct {
	host *Host
	path string // "/stead/web.4f1c"
}

// Group names the group of one start of a container.
func (h *Host) Group(name string) *Group {
	return &Group{host: h, path: filepath.Join(h.Parent, name)}
}

// Name is the group's name below the parent.
func (g *Group) Name() string { return filepath.Base(g.path) }

// Join says how a process gets in: dirs are v1 directories that it joins by their
// tasks file; into, if not empty, is the v2 directory to clone it into.
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

// Dirs are the group's directories that exist, in all hierarchies.
func (g *Group) Dirs() []string {
	return slices.DeleteFunc(g.paths(), func(dir string) bool {
		_, err := os.Stat(dir)
		return err != nil
	})
}

// places are where the group's directories may be.
func (g *Group) paths() []string {
	all := g.host.mountPoints()
	for i, p := range all {
		all[i] = filepath.Join(p, g.path)
	}
	return all
}

// Exists says whether all that a running container needs of the group is there.
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

// Pids are the processes in the group.
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

// ownerAttr names the instance that a group belongs to: several may share a parent.
const ownerAttr = "trusted.stead"

// own notes who made the group.
func (g *Group) setOwner() error {
	for _, d := range g.paths() {
		if err := unix.Setxattr(d, ownerAttr, []byte(g.host.Owner), 0); err != nil && err != unix.ENOENT {
			return &os.PathError{Op: "setxattr", Path: d, Err: err}
		}
	}
	return nil
}

// Foreign says whether another instance made the group.
func (g *Group) Foreign() bool {
	b := make([]byte, 4096)
	for _, d := range g.Dirs() {
		if n, err := unix.Getxattr(d, ownerAttr, b); err == nil && string(b[:n]) != g.host.Owner {
			return true
		}
	}
	return false
}

// OOMKills counts the processes that the kernel killed at the memory limit.
func (g *Group) OOMKills() int64 {
	file := g.v1File("memory", "memory.oom_control")
	if g.host.Mode == V2 {
		file = g.unifiedFile("memory.events.local")
	}
	return keyed(file, "oom_kill")
}

// keyed reads one number of a file of "key value" lines; 0 if it isn't there.
func keyed(file, key string) int64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(b), "\n") {
		if k, v, ok := strings.Cut(line, " "); ok && k == key {
			n, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return n
		}
	}
	return 0
}

// write writes a control file that must be there: os.WriteFile would try to
// create a missing one and report "permission denied". Nor is it for package os
// otherwise: these files can be polled and some say EAGAIN (memory.reclaim, when
// it got less than asked for), and then it would wait for ever. Each value is a
// write of its own.
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

// read reads a control file without blanks around it. Not by package os either:
// that would ask epoll for each, and thousands are read every minute.
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
