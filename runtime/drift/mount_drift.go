package drift

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unique"

	"stead/runtime/launch"
	"stead/runtime/record"
	"stead/runtime/status"
	"stead/spec"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mountTable lists the mounts of a process: "ro TARGET" or "rw TARGET" for each, separated
// by zero bytes. Containers with equal mounts share one.
type mountTable = unique.Handle[string]

// readMounts returns the mounts of a process, with paths as the process sees them.
func readMounts(pid int) (mountTable, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return mountTable{}, err
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return mountTable{}, err
	}
	if len(mounts) == 0 {
		return mountTable{}, unix.ESRCH // it is dead
	}
	lines := make([]string, len(mounts))
	for i, m := range mounts {
		access, _, _ := strings.Cut(m.Options, ",")
		lines[i] = access + " " + m.Mountpoint
	}
	slices.Sort(lines)
	return unique.Make(strings.Join(lines, "\x00")), nil
}

// mounted describes the mounts on one target.
type mounted struct {
	times    int
	readOnly bool
}

func parseMounts(t mountTable) map[string]mounted {
	all := map[string]mounted{}
	for line := range strings.SplitSeq(t.Value(), "\x00") {
		access, target, _ := strings.Cut(line, " ")
		m := all[target]
		m.times++
		m.readOnly = m.readOnly || access == "ro"
		all[target] = m
	}
	return all
}

// compareMounts returns the differences of mounts from before. It ignores mounts on other
// targets.
func compareMounts(before, now map[string]mounted) (lost status.Differences) {
	for target, b := range before {
		n := now[target]
		d := status.Difference{Field: "mount " + target}
		switch {
		case n.times < b.times:
			d.Found = "is gone"
		case n.times > b.times:
			d.Found = "is covered by another"
		case n.readOnly && !b.readOnly:
			d.Found = "is read-only"
		case b.readOnly && !n.readOnly:
			d.Found = "can be written"
		default:
			continue
		}
		lost = append(lost, d)
	}
	lost.Sort()
	return lost
}

// mountsDiffer compares the mounts of a container with those of the first look, or at the
// first look with its manifest. It returns the differences and the table of the first look.
func mountsDiffer(m *spec.Container, pid int, first mountTable) (lost status.Differences, now mountTable) {
	now, err := readMounts(pid)
	if err != nil || now == first {
		return nil, first // its end is recorded elsewhere
	}
	if first != (mountTable{}) {
		before, after := parseMounts(first), parseMounts(now)
		leaveToHost(m, pid, before, after)
		return compareMounts(before, after), first
	}
	table := parseMounts(now)
	for target, w := range m.Spec.Mounts { // what else a host root shows depends on what the host had then
		found, there := table[filepath.Clean(target)]
		if !there { // it may lie behind links of the root
			found, there = table[resolvedTarget(pid, target)]
		}
		switch {
		case !there:
			lost = append(lost, status.Difference{Field: "mount " + target, Found: "is gone"})
		case w.ReadOnly && !found.readOnly:
			lost = append(lost, status.Difference{Field: "mount " + target, Found: "can be written"})
		}
	}
	if len(lost) > 0 {
		lost.Sort()
		return lost, mountTable{}
	}
	return nil, now
}

// leaveToHost removes from two tables the mounts that the host may mount and unmount. A
// mount below the source of a bind goes when the host deletes its directory; for such a
// mount only a change from read-only to writable counts. With propagation: slave all mounts
// below the target follow the host.
func leaveToHost(m *spec.Container, pid int, before, after map[string]mounted) {
	nearest := map[string]spec.Mount{}
	for target, w := range m.Spec.Mounts {
		nearest[filepath.Clean(target)] = w
		if resolved := resolvedTarget(pid, target); resolved != "" { // it may lie behind links of the root
			nearest[resolved] = w
		}
	}
	for target, b := range before {
		w, named := nearest[target]
		for up := target; !named && up != "/"; {
			up = filepath.Dir(up)
			if _, here := nearest[up]; here {
				w = nearest[up]
				break
			}
		}
		n, there := after[target]
		switch {
		case w.Propagation == "slave" && (!named || there):
			delete(before, target)
		case !named && w.Source != "" && there:
			b.times = n.times
			before[target] = b
		case !named && w.Source != "":
			delete(before, target)
		}
	}
}

// resolvedTarget resolves a path inside a process's root; "" if it does not exist.
func resolvedTarget(pid int, target string) string {
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(root)
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(root, target, &how)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	path, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	return path
}

