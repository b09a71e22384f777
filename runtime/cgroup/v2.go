package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func isGone(err error) bool { return errors.Is(err, unix.ESRCH) }

// controllersV2 lists the v2 controllers of the groups below the parent.
var controllersV2 = []string{"memory", "cpu", "pids", "cpuset", "io"}

// mkdirV2 creates the group. It creates the parent before the first group, and again if
// somebody has removed it.
func (g *Group) mkdirV2() error {
	h := g.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.parentMade {
		err := os.Mkdir(g.unifiedFile(""), 0o755)
		if err == nil || errors.Is(err, os.ErrExist) {
			return nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := h.makeParent(); err != nil {
		return err
	}
	h.parentMade = true
	return os.MkdirAll(g.unifiedFile(""), 0o755)
}

// makeParent creates the parent group and enables the controllers on every level down to it,
// each by its own write: the library enables all or none, and hides the reason. A limit
// whose controller can't be enabled is reported as not applied.
func (h *Host) makeParent() error {
	h.unavailable = map[string]error{}
	dir := h.unified
	for _, name := range strings.Split(h.Parent, "/") { // "", "stead"
		dir = filepath.Join(dir, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		have, err := read(filepath.Join(dir, "cgroup.controllers"))
		if err != nil {
			return err
		}
		on, err := read(filepath.Join(dir, "cgroup.subtree_control"))
		if err != nil {
			return err
		}
		for _, c := range controllersV2 {
			if slices.Contains(strings.Fields(on), c) || !slices.Contains(strings.Fields(have), c) {
				continue
			}
			if err := write(filepath.Join(dir, "cgroup.subtree_control"), "+"+c); err != nil {
				h.unavailable[c] = fmt.Errorf("enable controller %s in cgroup %s: %w", c, dir, err)
			}
		}
	}
	return nil
}

// stepsV2 returns the steps for v2. They write the files themselves, because the library can't
// unset a limit and tries to create missing control files.
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
	if old.MemoryLow != l.MemoryLow {
		steps = append(steps, step{"memoryLow", func() error { return g.memoryLowV2(l.MemoryLow) }})
	}
	if old.CPU != l.CPU {
		quota := "max"
		if l.CPU != None {
			quota = strconv.FormatInt(l.CPU*period/1000, 10)
		}
		file("cpu", "cpu.max", fmt.Sprintf("%s %d", quota, period))
	}
	if old.CPUWeight != l.CPUWeight {
		file("cpuWeight", "cpu.weight", number(l.CPUWeight, "100"))
	}
	if old.Pids != l.Pids {
		file("pids", "pids.max", number(l.Pids, "max"))
	}
	if old.Cpuset != l.Cpuset {
		steps = append(steps, step{"cpuset", func() error { return g.cpusetV2(l.Cpuset) }})
	}
	if old.IOWeight != l.IOWeight {
		steps = append(steps, step{"io.weight", func() error { return g.ioWeightV2(l.IOWeight) }})
	}
	return steps
}

// setFile writes a control file. A missing file means that this host does not support the
// limit.
func (g *Group) setFile(name, value string) error {
	err := write(g.unifiedFile(name), value)
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, e := os.Stat(g.unifiedFile("")); e != nil {
		return e // the group itself is gone
	}
	controller, _, _ := strings.Cut(name, ".")
	g.host.mu.Lock()
	if g.controllerOff(controller) { // somebody took it away
		if err := g.host.makeParent(); err == nil {
			err = write(g.unifiedFile(name), value)
			g.host.mu.Unlock()
			return err
		}
	}
	why := g.host.unavailable[controller]
	g.host.mu.Unlock()
	if why != nil {
		return fmt.Errorf("%v: %w", why, errors.ErrUnsupported)
	}
	return fmt.Errorf("this host's cgroups have no %s: %w", name, errors.ErrUnsupported)
}

// controllerOff reports whether the parent group could enable a controller for its groups, and
// does not.
func (g *Group) controllerOff(controller string) bool {
	parent := filepath.Dir(g.unifiedFile(""))
	have, err := read(filepath.Join(parent, "cgroup.controllers"))
	on, e := read(filepath.Join(parent, "cgroup.subtree_control"))
	return err == nil && e == nil && slices.Contains(strings.Fields(have), controller) && !slices.Contains(strings.Fields(on), controller)
}

// cpusetV2 sets the CPUs. The kernel can't unset those of a group with processes (ENOSPC), so
// such a group gets every possible CPU instead.
func (g *Group) cpusetV2(cpus string) error {
	err := g.setFile("cpuset.cpus", cpus+"\n") // an empty line unsets
	if cpus != "" || !errors.Is(err, unix.ENOSPC) {
		return err
	}
	all, err := read("/sys/devices/system/cpu/possible")
	if err != nil {
		return err
	}
	return g.setFile("cpuset.cpus", all)
}

// memoryLowV2 sets the protected memory of the group and adjusts that of the parent.
func (g *Group) memoryLowV2(low int64) error {
	if err := g.setFile("memory.low", number(low, "0")); err != nil {
		return err
	}
	return g.protectParent()
}

// protectParent sets the protection of the parent to the sum of its children's. A group is never
// protected more than its parent, and a surplus of the parent would protect groups that
// requested none.
func (g *Group) protectParent() error {
	parent := filepath.Dir(g.unifiedFile(""))
	files, err := filepath.Glob(filepath.Join(parent, "*", "memory.low"))
	if err != nil {
		return err
	}
	sum := int64(0)
	for _, file := range files {
		text, err := read(file)
		n, e := strconv.ParseInt(text, 10, 64)
		if err == nil && e == nil { // else the group is gone, or somebody wrote max
			sum += n
		}
	}
	return write(filepath.Join(parent, "memory.low"), strconv.FormatInt(sum, 10))
}

// memoryV2 sets memory.max without kills: a write below the memory in use succeeds, and the
// kernel kills. A limit that grows, or that of a group without processes, is just
// written.
func (g *Group) memoryV2(limit int64) error {
	value := number(limit, "max")
	now, err := read(g.unifiedFile("memory.max"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	have, err := strconv.ParseInt(now, 10, 64) // "max", or nothing, is no number
	grows := limit == None || err == nil && have <= limit
	if grows || now == "" || readKeyed(g.unifiedFile("cgroup.events"))["populated"] == 0 {
		return g.setFile("memory.max", value)
	}
	return g.shrinkV2(limit)
}

// shrinkV2 lowers memory.max. What does not fit is pushed out first, which may take
// long, and the container runs on meanwhile. If it still does not fit, or can't be
// frozen, the old limit stays.
func (g *Group) shrinkV2(limit int64) error {
	err := g.setIfFits(limit)
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	used, err := g.memoryUsed()
	if err != nil {
		return err
	}
	// memory.high reclaims what can be had and holds the group back from growing
	// meanwhile; memory.reclaim (Linux 5.19) asks for some more at once, to leave
	// room, and says EAGAIN if it got less: what counts is what is used then.
	if err := g.lowerHigh(limit); err != nil {
		return err
	}
	defer g.RestoreHigh()
	write(g.unifiedFile("memory.reclaim"), strconv.FormatInt(max(0, used-limit)+limit/16, 10))
	return g.setIfFits(limit)
}

// highAttr marks a group whose memory.high stead has lowered for a moment; its value is what it was
// before. If the process dies meanwhile, recovery puts that back.
const highAttr = "trusted.stead.high"

// lowerHigh lowers memory.high after it has marked the group.
func (g *Group) lowerHigh(limit int64) error {
	if err := g.RestoreHigh(); err != nil { // of a process that died: its low value is not the one from before
		return err
	}
	high, err := read(g.unifiedFile("memory.high"))
	if err != nil {
		return err
	}
	dir := g.unifiedFile("")
	if err := unix.Setxattr(dir, highAttr, []byte(high), 0); err != nil {
		return &os.PathError{Op: "setxattr", Path: dir, Err: err}
	}
	return g.setFile("memory.high", strconv.FormatInt(limit, 10))
}

// RestoreHigh puts a lowered memory.high back. It may be repeated. It is no error if the group
// does not exist, or if nothing was lowered.
func (g *Group) RestoreHigh() error {
	if g.host.unified == "" {
		return nil
	}
	high := make([]byte, 64)
	n, err := unix.Getxattr(g.unifiedFile(""), highAttr, high)
	if err != nil {
		return nil
	}
	if err := write(g.unifiedFile("memory.high"), string(high[:n])); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("restore memory.high: %w", err)
	}
	_ = unix.Removexattr(g.unifiedFile(""), highAttr) // last
	return nil
}

// setIfFits writes memory.max if less than that is in use, else it returns EBUSY. The use must
// not grow between the check and the write, so the group is frozen for both: for less than a
// millisecond, unless a process is slow to stop.
func (g *Group) setIfFits(limit int64) error {
	if err := g.fits(limit); err != nil {
		return err
	}
	return g.whileFrozen(func() error {
		if err := g.fits(limit); err != nil {
			return err
		}
		return g.setFile("memory.max", strconv.FormatInt(limit, 10))
	})
}

// fits returns EBUSY if the memory in use does not fit the limit.
func (g *Group) fits(limit int64) error {
	used, err := g.memoryUsed()
	if err == nil && used >= limit {
		err = fmt.Errorf("uses %d bytes: %w", used, unix.EBUSY)
	}
	return err
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
