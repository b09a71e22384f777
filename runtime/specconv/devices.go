package specconv

import (
	"fmt"
	"strings"

	"stead/runtime/cgroup"
	"stead/runtime/launch"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// atDevice: what security.devices names is no device of the host. Besides
// launch's own.
const AtDevice launch.Where = "device"

// Devices looks up what security.devices names. The nodes are the container's
// own, and of its root: every user inside may open them, whomever the host's
// belong to; the cgroup says how.
func Devices(m *spec.Container) ([]launch.Device, error) {
	var all []launch.Device
	for _, text := range m.Spec.Security.Devices {
		d := spec.ParseDevice(text)
		var st unix.Stat_t
		if err := unix.Stat(d.Path, &st); err != nil {
			return nil, &Error{AtDevice, fmt.Sprintf("security.devices %s: %v", d.Path, err)}
		}
		kind := st.Mode & unix.S_IFMT
		if kind != unix.S_IFCHR && kind != unix.S_IFBLK {
			return nil, &Error{AtDevice, fmt.Sprintf("security.devices %s: found %s, want a character or block device", d.Path, kindOf(kind))}
		}
		mode := map[string]uint32{"r": 0o444, "w": 0o222, "rw": 0o666}[d.Access]
		all = append(all, launch.Device{Name: strings.TrimPrefix(d.Path, "/dev/"), Mode: kind | mode, Dev: st.Rdev})
	}
	return all, nil
}

func kindOf(mode uint32) string {
	switch mode {
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFREG:
		return "a file"
	}
	return "something else"
}

// AllowedDevices is what the container's cgroup allows. In a user namespace no node
// can be made and none of another's opened, so there the default list is a second
// lock, done without where v1's devices controller is not mounted.
func AllowedDevices(m *spec.Container, devices []launch.Device, host *cgroup.Host) []cgroup.Device {
	if m.Spec.Security.Userns != "host" && len(devices) == 0 && !host.LimitsDevices() {
		return nil
	}
	list := cgroup.DefaultDevices()
	for i, d := range devices {
		kind := byte('c')
		if d.Mode&unix.S_IFMT == unix.S_IFBLK {
			kind = 'b'
		}
		access := spec.ParseDevice(m.Spec.Security.Devices[i]).Access
		list = append(list, cgroup.Device{Type: kind, Major: int64(unix.Major(d.Dev)), Minor: int64(unix.Minor(d.Dev)), Access: access})
	}
	return list
}