// mountsItself reports whether a container may change its own mounts, so that a difference
// may be its own change.
func mountsItself(m *spec.Container) bool {
	s := m.Spec.Security
	if s.Seccomp == "unconfined" { // it may have a user namespace of its own
		return true
	}
	return slices.ContainsFunc(s.Capabilities.Add, func(c string) bool {
		c = strings.TrimPrefix(c, "CAP_")
		return c == "SYS_ADMIN" || c == "ALL"
	})
}

// lookAtMounts looks at the mounts and files of a run. Only a close look compares the options
// of each mount.
func (i *Inspector) lookAtMounts(r Run, files map[string]bool, closely bool) {
	remembered := i.of(r)
	s := *remembered
	if !s.ran {
		ran, _, err := launch.ReadRan(record.RanPath(i.runDir, r.Record.ID()))
		if !ran && err == nil {
			return // before its execve some mounts are missing
		}
		s.ran = true
	}
	if !mountsItself(r.Facts.Manifest) && i.prints.mountsMayDiffer(&s, r.Record.Pid, closely) {
		s.lost, s.table = mountsDiffer(r.Facts.Manifest, r.Record.Pid, s.table)
	}
	if closely && !mountsItself(r.Facts.Manifest) {
		s.stale = staleSources(r.Facts.Manifest, r.Record.Pid)
	}
	lost := s.lost
	i.lookAtMerged(r, &s)
	if s.lookAtDir(r); s.rootGone {
		lost = append(lost[:len(lost):len(lost)], status.Difference{Field: "its root directory", Found: "is gone"})
	}
	if files != nil || !s.before {
		i.lookAtFiles(r, &s, files)
	}
	s.before = true
	var missingFiles status.Differences
	if s.rootLinkGone {
		missingFiles = append(missingFiles, status.Difference{Field: "root link", Found: "is gone"})
	}
	if s.recordGone {
		missingFiles = append(missingFiles, status.Difference{Field: "boot record", Found: "is gone"})
	}
	if len(lost)+len(missingFiles)+len(s.stale) > 0 && !r.Record.Alive() {
		return // another process may have the pid by now
	}
	if i.containers.SetLost(r, lost, missingFiles, s.stale) {
		*remembered = s
	}
}

// lookAtDir looks at the container's directory if an entry came or went.
func (s *seen) lookAtDir(r Run) {
	if !s.dir.changed(r.Dir) {
		return
	}
	root := r.Facts.Manifest.Spec.Rootfs
	to, err := os.Readlink(filepath.Join(r.Dir, "root"))
	s.rootLinkGone = root.Image == "" && (err != nil || to != r.Root)
	_, err = os.Lstat(filepath.Join(r.Dir, "upper"))
	s.rootGone = root.Path == "" && errors.Is(err, os.ErrNotExist)
}

// lookAtMerged looks whether the host still has the merged root of a run. The container has a
// mount of its own, and no mount can be made from that again while it runs.
func (i *Inspector) lookAtMerged(r Run, s *seen) {
	if r.Facts.Manifest.Spec.Rootfs.Image == "" || s.mergedGone {
		return
	}
	rec := record.ReadRoot(i.runDir, r.Name)
	m, ok := launch.MountedAt(r.Root)
	if ok && rec != nil && m == (launch.Mounted{ID: rec.MountID, Dev: rec.Dev}) {
		return
	}
	i.log.Warn("the mount of the container's root on the host was unmounted or replaced by hand; the container keeps its root, its next start mounts it again; run: stead restart "+r.Name, "container", r.Name, "mount", r.Root)
	s.mergedGone, i.of(r).mergedGone = true, true
}

// lookAtFiles looks for missing files of a run. files are the existing ones, nil if unknown.
func (i *Inspector) lookAtFiles(r Run, s *seen, files map[string]bool) {
	gone := func(file string) bool { // a run that began after the files were listed is not among them
		if files[filepath.Base(file)] {
			return false
		}
		_, err := os.Lstat(file)
		return errors.Is(err, os.ErrNotExist)
	}
	s.recordGone = gone(record.Path(i.runDir, r.Record.ID()))
	for _, pipe := range []string{record.StdoutPath(i.runDir, r.Record.ID()), record.StderrPath(i.runDir, r.Record.ID())} {
		if !s.pipeGone && gone(pipe) {
			// The keeper has it open, but it can't get a name again.
			i.log.Warn("output FIFO deleted by hand; logging continues until the keeper exits; run: stead restart "+r.Name, "container", r.Name, "pipe", pipe)
			s.pipeGone = true
		}
	}
	i.of(r).pipeGone = s.pipeGone
}
