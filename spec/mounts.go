package spec

import (
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
)

func (d *decoder) checkMounts(s *Spec) {
	for _, target := range slices.Sorted(maps.Keys(s.Mounts)) {
		at, m := joinPath("spec.mounts", target), s.Mounts[target]
		d.checkTarget(at, target, m)
		var given []string
		for name, is := range map[string]bool{"source": m.Source != "", "tmpfs": m.Tmpfs != nil, "volume": m.Volume != ""} {
			if is {
				given = append(given, name)
			}
		}
		slices.Sort(given)
		switch {
		case len(given) > 1:
			d.errorFor(at, "found %s, want exactly one of them", strings.Join(given, " and "))
		case len(given) == 0:
			d.errorFor(at, "found none of source, tmpfs and volume, want exactly one of them")
		case m.Source != "":
			d.checkSource(at, m, s.Security.Userns)
		case m.Volume != "":
			d.checkVolume(at, m)
		case *m.Tmpfs.Size <= 0:
			d.errorFor(at+".tmpfs.size", "found 0, want more than 0")
		}
		d.checkOwner(at+".owner", m.Owner)
		d.checkMode(at+".mode", m.Mode, true)
	}
}

func (d *decoder) checkSource(at string, m Mount, userns string) {
	colon := max(strings.LastIndexByte(m.Source, ':'), 0)
	name, options := m.Source[:colon], m.Source[colon:]
	switch {
	case !path.IsAbs(m.Source):
		d.errorFor(at+".source", "found %s, want an absolute path: a mount keeps the directory that the path led to when the container was started", quote(m.Source))
	case options == ":z" || options == ":Z":
		d.errorFor(at+".source", "found %s, want %s: nothing is relabelled", quote(m.Source), quote(name))
	case options == ":ro" || options == ":rw":
		d.errorFor(at+".source", "found %s, want %s, and readOnly: %t beside it", quote(m.Source), quote(name), options == ":ro")
	default:
		d.checkPath(at+".source", m.Source)
	}
	if path.Base(m.Source) == "docker.sock" {
		d.warnFor(at+".source", "stead has no Docker API: this socket shows the containers of Docker, if any; stead ps -o json lists those of stead")
	}
	if m.Propagation == "slave" && userns != "host" {
		d.errorFor(at+".propagation", "slave needs security.userns: host: ids are not mapped in what the host mounts later")
	}
	if m.Propagation == "slave" && m.ReadOnly {
		d.errorFor(at+".propagation", "slave can't be readOnly: what the host mounts later is as writable as on the host")
	}
	if m.Propagation == "slave" && m.Recursive != nil && !*m.Recursive {
		d.errorFor(at+".propagation", "slave has no meaning with recursive: false")
	}
	if !m.Create && (m.Owner != "" || m.Mode != "") {
		field := "owner"
		if m.Owner == "" {
			field = "mode"
		}
		d.errorFor(at+"."+field, "has no meaning without create: true: an existing source keeps its owner and mode")
	}
	if m.Create && m.MountPoint {
		d.errorFor(at+".create", "has no meaning with mountPoint: true: a directory that stead creates is not a mount point")
	}
}

// CheckVolumeName returns an error if a name is no name of a volume.
func CheckVolumeName(name string) error {
	if !isLabelWord(name) {
		return errors.New("want at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends")
	}
	return nil
}

// VolumeTaken says why a container can't have a volume that another one writes.
func VolumeTaken(volume, by string) string {
	return "volume " + volume + " is written by " + by + "; several containers may write it if all of them mount it with shared: true"
}

func (d *decoder) checkVolume(at string, m Mount) {
	switch err := CheckVolumeName(m.Volume); {
	case path.IsAbs(m.Volume):
		d.errorFor(at+".volume", "found %s, want a name; a directory of the host is a source", quote(m.Volume))
	case err != nil:
		d.errorFor(at+".volume", "found %s: %s", quote(m.Volume), err)
	case m.Shared && m.ReadOnly:
		d.errorFor(at+".shared", "has no meaning with readOnly: true: whoever only reads a volume shares it")
	}
}

// checkOwner reports an invalid owner. The owner may be absent.
func (d *decoder) checkOwner(at string, owner Text) {
	if owner == "" {
		return
	}
	if err := checkUser(string(owner)); err != nil {
		d.errorFor(at, "found %s: %s", quote(string(owner)), err)
	}
}

// checkMode reports a mode that is not four octal digits. The first digit is 0; for a
// directory it may be 1 or 2 too. The mode may be absent.
func (d *decoder) checkMode(at, mode string, directory bool) {
	if mode == "" {
		return
	}
	first, want := "0", `four octal digits, as in "0640"`
	if directory {
		first, want = "012", `four octal digits, as in "0750" or "1777"`
	}
	ok := len(mode) == 4 && strings.Contains(first, mode[:1])
	for i := range len(mode) {
		ok = ok && mode[i] >= '0' && mode[i] <= '7'
	}
	if !ok {
		d.errorFor(at, "found %s, want %s", quote(mode), want)
	}
}

// checkTarget reports a target that would hide the mounts that stead makes itself, or that
// they would hide.
func (d *decoder) checkTarget(at, target string, m Mount) {
	switch top, _, _ := strings.Cut(strings.TrimPrefix(target, "/"), "/"); {
	case target == "/":
		d.errorFor(at, "a mount can't replace the root; use rootfs")
	case target == "/dev/shm" && (m.Owner != "" || m.Mode != "" || m.ReadOnly):
		d.errorFor(at, "shared memory takes tmpfs only, without owner, mode and readOnly: every user inside may write it")
	case target == "/dev/shm" && m.Source == "" && m.Volume == "":
	case target == "/dev/shm":
		d.errorFor(at, "found a source or volume, want tmpfs: shared memory is private to the container")
	case path.IsAbs(target) && (top == "proc" || top == "sys" || top == "dev"):
		d.errorFor(at, "stead mounts /%s itself; nothing else can be mounted there or below", top)
	default:
		d.checkPath(at, target)
	}
}

// checkPath reports a path that is not absolute and clean.
func (d *decoder) checkPath(at, p string) {
	switch {
	case !path.IsAbs(p):
		d.errorFor(at, "found %s, want an absolute path", quote(p))
	case path.Clean(p) != p:
		d.errorFor(at, "found %s, want it written as %s", quote(p), quote(path.Clean(p)))
	case len(p) > 4095:
		d.errorFor(at, "is %d bytes; a path has at most 4095", len(p))
	}
}
