//go:build fault

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"stead/reconcile/view"
	"stead/runtime/roottest"
)

// look waits until the host is as it should be, and fails if it does not get there.
// What comes too late, a second run say, is seen after the next round.
func (l *life) look() {
	l.t.Helper()
	var wrong []string
	for end := time.Now().Add(roottest.Patience); ; time.Sleep(20 * time.Millisecond) {
		if wrong = l.wrong(); len(wrong) == 0 {
			return
		}
		if l.daemon.dead() || time.Now().After(end) {
			l.fail("%s", strings.Join(wrong, "\n"))
		}
	}
}

// wrong is all that is not as it should be.
func (l *life) wrong() (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	views := map[string]view.Container{}
	for _, v := range l.views() {
		views[v.Name] = v
	}
	var names, put, running []string
	for _, w := range l.all {
		v, there := views[w.name]
		delete(views, w.name)
		if there != w.declared {
			say("%s: is there is %v: %+v", w.name, there, v)
		}
		if w.removed {
			put = append(put, w.name)
		}
		if w.declared {
			names = append(names, w.name)
			w.check(v, say)
			w.pid = v.Pid
		}
		if v.State == view.Running {
			running = append(running, w.name)
		}
		l.count(w, say)
	}
	for name, v := range views {
		say("%s is nobody's: %+v", name, v)
	}
	if len(wrong) == 0 { // what follows makes sense only on a host at rest
		l.checkFiles(names, put, running, say)
		l.checkKernel(running, say)
	}
	return wrong
}

// check compares a container's state with what it should be.
func (w *workload) check(v view.Container, say func(string, ...any)) {
	want := view.Synced
	switch {
	case w.broken:
		want = view.SyncError
	case w.restartWaits || w.limitWaits:
		want = view.Held
	}
	ok := v.Sync == want
	switch {
	case w.body == once: // nobody may have watched its end
		ok = ok && (v.State == view.Completed || v.State == view.Failed && (w.broken || unseen(v)))
	case w.stopped || w.suspend:
		ok = ok && v.State == view.Stopped
	default:
		ok = ok && v.State == view.Running
	}
	if !ok {
		say("%s: %+v", w.name, v)
	}
}

// unseen says that a container ended while no keeper watched; on hold its reason is
// the hold.
func unseen(v view.Container) bool { return v.ExitCode != nil && *v.ExitCode == -1 }

// count compares how often a workload ran with how often it should have: on a
// host's directory, in its own root and in its log.
func (l *life) count(w *workload, say func(string, ...any)) {
	b, _ := os.ReadFile(l.dir + "/count/" + w.name)
	if n := strings.Count(string(b), "\n"); n != w.runs {
		say("%s ran %d times, want %d: %q", w.name, n, w.runs, b)
	}
	if !w.declared {
		return
	}
	own, _ := os.ReadFile(l.dir + "/state/containers/" + w.name + "/upper/root/ran")
	if string(own) != string(b[w.forgotten:]) {
		say("%s: its root holds %q, want %q", w.name, own, b[w.forgotten:])
	}
	l.checkLog(w, string(b), say)
}

// checkLog compares a workload's log with its runs: each has written one line. What
// the keeper had in hand when it died is lost, and nothing else.
func (l *life) checkLog(w *workload, count string, say func(string, ...any)) {
	var want []string
	runs, at := map[string]int{}, 0
	for line := range strings.Lines(count) {
		version := strings.TrimSpace(line)
		runs[version]++
		if at >= w.forgotten {
			want = append(want, fmt.Sprintf("run %s.%d", version, runs[version]))
		}
		at += len(line)
	}
	b, _ := os.ReadFile(l.dir + "/state/containers/" + w.name + "/log/output.log")
	var found []string
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		if len(f) != 4 || f[1] != "stdout" || f[2] != "F" {
			say("%s: its log has a line %q", w.name, line)
			return
		}
		found = append(found, f[3])
	}
	lost := slices.DeleteFunc(slices.Clone(want), func(line string) bool { return slices.Contains(found, line) || w.unlogged[line] })
	if l.keeperDied && len(lost) > 0 {
		if w.unlogged == nil {
			w.unlogged = map[string]bool{}
		}
		for _, line := range lost {
			w.unlogged[line] = true
		}
		lost = nil
	}
	written := slices.DeleteFunc(want, func(line string) bool { return !slices.Contains(found, line) })
	if len(lost) > 0 || !slices.Equal(found, written) {
		say("%s: its log lacks %q and holds %q, of %q", w.name, lost, found, written)
	}
}

