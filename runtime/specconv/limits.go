package specconv

import (
	"stead/runtime/cgroup"
	"stead/spec"
)

// Limits translates the limits of a manifest, except for devices.
func Limits(m *spec.Container) cgroup.Limits {
	w, l := m.Spec.Resources, cgroup.NoLimits()
	if w.Memory != nil {
		l.Memory = int64(*w.Memory)
	}
	if w.MemoryLow != nil {
		l.MemoryLow = int64(*w.MemoryLow)
	}
	if w.Swap != nil {
		l.Swap = int64(*w.Swap)
	}
	if w.CPU != nil {
		l.CPU = int64(*w.CPU)
	}
	if w.CPUWeight != nil {
		l.CPUWeight = *w.CPUWeight
	}
	if w.Pids != nil {
		l.Pids = *w.Pids
	}
	if w.IO != nil && w.IO.Weight != nil {
		l.IOWeight = *w.IO.Weight
	}
	l.Cpuset = w.Cpuset
	return l
}

// LogKeep returns how many rotated log files are kept.
func LogKeep(m *spec.Container) int {
	if m.Spec.Logs.Keep == nil {
		return 5
	}
	return int(*m.Spec.Logs.Keep)
}

// Forget marks a limit as unknown, so that the next update writes it.
func Forget(l *cgroup.Limits, path string) {
	const unknown = -2
	switch path {
	case "spec.resources.memory":
		l.Memory, l.Swap = unknown, unknown
	case "spec.resources.memoryLow":
		l.MemoryLow = unknown
	case "spec.resources.swap":
		l.Swap = unknown
	case "spec.resources.cpu":
		l.CPU = unknown
	case "spec.resources.cpuWeight":
		l.CPUWeight = unknown
	case "spec.resources.pids":
		l.Pids = unknown
	case "spec.resources.cpuset":
		l.Cpuset = "unknown"
	case "spec.resources.io.weight":
		l.IOWeight = unknown
	}
}
