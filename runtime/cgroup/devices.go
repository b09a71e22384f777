package cgroup

import (
	"fmt"

	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Device allows access to one device or to several.
type Device struct {
	Type         byte   // 'c' or 'b'
	Major, Minor int64  // -1 is all
	Access       string // "r", "w" or "rw"
}

// DefaultDevices returns the devices of every container's /dev, and ptys.
func DefaultDevices() []Device {
	var all []Device
	for _, d := range [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 2}, {136, -1}} {
		all = append(all, Device{'c', d[0], d[1], "rw"})
	}
	return all
}

// LimitsDevices reports whether this host can limit devices: by eBPF on v2, else by v1's
// devices controller.
func (h *Host) LimitsDevices() bool { return h.Mode == V2 || h.v1["devices"] != "" }

// limitDevices allows access to these devices only. Making any node is allowed, as in Docker
// and Podman; opening it is not.
func (g *Group) limitDevices(allowed []Device) error {
	allowed = append([]Device{{'c', -1, -1, ""}, {'b', -1, -1, ""}}, allowed...)
	if g.host.Mode == V2 {
		m, err := cgroup2.Load(g.path, cgroup2.WithMountpoint(g.host.unified))
		if err != nil {
			return err
		}
		return m.Update(&cgroup2.Resources{Devices: deviceRules(allowed)}) // a BPF program
	}
	// The library opens the file for each rule, which costs more than the rules.
	rules := make([]string, len(allowed))
	for i, d := range allowed {
		rules[i] = fmt.Sprintf("%c %s:%s %sm", d.Type, number(d.Major, "*"), number(d.Minor, "*"), d.Access)
	}
	if err := write(g.v1File("devices", "devices.deny"), "a"); err != nil {
		return err
	}
	return write(g.v1File("devices", "devices.allow"), rules...)
}

func deviceRules(allowed []Device) []specs.LinuxDeviceCgroup {
	// The library's filter panics on a nil major or minor.
	rule := func(allow bool, kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
		return specs.LinuxDeviceCgroup{Allow: allow, Type: kind, Major: &major, Minor: &minor, Access: access}
	}
	rules := []specs.LinuxDeviceCgroup{rule(false, "a", -1, -1, "rwm")}
	for _, d := range allowed {
		rules = append(rules, rule(true, string(d.Type), d.Major, d.Minor, d.Access+"m"))
	}
	return rules
}
