package spec

import (
	"maps"
	"path"
	"slices"
	"strings"
)

// builtinDevices are the names below /dev that stead makes in each container. A name with
// a slash at the end stands for everything below it.
var builtinDevices = strings.Fields("null zero full random urandom tty ptmx fd stdin stdout stderr pts/ shm/ mqueue/")

func (d *decoder) checkDevices(devices map[string]Device) {
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		at, device := joinPath("spec.devices", name), devices[name]
		below, inDev := strings.CutPrefix(name, "/dev/")
		switch host, rest, colon := strings.Cut(name, ":"); {
		case colon && strings.HasPrefix(host, "/dev/") && !strings.HasPrefix(rest, "/"):
			d.errorFor(at, "found %s, want the path alone; write %s: {access: %s}", quote(name), escape(host, 60), translateAccess(rest))
		case colon && strings.HasPrefix(host, "/dev/"):
			inside, access, _ := strings.Cut(rest, ":")
			d.errorFor(at, "found %s, want the path inside; write %s: {source: %s, access: %s}", quote(name), escape(inside, 60), escape(host, 60), translateAccess(access))
		case !inDev || below == "":
			d.errorFor(at, "found %s, want a path below /dev/, as in /dev/fuse", quote(name))
		case slices.ContainsFunc(builtinDevices, func(own string) bool {
			return below+"/" == own || below == own || strings.HasSuffix(own, "/") && strings.HasPrefix(below, own)
		}):
			d.errorFor(at, "found %s: every container has it already", quote(name))
		default:
			d.checkPath(at, name)
		}
		if device.Source != "" {
			d.checkPath(at+".source", device.Source)
		}
		d.checkOwner(at+".owner", device.Owner)
		d.checkMode(at+".mode", device.Mode, false)
	}
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		for up := path.Dir(name); strings.HasPrefix(up, "/dev/"); up = path.Dir(up) {
			if _, there := devices[up]; there {
				d.errorFor(joinPath("spec.devices", name), "lies in %s, which is a device, or a directory of them, already", quote(up))
			}
		}
	}
}

// translateAccess translates the access letters of Docker, where m means mknod.
func translateAccess(access string) string {
	switch strings.Trim(access, "m") {
	case "r":
		return "r"
	case "w":
		return "w"
	}
	return "rw"
}
