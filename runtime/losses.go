package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unique"

	"stead/runtime/atomicfile"
	"stead/runtime/launch"
	"stead/runtime/record"
	"stead/runtime/status"
	"stead/runtime/store"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// What is mounted in a container is compared with what was mounted at first.

// mountTable is what a process has mounted: lines of "TARGET ro" or "TARGET rw", by
// target. Containers of a kind share one.
type mountTable = unique.Handle[string]

// readMounts is the table of a process, of paths as it sees them.
func readMounts(pid int) (mountTable, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return mountTable{}, err
	}
	if len(b) == 0 {
		return mountTable{}, unix.ESRCH // it is dead
	}
	var lines []string
	for line := range bytes.Lines(b) { // ID parent major:minor root target options … (proc_pid_mountinfo(5))
		if f := bytes.SplitN(line, []byte(" "), 7); len(f) == 7 {
			options, _, _ := bytes.Cut(f[5], []byte(","))
			lines = append(lines, string(f[4])+" "+string(options)+"\n")
		}
	}
	slices.Sort(lines)
	return unique.Make(strings.Join(lines, "")), nil
}

// mounted is what a table says of a target.
type mounted struct {
	times    int
	readOnly bool
}

func parseMounts(t mountTable) map[string]mounted {
	all := map[string]mounted{}
	for line := range strings.Lines(t.Value()) {
		target, options, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		m := all[target]
		m.times++
		m.readOnly = m.readOnly || options == "ro"
		all[target] = m
	}
	return all
}

// compareMounts says what has become of the mounts of before. What was mounted
// besides is left alone.
func compareMounts(before, now map[string]mounted) (lost status.Differences) {
	for target, b := range before {
		n := now[target]
		d := status.Difference{Field: "mount " + unescape(target)}
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

// unescape undoes what the kernel does to blanks and the like: \040.
func unescape(s string) string {
	for i := 0; i+3 < len(s); i++ {
		if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); s[i] == '\\' && err == nil {
			s = s[:i] + string(rune(n)) + s[i+4:]
		}
	}
	return s
}

// mountsDiffer says what is not mounted in a container as it should be, and for a
// first look what else is mounted then.
func mountsDiffer(m *spec.Container, pid int, first mountTable) (lost status.Differences, now mountTable) {
	now, err := readMounts(pid)
	if err != nil || now == first {
		return nil, first // its end is told elsewhere
	}
	if first != (mountTable{}) {
		return compareMounts(parseMounts(first), parseMounts(now)), first
	}
	table := map[string]mounted{}
	for target, found := range parseMounts(now) {
		table[unescape(target)] = found
	}
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

// resolvedTarget is where a path leads inside a process's root; "" if nowhere.
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

// mountsItself tells that a container may change its own mounts, so that a
// difference is no one else's doing.
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

// lookAtMounts looks at the mounts and files of a container that runs, and says
// whether something new was found. How each is mounted it asks only if it looks closely.
func (r *Runtime) lookAtMounts(c *container, files map[string]bool, closely bool) (found bool) {
	r.mu.Lock()
	f, rec, seen := c.facts, c.rec, c.seen
	r.mu.Unlock()
	if rec == nil || rec.State != record.Running {
		return false
	}
	if !seen.ran {
		ran, _, err := launch.ReadRan(record.RanPath(r.RunDir, rec.ID()))
		if !ran && err == nil {
			return false // before its execve not all is mounted
		}
		seen.ran = true
	}
	if !mountsItself(f.Manifest) && r.looks.signs.mountsMayDiffer(&seen, rec.Pid, closely) {
		seen.lost, seen.table = mountsDiffer(f.Manifest, rec.Pid, seen.table)
	}
	lost := seen.lost
	if r.lookAtDir(&seen, f); seen.rootless {
		lost = append(lost[:len(lost):len(lost)], status.Difference{Field: "its root directory", Found: "is gone"})
	}
	if files != nil || !seen.before {
		r.lookAtFiles(c, &seen, rec, files)
	}
	seen.before = true
	var strayed status.Differences
	if seen.unlinked {
		strayed = append(strayed, status.Difference{Field: "root link", Found: "is gone"})
	}
	if seen.recordless {
		strayed = append(strayed, status.Difference{Field: "boot record", Found: "is gone"})
	}
	if (len(lost) > 0 || len(strayed) > 0) && !rec.Alive() {
		return false // what was seen may be another's
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.rec != rec || c.starting || c.stopping {
		return false
	}
	found = !slices.Equal(lost, c.lost) || !slices.Equal(strayed, c.strayed)
	c.seen, c.lost, c.strayed = seen, lost, strayed
	return found
}

// lookAtDir looks into the container's directory, if its time says that something
// came or went.
func (r *Runtime) lookAtDir(s *seen, f *store.Facts) {
	dir := r.dir(f.Manifest.Metadata.Name)
	if !s.dir.changed(dir) {
		return
	}
	to, err := os.Readlink(filepath.Join(dir, "root"))
	s.unlinked = err != nil || to != r.root(f.Manifest)
	_, err = os.Lstat(filepath.Join(dir, "upper"))
	s.rootless = f.Manifest.Spec.Rootfs.Host != nil && errors.Is(err, os.ErrNotExist)
}

// lookAtFiles looks which of a run's files are not among those that there are.
func (r *Runtime) lookAtFiles(c *container, s *seen, rec *record.Record, files map[string]bool) {
	gone := func(file string) bool { // what began since the files were listed is not among them
		if files[filepath.Base(file)] {
			return false
		}
		_, err := os.Lstat(file)
		return errors.Is(err, os.ErrNotExist)
	}
	s.recordless = gone(record.Path(r.RunDir, rec.ID()))
	for _, pipe := range []string{record.StdoutPath(r.RunDir, rec.ID()), record.StderrPath(r.RunDir, rec.ID())} {
		if c.noPipes != rec && gone(pipe) {
			// The keeper holds it, and nobody can give it a name again.
			r.Log.Warn("a pipe of its output was deleted by hand: what it writes is lost from when the keeper ends; stead restart makes new ones", "container", c.name, "pipe", pipe)
			c.noPipes = rec
		}
	}
}

// mendFiles puts back what strayed.
func (r *Runtime) mendFiles(c *container, f *store.Facts, rec *record.Record) error {
	r.mu.Lock()
	any := len(c.strayed) > 0
	c.strayed = nil
	r.mu.Unlock()
	if !any {
		return nil
	}
	return errors.Join(atomicfile.Symlink(filepath.Join(r.dir(c.name), "root"), r.root(f.Manifest)), rec.Restore(r.RunDir))
}
