package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"stead/runtime/cgroup"
)

func (h *host) cgroups() []Check {
	c, err := cgroup.Detect(h.CgroupParent)
	if err != nil {
		return single("cgroups", Missing, err.Error(), "mount cgroup2 on /sys/fs/cgroup, or boot with systemd, which does")
	}
	all := single("cgroups", OK, string(c.Mode), "")
	have := c.Controllers()
	var names, lacking []string
	for _, name := range []string{"memory", "cpu", "pids", "cpuset", "io"} {
		if have[name] {
			names = append(names, name)
		} else {
			lacking = append(lacking, name)
		}
	}
	found := strings.Join(names, ", ")
	level, advice := OK, ""
	if len(lacking) > 0 {
		level, found = Warning, found+"; missing: "+strings.Join(lacking, ", ")
		advice = "limits that need these are not applied; enable the controllers (cgroup_disable= on the kernel's command line, or cgroup.subtree_control)"
	}
	all = append(all, Check{"controllers", level, found, advice})
	devices := Check{"devices", OK, "can be limited", ""}
	if !c.LimitsDevices() {
		devices = Check{"devices", Warning, "can't be limited: v1's devices controller is not mounted", "userns: host and devices are refused; mount it"}
	}
	return append(all, devices, h.kill(c.Mode), h.swap(), h.weight())
}

// kill checks for cgroup.kill, which kills all processes of a container at once.
func (h *host) kill(mode cgroup.Mode) Check {
	major, minor, _ := version()
	switch {
	case mode == cgroup.V1:
		return Check{"cgroup.kill", Warning, "not available on pure cgroup v1", "mount cgroup2 as well (systemd's hybrid layout does); until then a container is ended by its first process"}
	case !atLeast(major, minor, 5, 14):
		return Check{"cgroup.kill", Warning, "not available before Linux 5.14", "install a newer kernel; until then a container is ended by its first process"}
	}
	return Check{"cgroup.kill", OK, "available", ""}
}

// swap checks for swap accounting. Without it a memory limit leaves swap unlimited.
func (h *host) swap() Check {
	if h.inGroup("memory", "memory.memsw.limit_in_bytes", "memory.swap.max") {
		return Check{"swap limits", OK, "available", ""}
	}
	return Check{"swap limits", Warning, "not available", "resources.swap is not applied; boot with swapaccount=1"}
}

func (h *host) weight() Check {
	if h.inGroup("blkio", "blkio.weight", "blkio.bfq.weight", "io.weight", "io.bfq.weight") {
		return Check{"io weight", OK, "available", ""}
	}
	return Check{"io weight", Warning, "not available", "resources.io.weight is not applied; it needs the bfq scheduler or io.cost"}
}

// inGroup reports whether one of these files exists in the mount point of a v1 controller or of
// cgroup2, or in a group directly below: root groups lack most files.
func (h *host) inGroup(controller string, files ...string) bool {
	for _, m := range h.mounts() {
		if m.kind != "cgroup2" && !(m.kind == "cgroup" && slices.Contains(strings.Split(m.options, ","), controller)) {
			continue
		}
		point := h.path(m.point)
		dirs, _ := os.ReadDir(point)
		for _, file := range files {
			if exists(filepath.Join(point, file)) {
				return true
			}
			for _, d := range dirs {
				if d.IsDir() && exists(filepath.Join(point, d.Name(), file)) {
					return true
				}
			}
		}
	}
	return false
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// mount is one line of /proc/self/mounts.
type mount struct{ point, kind, options string }

func (h *host) mounts() []mount {
	b, _ := os.ReadFile(h.path("/proc/self/mounts"))
	var all []mount
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 4 {
			all = append(all, mount{strings.ReplaceAll(f[1], `\040`, " "), f[2], f[3]})
		}
	}
	return all
}

func (h *host) number(file string) (int64, error) {
	b, err := os.ReadFile(h.path(file))
	if err != nil {
		return 0, err
	}
	var n int64
	if _, err := fmt.Sscan(string(b), &n); err != nil {
		return 0, fmt.Errorf("read %s: %w", file, err)
	}
	return n, nil
}
