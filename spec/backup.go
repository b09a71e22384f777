package spec

import (
	"maps"
	"slices"
	"strconv"
)

// Includes reports whether a backup holds something: `root`, `volumes`, or what is mounted at a path
// inside. The receiver may be nil.
func (b *Backup) Includes(what string) bool {
	if b == nil || b.Include == nil {
		return what == "root" || what == "volumes"
	}
	return slices.Contains(b.Include, what)
}

func (d *decoder) checkBackup(s *Spec) {
	if s.Backup == nil {
		return
	}
	d.checkRange("spec.backup.keep", s.Backup.Keep, 1, 10_000)
	if s.Backup.Target != "" {
		d.checkPath("spec.backup.target", s.Backup.Target)
	}
	d.checkHook("spec.backup.before", s.Backup.Before)
	d.checkHook("spec.backup.after", s.Backup.After)
	const at = "spec.backup.include"
	if s.Backup.Include != nil && len(s.Backup.Include) == 0 {
		d.errorFor(at, "found an empty list, want at least one of root, volumes and the targets of mounts")
	}
	for i, what := range s.Backup.Include {
		at := at + "[" + strconv.Itoa(i) + "]"
		mount, ok := s.Mounts[what]
		switch {
		case what == "root" || what == "volumes":
		case !ok:
			d.errorFor(at, "found %s, want root, volumes, or the target of a mount with a source%s", quote(what), didYouMean(what, append(slices.Sorted(maps.Keys(s.Mounts)), "root", "volumes")))
		case mount.Volume != "":
			d.errorFor(at, "found %s, where a volume is mounted; write volumes, which stands for all of them", quote(what))
		case mount.Tmpfs != nil:
			d.errorFor(at, "found %s, a file system in memory, which no backup holds", quote(what))
		}
	}
	for _, target := range slices.Sorted(maps.Keys(s.Mounts)) {
		if m := s.Mounts[target]; m.Source != "" && !m.ReadOnly && !s.Backup.Includes(target) {
			d.warnFor(joinPath("spec.mounts", target), "%s is not in backups of the container; add %s to spec.backup.include, or back it up on its own", m.Source, target)
		}
	}
}

func (d *decoder) checkHook(at string, h *Hook) {
	switch {
	case h == nil:
		return
	case len(h.Exec) == 0 || h.Exec[0] == "":
		d.errorFor(at+".exec", "found no command, want a list such as [sync]")
	case h.Timeout <= 0:
		d.errorFor(at+".timeout", "found 0, want more than 0")
	}
	d.checkWords(at+".exec", h.Exec)
}