// checkFiles compares the names in the state and run directories.
func (l *life) checkFiles(names, put, running []string, say func(string, ...any)) {
	list := func(pattern string, name func(string) string) (found []string) {
		files, _ := filepath.Glob(pattern)
		for _, f := range files {
			found = append(found, name(filepath.Base(f)))
		}
		slices.Sort(found)
		return found
	}
	same := func(what string, found, want []string) {
		slices.Sort(want)
		if !slices.Equal(found, want) {
			say("%s: found %v, want %v", what, found, want)
		}
	}
	before := func(sep string) func(string) string {
		return func(s string) string { s, _, _ = strings.Cut(s, sep); return s }
	}
	same("containers", list(l.dir+"/state/containers/*", before("\n")), slices.Clone(names))
	same("removed", list(l.dir+"/state/removed/*", before("@")), put)
	records := list(l.run+"/containers/*.json", before("."))
	for _, r := range slices.Compact(slices.Clone(records)) {
		if !slices.Contains(names, r) {
			say("a boot record of %s, which is not there", r)
		}
	}
	if len(slices.Compact(slices.Clone(records))) != len(records) {
		say("two boot records of one container: %v", records)
	}
	for _, kind := range []string{"stdout", "stderr", "ran"} {
		same(kind, list(l.run+"/containers/*."+kind, before(".")), slices.Clone(running))
	}
	if odd := list(l.run+"/containers/*~", before("\n")); len(odd) > 0 {
		say("left over: %v", odd)
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + l.group)
	groups = append(groups, "/sys/fs/cgroup/"+l.group)
	for _, g := range groups {
		found := slices.DeleteFunc(list(g+"/*.*", before(".")), func(s string) bool { return !slices.ContainsFunc(l.all, func(w *workload) bool { return w.name == s }) })
		if _, err := os.Stat(g); err == nil {
			same(g, found, slices.Clone(running))
		}
	}
}

// checkKernel counts processes, mounts and descriptors. The first count at rest is
// the measure of all later ones.
func (l *life) checkKernel(running []string, say func(string, ...any)) {
	pidfd, holder := l.keeperNow()
	if pidfd < 0 {
		say("no keeper runs")
		return
	}
	defer unix.Close(pidfd)
	if got, want := len(l.processes()), 2*len(running)+1; got != want { // sh and sleep each, and the keeper
		say("%d processes, want %d: %v", got, want, l.processes())
	}
	b, _ := os.ReadFile("/proc/self/mountinfo")
	if strings.Contains(string(b), l.dir) || strings.Contains(string(b), l.run) {
		say("mounts on the host:\n%s", b)
	}
	mounts := 0
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/mountinfo", holder))
	host, _ := os.Readlink("/proc/self/ns/mnt")
	for _, task := range tasks {
		if at, _ := os.Readlink(filepath.Dir(task) + "/ns/mnt"); at == host {
			continue // what is mounted there is not ours alone
		}
		b, _ := os.ReadFile(task)
		if n := strings.Count(string(b), "\n"); strings.Contains(string(b), "root-") {
			say("mounts in the nursery:\n%s", b)
		} else if mounts == 0 || n < mounts {
			mounts = n
		}
	}
	if first, known := l.normal["nursery"]; !known {
		l.normal["nursery"] = mounts
	} else if mounts != first {
		say("mounts in the nursery: %d, were %d", mounts, first)
	}
	l.checkDescriptors("keeper", holder, 2*len(running), say)
	l.checkDescriptors("daemon", l.daemon.Process.Pid, 0, say)
}

// checkDescriptors counts those of a process, but for those that it may have or
// not: of logs that were written to, and pidfds of what it adopted.
func (l *life) checkDescriptors(whose string, pid, pipes int, say func(string, ...any)) {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	var rest []string
	sockets := 0
	for _, fd := range fds {
		switch to, err := os.Readlink(fd); {
		case err != nil || to == "anon_inode:[pidfd]" || strings.HasSuffix(to, "/log/output.log"):
		case strings.HasPrefix(to, "socket:"):
			sockets++
		case strings.HasSuffix(to, ".stdout") || strings.HasSuffix(to, ".stderr"):
			pipes--
		default:
			rest = append(rest, to)
		}
	}
	if pipes != 0 {
		say("%s: %d pipes too few: %v", whose, pipes, fds)
	}
	slices.Sort(rest)
	if sockets > 3 { // what it listens on, what the keeper tells of ends on, and pings
		say("%s: %d sockets", whose, sockets)
	}
	if first, known := l.normal[whose]; !known {
		l.normal[whose] = len(rest)
	} else if len(rest) != first {
		say("%s: %d descriptors, were %d: %v", whose, len(rest), first, rest)
	}
}
