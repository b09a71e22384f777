package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// None is a limit that is not set.
const None = -1

// Limits of a group; None where there is none.
type Limits struct {
	Memory    int64 // bytes
	MemoryLow int64 // bytes that the kernel reclaims last
	Swap      int64 // bytes on top of Memory
	CPU       int64 // millicores
	CPUWeight int64 // 1–10000
	Pids      int64
	Cpuset    string   // "" is all
	IOWeight  int64    // 1–10000
	Devices   []Device // that may be opened; nil: any
}

// NoLimits returns limits of which none is set.
func NoLimits() Limits {
	return Limits{Memory: None, MemoryLow: None, Swap: None, CPU: None, CPUWeight: None, Pids: None, IOWeight: None}
}

// Refusal is a limit that the kernel refused. The old value stays in force.
type Refusal struct {
	Field   string // as in the manifest below resources: "memory", "io.weight"
	Message string
}

// step sets one limit.
type step struct {
	field string
	set   func() error
}

// Create creates the group with its limits. After an error nothing is left. Limits that this
// kernel does not support are returned as refusals, and the group exists without them. Any
// other limit that can't be set is an error.
func (g *Group) Create(l Limits) ([]Refusal, error) {
	err := g.mkdirs(l)
	if err == nil {
		err = g.setOwner()
	}
	var refused []Refusal
	if err == nil {
		for _, s := range g.steps(NoLimits(), l) {
			switch e := s.set(); {
			case errors.Is(e, errors.ErrUnsupported):
				refused = append(refused, Refusal{s.field, e.Error()})
			case e != nil && err == nil:
				err = fmt.Errorf("set limit %s: %w", s.field, e)
			}
		}
	}
	if err == nil && l.Devices != nil {
		err = g.limitDevices(l.Devices)
	}
	if err != nil {
		g.Remove()
		return nil, fmt.Errorf("create cgroup %s: %w", g.path, err)
	}
	return refused, nil
}

// Update changes the limits of a running group from old to l. A limit that the kernel refuses
// keeps its old value and is returned. Update never lets the kernel kill a process
// to make a limit fit.
func (g *Group) Update(old, l Limits) []Refusal {
	var refused []Refusal
	for _, s := range g.steps(old, l) {
		err := s.set()
		if errors.Is(err, errors.ErrUnsupported) && l.isUnset(s.field) {
			continue // the limit is not set anyway
		}
		if err != nil {
			refused = append(refused, Refusal{s.field, refusalText(err)})
		}
	}
	return refused
}

// steps returns the steps that change the limits from old to l.
func (g *Group) steps(old, l Limits) []step {
	if g.host.Mode == V2 {
		return g.stepsV2(old, l)
	}
	return g.stepsV1(old, l)
}

// isUnset reports whether this limit is not set.
func (l Limits) isUnset(field string) bool {
	return l.Cpuset == "" && field == "cpuset" || map[string]int64{
		"memory": l.Memory, "memoryLow": l.MemoryLow, "swap": l.Swap, "cpu": l.CPU, "cpuWeight": l.CPUWeight, "pids": l.Pids, "io.weight": l.IOWeight,
	}[field] == None
}

func refusalText(err error) string {
	if errors.Is(err, unix.EBUSY) {
		return "the container uses more than that now"
	}
	return err.Error()
}

func (g *Group) mkdirs(l Limits) error {
	if g.host.Mode == V2 {
		return g.mkdirV2()
	}
	if g.host.unified != "" {
		if err := os.MkdirAll(g.unifiedFile(""), 0o755); err != nil {
			return err
		}
	}
	_, err := cgroup1.New(cgroup1.StaticPath(g.path), &specs.LinuxResources{}, cgroup1.WithHierarchy(func() ([]cgroup1.Subsystem, error) {
		return g.subsystems(l)
	}))
	return err
}

// subsystems returns the v1 hierarchies that the limits need. The library expects the directory
// above a hierarchy's mount point. Where the mount point is not named after the
// controller (cpu,cpuacct), hosts have a link.
func (g *Group) subsystems(l Limits) ([]cgroup1.Subsystem, error) {
	at := func(c string) string { return filepath.Dir(g.host.v1[c]) }
	all := []cgroup1.Subsystem{cgroup1.NewMemory(at("memory")), cgroup1.NewCpu(at("cpu")), cgroup1.NewPids(at("pids"))}
	if l.Cpuset != "" {
		if g.host.v1["cpuset"] == "" {
			return nil, notMounted("cpuset")
		}
		all = append(all, cgroup1.NewCpuset(at("cpuset")))
	}
	if l.IOWeight != None && g.host.v1["blkio"] != "" {
		all = append(all, cgroup1.NewBlkio(at("blkio")))
	}
	if l.Devices != nil {
		if g.host.v1["devices"] == "" {
			return nil, fmt.Errorf("%w, which security.userns host and devices need", notMounted("devices"))
		}
		all = append(all, cgroup1.NewDevices(at("devices")))
	}
	return all, nil
}

// shares converts a weight of 1–10000 (default 100) to v1's cpu.shares of 2 and more (default
// 1024).
func shares(weight int64) uint64 { return uint64(max(2, weight*1024/100)) }

const period = 100_000 // µs, the kernel's default

func number(v int64, unset string) string {
	if v == None {
		return unset
	}
	return strconv.FormatInt(v, 10)
}

// notMounted returns the error for a limit whose controller this host does not have.
func notMounted(controller string) error {
	return fmt.Errorf("cgroup controller %s is not mounted: %w", controller, errors.ErrUnsupported)
}
