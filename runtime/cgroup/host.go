package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Host describes the cgroup hierarchies of this host and the parent group in them.
type Host struct {
	Parent  string            // "/stead"
	Owner   string            // owner of the groups that are made; set by the caller
	Mode    Mode              //
	unified string            // mount point of cgroup2, "" if there is none
	v1      map[string]string // controller → mount point of its v1 hierarchy

	mu          sync.Mutex
	parentMade  bool             // the v2 parent exists
	unavailable map[string]error // v2 controllers that could not be enabled in it
}

// Mode says which hierarchies have the controllers.
type Mode string

const (
	V1     Mode = "v1"     // no cgroup2 mount
	Hybrid Mode = "hybrid" // controllers on v1, a cgroup2 mount besides
	V2     Mode = "v2"
)

// Detect reads the layout from /proc/self/mountinfo. parent is a path below
// every hierarchy's mount point.
func Detect(parent string) (*Host, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read cgroup mounts: %w", err)
	}
	defer f.Close()
	h := &Host{Parent: filepath.Clean("/" + parent), v1: map[string]string{}}
	if h.Parent == "/" {
		return nil, errors.New("cgroup parent must not be the root group")
	}
	for s := bufio.NewScanner(f); s.Scan(); {
		h.mountLine(s.Text())
	}
	switch {
	case len(h.v1) == 0 && h.unified == "":
		return nil, errors.New("no cgroup file system is mounted")
	case len(h.v1) == 0:
		h.Mode = V2
	case h.unified == "":
		h.Mode = V1
	default:
		h.Mode = Hybrid
	}
	if h.Mode != V2 {
		for _, c := range controllers {
			if h.v1[c] == "" {
				return nil, fmt.Errorf("cgroup controller %s is not mounted", c)
			}
		}
	}
	return h, nil
}

// mountLine takes one line of mountinfo: … mount point … - type source options
// (proc_pid_mountinfo(5)).
func (h *Host) mountLine(line string) {
	left, right, ok := strings.Cut(line, " - ")
	fields, kind := strings.Fields(left), strings.Fields(right)
	if !ok || len(fields) < 5 || len(kind) < 3 {
		return
	}
	point := strings.ReplaceAll(fields[4], `\040`, " ")
	switch kind[0] {
	case "cgroup2":
		if h.unified == "" {
			h.unified = point
		}
	case "cgroup":
		for _, o := range strings.Split(kind[2], ",") {
			switch o {
			case "cpu", "cpuset", "memory", "pids", "blkio", "devices":
				if h.v1[o] == "" {
					h.v1[o] = point
				}
			}
		}
	}
}

// Controllers reports which of memory, cpu, pids, cpuset, io and devices this host can
// limit.
func (h *Host) Controllers() map[string]bool {
	have := map[string]bool{}
	if h.Mode == V2 {
		all, err := read(filepath.Join(h.unified, h.Parent, "cgroup.subtree_control"))
		if err != nil || all == "" { // no container was started yet
			all, _ = read(filepath.Join(h.unified, "cgroup.controllers"))
		}
		for _, c := range strings.Fields(all) {
			have[c] = true
		}
		have["devices"] = h.LimitsDevices()
		return have
	}
	for c := range h.v1 {
		have[strings.Replace(c, "blkio", "io", 1)] = true
	}
	return have
}

// mountPoints returns the mount points of all hierarchies, each once.
func (h *Host) mountPoints() []string {
	var all []string
	if h.unified != "" {
		all = append(all, h.unified)
	}
	for _, p := range h.v1 {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

// Children returns the names of the groups below the parent, in any hierarchy. Recovery
// compares them with the records.
func (h *Host) Children() ([]string, error) {
	seen := map[string]bool{}
	var names []string
	for _, p := range h.mountPoints() {
		entries, err := os.ReadDir(filepath.Join(p, h.Parent))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("list cgroups: %w", err)
		}
		for _, e := range entries {
			if e.IsDir() && !seen[e.Name()] {
				seen[e.Name()] = true
				names = append(names, e.Name())
			}
		}
	}
	return names, nil
}
