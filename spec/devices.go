package spec

import (
	"slices"
	"strconv"
	"strings"
)

// Device is one of `security.devices`, taken apart: Path on the host and in the
// container alike, Access "r", "w" or "rw".
type Device struct{ Path, Access string }

// ParseDevice takes a valid entry of `security.devices` apart.
func ParseDevice(s string) Device {
	path, access, found := strings.Cut(s, ":")
	if !found {
		access = "rw"
	}
	return Device{path, access}
}

// ownDevices are the names below /dev that stead makes itself; what ends in a slash
// stands for all below.
var ownDevices = strings.Fields("null zero full random urandom tty ptmx fd stdin stdout stderr pts/ shm/ mqueue/")

func (d *decoder) checkDevices(at string, devices []string) {
	seen := map[string]bool{}
	for i, text := range devices {
		at := at + "[" + strconv.Itoa(i) + "]"
		device := ParseDevice(text)
		name, below := strings.CutPrefix(device.Path, "/dev/")
		switch {
		case strings.Count(text, ":") > 1 || strings.HasPrefix(device.Access, "/"):
			d.report(at, "found %s, want one path, with :r, :w or nothing after it; a device has the same path inside as on the host", quote(text))
		case device.Access == "rwm":
			d.report(at, "found %s, want :r, :w or nothing (read and write) after the path; nodes (m) are stead's to make", quote(text))
		case !slices.Contains([]string{"r", "w", "rw"}, device.Access):
			d.report(at, "found %s, want :r, :w or nothing (read and write) after the path", quote(text))
		case !below || name == "":
			d.report(at, "found %s, want a device's path below /dev/, as in /dev/fuse", quote(text))
		case slices.ContainsFunc(ownDevices, func(own string) bool {
			return name+"/" == own || name == own || strings.HasSuffix(own, "/") && strings.HasPrefix(name, own)
		}):
			d.report(at, "found %s: every container has it already", quote(device.Path))
		case seen[device.Path]:
			d.report(at, "found %s a second time", quote(device.Path))
		default:
			d.checkPath(at, device.Path)
		}
		seen[device.Path] = true
	}
}

// deviceSet is asSet, with one spelling of each.
func deviceSet(devices []string) []string {
	for i, text := range devices {
		devices[i] = strings.TrimSuffix(text, ":rw")
	}
	return asSet(devices)
}
