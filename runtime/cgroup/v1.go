package cgroup

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// update sets one limit by the library.
func (g *Group) update(c interface {
	Update(string, *specs.LinuxResources) error
}, r *specs.LinuxResources) error {
	return c.Update(g.path, r)
}

func (g *Group) stepsV1(old, l Limits) (steps []step) {
	add := func(field string, set func() error) { steps = append(steps, step{field, set}) }
	_, err := os.Stat(g.v1File("memory", "memory.memsw.limit_in_bytes"))
	switch {
	case err == nil && (old.Memory != l.Memory || old.Swap != l.Swap):
		add("memory", func() error { return g.memoryAndSwapV1(l) })
	case old.Memory != l.Memory:
		add("memory", func() error { return g.setMemoryV1(specs.LinuxMemory{Limit: &l.Memory}) }) // None is -1: unlimited
	}
	if old.MemoryLow != l.MemoryLow {
		add("memoryLow", func() error {
			return write(g.v1File("memory", "memory.soft_limit_in_bytes"), number(l.MemoryLow, "-1"))
		})
	}
	if err != nil && l.Swap != None {
		add("swap", func() error {
			return fmt.Errorf("this kernel does not count swap (boot it with swapaccount=1): %w", errors.ErrUnsupported)
		})
	}
	if old.CPU != l.CPU {
		quota := int64(-1)
		if l.CPU != None {
			quota = l.CPU * period / 1000
		}
		p := uint64(period)
		add("cpu", func() error {
			return g.update(cgroup1.NewCpu(hierarchyParent(g.host.v1["cpu"])), &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &quota, Period: &p}})
		})
	}
	if old.CPUWeight != l.CPUWeight {
		s := shares(100)
		if l.CPUWeight != None {
			s = shares(l.CPUWeight)
		}
		add("cpuWeight", func() error {
			return g.update(cgroup1.NewCpu(hierarchyParent(g.host.v1["cpu"])), &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &s}})
		})
	}
	if old.Pids != l.Pids {
		// The library ignores a limit ≤ 0, so a removed limit would stay.
		add("pids", func() error { return write(g.v1File("pids", "pids.max"), number(l.Pids, "max")) })
	}
	if old.Cpuset != l.Cpuset {
		add("cpuset", func() error { return g.cpusetV1(l) })
	}
	if old.IOWeight != l.IOWeight {
		add("io.weight", func() error { return g.ioWeightV1(l) })
	}
	return steps
}

func hierarchyParent(point string) string { return point[:strings.LastIndexByte(point, '/')] }

// memoryAndSwapV1 sets memory and memory+swap, which must never be below memory. The
// library's Update of both together fails with EINVAL when it raises them. So each is set
// alone: memory+swap first when it grows, last when it shrinks.
func (g *Group) memoryAndSwapV1(l Limits) error {
	limit, both := l.Memory, int64(-1) // -1 is unlimited
	if l.Swap != None && l.Memory != None {
		both = l.Memory + l.Swap
	}
	now, err := read(g.v1File("memory", "memory.memsw.limit_in_bytes"))
	if err != nil {
		return err
	}
	current, _ := strconv.ParseUint(now, 10, 64)
	grow := both == -1 || uint64(both) > current
	if grow {
		if err := g.setMemoryV1(specs.LinuxMemory{Swap: &both}); err != nil {
			return err
		}
	}
	before, err := read(g.v1File("memory", "memory.limit_in_bytes"))
	if err != nil {
		return err
	}
	if err := g.setMemoryV1(specs.LinuxMemory{Limit: &limit}); err != nil {
		if grow { // undo
			write(g.v1File("memory", "memory.memsw.limit_in_bytes"), now)
		}
		return err
	}
	if grow {
		return nil
	}
	err = g.setMemoryV1(specs.LinuxMemory{Swap: &both})
	if err != nil { // undo: a use that fits only by swapping does not fit
		write(g.v1File("memory", "memory.limit_in_bytes"), before)
	}
	return err
}

func (g *Group) setMemoryV1(m specs.LinuxMemory) error {
	return g.update(cgroup1.NewMemory(hierarchyParent(g.host.v1["memory"])), &specs.LinuxResources{Memory: &m})
}

// cpusetV1 sets the CPUs. If the group was made without the cpuset hierarchy, it also moves the
// processes into it, repeatedly, since they may fork meanwhile.
func (g *Group) cpusetV1(l Limits) error {
	if g.host.v1["cpuset"] == "" {
		return notMounted("cpuset")
	}
	c := cgroup1.NewCpuset(hierarchyParent(g.host.v1["cpuset"]))
	if err := c.Create(g.path, &specs.LinuxResources{}); err != nil { // copies the parent's CPUs and memory nodes
		return err
	}
	cpus := l.Cpuset
	if cpus == "" {
		var err error
		if cpus, err = read(strings.TrimSuffix(g.v1File("cpuset", ""), g.path) + "/cpuset.cpus"); err != nil {
			return err
		}
	}
	if err := write(g.v1File("cpuset", "cpuset.cpus"), cpus); err != nil {
		return err
	}
	return g.moveProcesses("cpuset")
}

func (g *Group) ioWeightV1(l Limits) error {
	if g.host.v1["blkio"] == "" {
		return notMounted("blkio")
	}
	if err := os.MkdirAll(g.v1File("blkio", ""), 0o755); err != nil {
		return err
	}
	// The library writes only blkio.weight, which was removed with the CFQ scheduler
	// (Linux 5.0); BFQ's file takes 1–1000.
	weight := int64(100)
	if l.IOWeight != None {
		weight = min(max(1, l.IOWeight), 1000)
	}
	err := fmt.Errorf("this kernel has no weights for block devices (scheduler bfq): %w", errors.ErrUnsupported)
	for _, file := range []string{"blkio.bfq.weight", "blkio.weight"} {
		if _, e := os.Stat(g.v1File("blkio", file)); e == nil {
			err = write(g.v1File("blkio", file), strconv.FormatInt(weight, 10))
			break
		}
	}
	if err != nil {
		return err
	}
	return g.moveProcesses("blkio")
}

// moveProcesses moves the group's processes into a hierarchy that the group joins late.
func (g *Group) moveProcesses(controller string) error {
	for range 100 {
		pids, err := g.Pids()
		if err != nil {
			return err
		}
		in, err := read(g.v1File(controller, "cgroup.procs"))
		if err != nil {
			return err
		}
		have := " " + strings.Join(strings.Fields(in), " ") + " "
		missing := 0
		for _, pid := range pids {
			if p := strconv.Itoa(pid); !strings.Contains(have, " "+p+" ") {
				missing++
				if err := write(g.v1File(controller, "cgroup.procs"), p); err != nil && !isGone(err) {
					return err
				}
			}
		}
		if missing == 0 {
			return nil
		}
	}
	return errors.New("processes fork faster than they can be moved")
}
