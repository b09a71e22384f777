package specconv

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"stead/runtime/launch"
	"stead/runtime/rootfs"
	"stead/spec"
)

// hostRun is the size of a host root's /run.
const hostRun = 64 << 20

// devShm is mounted by the child itself; a manifest says its size.
const devShm = "/dev/shm"

// Mounts returns the manifest's mounts and, for a host root, binds of files of the host's
// /etc and an empty /run; parents before children. It looks up owners in root.
func Mounts(m *spec.Container, root string) ([]launch.Mount, error) {
	var all []launch.Mount
	for target, w := range m.Spec.Mounts {
		if target == devShm || w.Volume != "" { // a volume may have to be made first
			continue
		}
		l := launch.Mount{
			Target: target, Source: w.Source, ReadOnly: w.ReadOnly, MountPoint: w.MountPoint,
			Recursive: w.Source != "" && (w.Recursive == nil || *w.Recursive), Slave: w.Propagation == "slave",
			NoIDMap: w.IDMap != nil && !*w.IDMap,
		}
		if w.Tmpfs != nil {
			l.Mode = modeOf(w.Mode, 0o1777)
			if w.Tmpfs.Size != nil {
				l.Size = int64(*w.Tmpfs.Size)
			}
		}
		owner := w.Owner
		if w.Create && owner == "" {
			owner = m.Spec.User
		}
		if owner != "" {
			id, err := rootfs.LookUp(root, string(owner), nil)
			if err != nil {
				return nil, &Error{AtUser, fmt.Sprintf("mounts[%s].owner: %v", target, err)}
			}
			l.UID, l.GID = id.UID, id.GID
		}
		if w.Create {
			l.Create = &launch.Directory{UID: l.UID, GID: l.GID, Mode: modeOf(w.Mode, 0o755)}
			l.UID, l.GID = 0, 0 // the mount has these for a tmpfs only
		}
		all = append(all, l)
	}
	if m.Spec.Rootfs.Host != nil {
		declared := func(target string) bool { _, ok := m.Spec.Mounts[target]; return ok }
		for _, p := range rootfs.HostShares() {
			if !declared(p) {
				all = append(all, launch.Mount{Target: p, Source: p, ReadOnly: true})
			}
		}
		if !declared("/run") {
			all = append(all, launch.Mount{Target: "/run", Size: hostRun, Mode: 0o755})
		}
	}
	slices.SortFunc(all, func(a, b launch.Mount) int { return strings.Compare(a.Target, b.Target) })
	return all, nil
}

// modeOf parses a valid mode of a manifest; absent is the mode for "".
func modeOf(text string, absent uint32) uint32 {
	if n, err := strconv.ParseUint(text, 8, 32); err == nil {
		return uint32(n)
	}
	return absent
}

// shmSize returns the size of /dev/shm in bytes, 0 if the manifest has none.
func shmSize(m *spec.Container) int64 {
	if w := m.Spec.Mounts[devShm]; w.Tmpfs != nil && w.Tmpfs.Size != nil {
		return int64(*w.Tmpfs.Size)
	}
	return 0
}

// sysctls returns the manifest's sysctls by name.
func sysctls(m *spec.Container) (all []launch.Sysctl) {
	for _, name := range slices.Sorted(maps.Keys(m.Spec.Sysctls)) {
		all = append(all, launch.Sysctl{Name: name, Value: string(m.Spec.Sysctls[name])})
	}
	return all
}
