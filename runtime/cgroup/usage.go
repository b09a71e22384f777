package cgroup

import (
	"math"
	"os"
	"strconv"
	"strings"
)

// Usage is what a group uses now. A value that this host's cgroups don't report is nil.
type Usage struct {
	Memory     *int64 `json:"memory,omitempty"`     // bytes, with the page cache
	MemoryPeak *int64 `json:"memoryPeak,omitempty"` // the highest value so far, bytes
	Swap       *int64 `json:"swap,omitempty"`       // bytes
	Pids       *int64 `json:"pids,omitempty"`       // processes and threads
	OOMKills   *int64 `json:"oomKills,omitempty"`   // processes killed for lack of memory

	CPU       *float64 `json:"cpu,omitempty"` // CPU time, seconds
	CPUUser   *float64 `json:"cpuUser,omitempty"`
	CPUSystem *float64 `json:"cpuSystem,omitempty"`

	// Pressure has the keys memory, cpu and io.
	Pressure map[string]Pressure `json:"pressure,omitempty"`
}

// Pressure is how long processes waited for a resource: some of them, or all at the same time
// (Documentation/accounting/psi.rst).
type Pressure struct {
	Some *Stall `json:"some,omitempty"`
	Full *Stall `json:"full,omitempty"`
}

// Stall is the share of the last 10, 60 and 300 seconds in percent, and the total in seconds.
type Stall struct {
	Avg10  float64 `json:"avg10"`
	Avg60  float64 `json:"avg60"`
	Avg300 float64 `json:"avg300"`
	Total  float64 `json:"total"`
}

// Usage reads what the group uses. It reads one file after the other, so the values are not of
// exactly the same moment.
func (g *Group) Usage() Usage {
	var u Usage
	if g.host.Mode == V2 {
		u.Memory = readNumber(g.unifiedFile("memory.current"))
		u.MemoryPeak = readNumber(g.unifiedFile("memory.peak")) // Linux 5.19
		u.Swap = readNumber(g.unifiedFile("memory.swap.current"))
		u.Pids = readNumber(g.unifiedFile("pids.current"))
	} else {
		u.Memory = readNumber(g.v1File("memory", "memory.usage_in_bytes"))
		u.MemoryPeak = readNumber(g.v1File("memory", "memory.max_usage_in_bytes"))
		if both := readNumber(g.v1File("memory", "memory.memsw.usage_in_bytes")); both != nil && u.Memory != nil {
			swap := max(0, *both-*u.Memory)
			u.Swap = &swap
		}
		u.Pids = readNumber(g.v1File("pids", "pids.current"))
	}
	if u.Memory != nil {
		kills := g.OOMKills()
		u.OOMKills = &kills
	}
	if g.host.unified == "" {
		return u
	}
	stat := readKeyed(g.unifiedFile("cpu.stat")) // exists even without the controller
	u.CPU, u.CPUUser, u.CPUSystem = seconds(stat, "usage_usec"), seconds(stat, "user_usec"), seconds(stat, "system_usec")
	for _, resource := range []string{"memory", "cpu", "io"} {
		if p, ok := readPressure(g.unifiedFile(resource + ".pressure")); ok {
			if u.Pressure == nil {
				u.Pressure = map[string]Pressure{}
			}
			u.Pressure[resource] = p
		}
	}
	return u
}

// MemoryLimit returns the memory limit in the kernel, in bytes; None if there is none or if it
// can't be read.
func (g *Group) MemoryLimit() int64 {
	file := g.unifiedFile("memory.max") // "max" without one
	if g.host.Mode != V2 {
		file = g.v1File("memory", "memory.limit_in_bytes") // the largest whole number of pages without one
	}
	limit := readNumber(file)
	if limit == nil || *limit > math.MaxInt64-int64(os.Getpagesize()) {
		return None
	}
	return *limit
}

func readNumber(file string) *int64 {
	s, err := read(file)
	if err != nil {
		return nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return nil
	}
	return &n
}

// readKeyed reads a file of "key value" lines.
func readKeyed(file string) map[string]int64 {
	text, err := read(file)
	if err != nil {
		return nil
	}
	all := map[string]int64{}
	for _, line := range strings.Split(text, "\n") {
		key, value, _ := strings.Cut(line, " ")
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			all[key] = n
		}
	}
	return all
}

func seconds(stat map[string]int64, key string) *float64 {
	us, ok := stat[key]
	if !ok {
		return nil
	}
	s := float64(us) / 1e6
	return &s
}

// readPressure reads "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and a line
// "full …". The file is missing, or refuses to be read, where the kernel was
// booted without pressure information (psi=0).
func readPressure(file string) (p Pressure, ok bool) {
	text, err := read(file)
	if err != nil {
		return p, false
	}
	for _, line := range strings.Split(text, "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		s := &Stall{}
		values := map[string]*float64{"avg10": &s.Avg10, "avg60": &s.Avg60, "avg300": &s.Avg300, "total": &s.Total}
		for _, f := range fields[1:] {
			key, value, _ := strings.Cut(f, "=")
			if v := values[key]; v != nil {
				*v, _ = strconv.ParseFloat(value, 64)
			}
		}
		s.Total /= 1e6 // µs
		switch fields[0] {
		case "some":
			p.Some, ok = s, true
		case "full":
			p.Full, ok = s, true
		}
	}
	return p, ok
}
