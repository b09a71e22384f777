package cgroup

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func gone(err error) bool { return errors.Is(err, unix.ESRCH) }

// stepsV2 writes where the library can't: it has no way to unset a limit.
func (g *Group) stepsV2(old, l Limits) (steps []step) {
	file := func(field, name, value string) {
		steps = append(steps, step{field, func() error { return g.setFile(name, value) }})
	}
	if old.Swap != l.Swap {
		file("swap", "memory.swap.max", number(l.Swap, "max"))
	}
	if old.Memory != l.Memory {
		steps = append(steps, step{"memory", func() error { return g.memoryV2(l.Memory) }})
	}
	if old.CPU != l.CPU {
		quota := (*int64)(nil)
		if l.CPU != None {
			q := l.CPU * period / 1000
			quota = &q
		}
		p := uint64(period)
		steps = append(steps, step{"cpu", func() error {
			return g.manager(func(m *cgroup2.Manager) error {
				return m.Update(&cgroup2.Resources{CPU: &cgroup2.CPU{Max: cgroup2.NewCPUMax(quota, &p)}})
			})
		}})
	}
	if old.CPUWeight != l.CPUWeight {
		file("cpuWeight", "cpu.weight", number(l.CPUWeight, "100"))
	}
	if old.Pids != l.Pids {
		file("pids", "pids.max", number(l.Pids, "max"))
	}
	if old.Cpuset != l.Cpuset {
		file("cpuset", "cpuset.cpus", l.Cpuset+"\n") // an empty line unsets
	}
	if old.IOWeight != l.IOWeight {
		steps = append(steps, step{"io.weight", func() error { return g.ioWeightV2(l.IOWeight) }})
	}
	return steps
}

func (g *Group) manager(f func(*cgroup2.Manager) error) error {
	if _, err := os.Stat(g.unifiedFile("")); err != nil {
		return err // the library's Load does not look
	}
	m, err := cgroup2.Load(g.path, cgroup2.WithMountpoint(g.host.unified))
	if err != nil {
		return err
	}
	return f(m)
}

func (g *Group) setFile(name, value string) error {
	err := write(g.unifiedFile(name), value)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("this host's cgroups have no %s: %w", name, errors.ErrUnsupported)
	}
	return err
}

// memoryV2 never lets the kernel kill: writing memory.max below what is used
// succeeds and does. So what is used is pushed below first (memory.high
// reclaims, without an end), and where that fails the old limit stays.
func (g *Group) memoryV2(limit int64) error {
	if limit == None {
		return g.setFile("memory.max", "max")
	}
	used, err := g.memoryUsed()
	if err != nil {
		return err
	}
	if used < limit {
		return g.setFile("memory.max", strconv.FormatInt(limit, 10))
	}
	high, err := read(g.unifiedFile("memory.high"))
	if err != nil {
		return err
	}
	// memory.high makes the group reclaim its own memory and holds it back from
	// growing meanwhile; memory.reclaim (Linux 5.19) does the work at once.
	if err := g.setFile("memory.high", strconv.FormatInt(limit, 10)); err != nil {
		return err
	}
	defer write(g.unifiedFile("memory.high"), high)
	write(g.unifiedFile("memory.reclaim"), strconv.FormatInt(used-limit+used/16, 10))
	if used, err = g.memoryUsed(); err != nil {
		return err
	}
	if used >= limit {
		return fmt.Errorf("uses %d bytes: %w", used, unix.EBUSY)
	}
	return g.setFile("memory.max", strconv.FormatInt(limit, 10))
}

func (g *Group) memoryUsed() (int64, error) {
	s, err := read(g.unifiedFile("memory.current"))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(s, 10, 64)
}

func (g *Group) ioWeightV2(weight int64) error {
	value := number(weight, "100")
	err := write(g.unifiedFile("io.weight"), "default "+value)
	if errors.Is(err, os.ErrNotExist) { // no io.cost: BFQ's, of 1–1000
		w, _ := strconv.ParseInt(value, 10, 64)
		err = write(g.unifiedFile("io.bfq.weight"), strconv.FormatInt(min(w, 1000), 10))
	}
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("this kernel has no weights for block devices (io.cost or scheduler bfq): %w", errors.ErrUnsupported)
	}
	return err
}

// limitDevices allows the nodes of a default /dev and ptys, nothing else. The
// mknod of any node is allowed, as by Docker and Podman: opening it is not.
func (g *Group) limitDevices() error {
	rules := deviceRules()
	if g.host.Mode == V2 {
		return g.manager(func(m *cgroup2.Manager) error { return m.Update(&cgroup2.Resources{Devices: rules}) })
	}
	return cgroup1.NewDevices(dirOf(g.host.v1["devices"])).Update(g.path, &specs.LinuxResources{Devices: rules})
}

func deviceRules() []specs.LinuxDeviceCgroup {
	n := func(v int64) *int64 { return &v }
	// The library's v2 filter panics on a nil major or minor.
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Type: "a", Major: n(-1), Minor: n(-1), Access: "rwm"}}
	for _, kind := range []string{"c", "b"} {
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: kind, Major: n(-1), Minor: n(-1), Access: "m"})
	}
	for _, d := range [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 2}, {136, -1}} {
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: n(d[0]), Minor: n(d[1]), Access: "rwm"})
	}
	return rules
}
