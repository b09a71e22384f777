package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Drift is a limit that was changed by hand.
type Drift struct {
	Field string // as in Refusal
	Want  string
	Have  string // as the kernel writes it
}

// control is the file of a limit and the text that it has when the limit is set.
type control struct{ field, file, want string }

// Drift returns the limits that differ from l in the kernel. It returns none for a missing
// group.
func (g *Group) Drift(l Limits) []Drift {
	var all []Drift
	unlimited := g.controls(NoLimits())
	for i, c := range g.controls(l) {
		have, err := read(c.file)
		if controller, _, _ := strings.Cut(filepath.Base(c.file), "."); err != nil && g.host.Mode == V2 && c.want != unlimited[i].want &&
			g.Exists() && g.controllerOff(controller) {
			all = append(all, Drift{c.field, c.want, "off: the parent cgroup does not have the controller " + controller})
		}
		if err != nil {
			continue // the group does not exist, or the kernel has no such file
		}
		if c.field == "io.weight" { // lines of single devices follow
			have, _, _ = strings.Cut(have, "\n")
		}
		if have == c.want || c.want == "" {
			continue
		}
		if n, err := strconv.ParseUint(have, 10, 64); err == nil && n > 1<<62 && c.want == "max" {
			continue // unlimited, in v1
		}
		all = append(all, Drift{c.field, c.want, have})
	}
	return all
}

func (g *Group) controls(l Limits) []control {
	page := int64(os.Getpagesize())
	bytes := func(v int64) string {
		if v == None {
			return "max"
		}
		return strconv.FormatInt(v/page*page, 10) // the kernel counts in pages
	}
	low := func(unset string) string {
		if l.MemoryLow == None {
			return unset
		}
		return bytes(l.MemoryLow)
	}
	quota := func(unset string) string {
		if l.CPU == None {
			return unset
		}
		return strconv.FormatInt(l.CPU*period/1000, 10)
	}
	weight := int64(100)
	if l.CPUWeight != None {
		weight = l.CPUWeight
	}
	if g.host.Mode == V2 {
		ioWeight := ""
		if l.IOWeight != None {
			ioWeight = "default " + strconv.FormatInt(l.IOWeight, 10)
		}
		return []control{
			{"io.weight", g.unifiedFile("io.weight"), ioWeight},
			{"memory", g.unifiedFile("memory.max"), bytes(l.Memory)},
			{"memoryLow", g.unifiedFile("memory.low"), low("0")},
			{"swap", g.unifiedFile("memory.swap.max"), bytes(l.Swap)},
			{"cpu", g.unifiedFile("cpu.max"), quota("max") + fmt.Sprintf(" %d", period)},
			{"cpuWeight", g.unifiedFile("cpu.weight"), strconv.FormatInt(weight, 10)},
			{"pids", g.unifiedFile("pids.max"), number(l.Pids, "max")},
			{"cpuset", g.unifiedFile("cpuset.cpus"), l.Cpuset},
		}
	}
	both := int64(None)
	if l.Memory != None && l.Swap != None {
		both = l.Memory + l.Swap
	}
	return []control{
		{"memory", g.v1File("memory", "memory.limit_in_bytes"), bytes(l.Memory)},
		{"memory", g.v1File("memory", "memory.memsw.limit_in_bytes"), bytes(both)},
		{"memoryLow", g.v1File("memory", "memory.soft_limit_in_bytes"), low("max")},
		{"cpu", g.v1File("cpu", "cpu.cfs_quota_us"), quota("-1")},
		{"cpuWeight", g.v1File("cpu", "cpu.shares"), strconv.FormatUint(shares(weight), 10)},
		{"pids", g.v1File("pids", "pids.max"), number(l.Pids, "max")},
		{"cpuset", g.v1File("cpuset", "cpuset.cpus"), l.Cpuset},
	}
}

// Holds reports whether a process is in the group in all hierarchies where the group exists or
// must exist.
func (g *Group) Holds(pid int) bool {
	text, err := read(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return true // the process is gone, which is not drift
	}
	in := map[string]bool{} // controllers; "" is the v2 hierarchy
	for line := range strings.SplitSeq(text, "\n") {
		if f := strings.SplitN(line, ":", 3); len(f) == 3 && f[2] == g.path {
			for c := range strings.SplitSeq(f[1], ",") {
				in[c] = true
			}
		}
	}
	if g.host.unified != "" && !in[""] {
		return false
	}
	for c := range g.host.v1 {
		if in[c] {
			continue
		}
		if _, err := os.Stat(g.v1File(c, "")); err == nil || slices.Contains(controllers, c) {
			return false
		}
	}
	return true
}

// Add puts processes into the group, in all hierarchies.
func (g *Group) Add(pids []int) error {
	for _, dir := range g.Dirs() {
		for _, pid := range pids {
			if err := write(dir+"/cgroup.procs", strconv.Itoa(pid)); err != nil && !isGone(err) {
				return fmt.Errorf("put process %d into cgroup: %w", pid, err)
			}
		}
	}
	return nil
}
