package specconv

import (
	"sort"

	"stead/runtime/launch"
	"stead/runtime/rootfs"
	"stead/spec"
)

// hostRun is the size of a host root's /run.
const hostRun = 64 << 20

// Mounts are the manifest's mounts and, for a host root, what it shows of the
// host's /etc and an empty /run; parents before children.
func Mounts(m *spec.Container) []launch.Mount {
	var all []launch.Mount
	for target, w := range m.Spec.Mounts {
		l := launch.Mount{Target: target, Source: w.Source, ReadOnly: w.ReadOnly}
		if w.Tmpfs != nil {
			l.Mode = 0o1777
			if w.Tmpfs.Size != nil {
				l.Size = int64(*w.Tmpfs.Size)
			}
		}
		all = append(all, l)
	}
	if m.Spec.Rootfs.Host != nil {
		said := func(target string) bool { _, ok := m.Spec.Mounts[target]; return ok }
		for _, p := range rootfs.HostShares() {
			if !said(p) {
				all = append(all, launch.Mount{Target: p, Source: p, ReadOnly: true})
			}
		}
		if !said("/run") {
			all = append(all, launch.Mount{Target: "/run", Size: hostRun, Mode: 0o755})
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Target < all[j].Target })
	return all
}
