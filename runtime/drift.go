package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"stead/runtime/cgroup"
	"stead/runtime/record"
	"stead/runtime/specconv"
	"stead/runtime/status"
	"stead/runtime/store"

	"golang.org/x/sys/unix"
)

// closeLooks are how many containers a check reads everything of, in their turn. That
// takes the kernel 0.15 ms of CPU each: too much for thousands every minute. With a
// watch on cgroups that is for what nobody tells of. Of the others it is asked what
// costs a tenth: which mounts there are.
const closeLooks, closeLooksUntold = 50, 100

// firstLooks are how many, besides, a check may look at that no check has seen yet: the
// first time costs five times as much. A quarter, if that is more.
const firstLooks = 300

// looks is what looking at containers remembers; one look at a time has it.
type looks struct {
	sync.Mutex
	turn    int    // how many are looked at closely in their turn
	next    string // where the next turn begins
	signs   *signs
	cgroups *cgroup.Watch // nil where there is none
	whole   bool          // all cgroups were read since it is there
	files   dirTime       // of RUN/containers
}

func (l *looks) begin(r *Runtime) {
	l.turn, l.signs = closeLooksUntold, newSigns()
	if !r.Watch {
		return
	}
	var err error
	if l.cgroups, err = r.host.Watch(); err != nil {
		r.Log.Debug("changes of cgroups are looked for in turns: the kernel does not tell of them", "error", err)
		return
	}
	l.turn = closeLooks
}

func (l *looks) end() {
	l.Lock()
	defer l.Unlock()
	if l.cgroups != nil {
		l.cgroups.Close()
		l.cgroups = nil
	}
}

// changes are what may have changed in cgroups since the last look, all that this
// process did not do. Without a watch nothing is known to.
func (r *Runtime) changes(all bool) (c cgroup.Changes) {
	if r.looks.cgroups != nil {
		c = r.looks.cgroups.Changes(r.homes())
	}
	c.All = c.All || all && !(r.looks.cgroups != nil && r.looks.whole)
	r.looks.whole = r.looks.whole || all
	return c
}

// homes are the processes that run, and the cgroups that they belong into.
func (r *Runtime) homes() map[int]string {
	running := r.running()
	homes := make(map[int]string, len(running))
	for _, c := range running {
		_, rec := r.known(c)
		homes[rec.Pid] = rec.ID()
	}
	return homes
}

// What may be found about a container's cgroup besides its limits.
var (
	cgroupLeft = status.Difference{Field: "cgroup", Found: "left"}
	frozen     = status.Difference{Field: "cgroup", Found: "frozen"}
)

// lookForDrift compares what runs with what was applied, at all closely or at some
// in their turn. What was changed by hand is in Status.Drift until an Update has put
// it right, or in Status.Lost until a restart has.
func (r *Runtime) lookForDrift(all bool) {
	r.looks.Lock()
	defer r.looks.Unlock()
	running := slices.DeleteFunc(r.List(), func(s *status.Status) bool { return s.State != status.Running })
	changes, files := r.changes(all), r.runFiles()
	from, _ := slices.BinarySearchFunc(running, r.looks.next, func(s *status.Status, name string) int { return strings.Compare(s.Name, name) })
	found, first := false, max(firstLooks, len(running)/4)
	for i := range running {
		s, turn := running[(from+i)%len(running)], i < r.looks.turn
		if turn {
			r.looks.next = s.Name + "\x00" // the next name
		}
		if c, err := r.find(s.Name); err == nil {
			found = r.lookAtCgroup(c, changes, turn) || found
			closely := turn || all
			if !closely && !r.seenBefore(c) {
				if first--; first < 0 {
					continue
				}
			}
			found = r.lookAtMounts(c, files, closely) || found
		}
	}
	if found {
		r.changed()
	}
}

func (r *Runtime) seenBefore(c *container) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.seen.before
}

// runFiles are the names of all containers' files of this boot: one reading costs less
// than to ask for each. nil if none came or went since the last reading.
func (r *Runtime) runFiles() map[string]bool {
	dir := filepath.Join(r.RunDir, "containers")
	if !r.looks.files.changed(dir) {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return map[string]bool{} // each is asked for
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	files := make(map[string]bool, len(names))
	for _, name := range names {
		files[name] = true
	}
	return files
}

// dirTime is when something last came into a directory or went.
type dirTime unix.Timespec

// changed says whether that may have been since it was last asked.
func (t *dirTime) changed(dir string) bool {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err == nil && *t == dirTime(st.Mtim) {
		return false
	}
	*t = dirTime(st.Mtim)
	if time.Since(time.Unix(st.Mtim.Unix())) < time.Second {
		*t = dirTime{} // what comes next may bear the same time
	}
	return true
}

// lookAtCgroup says whether something new was found.
func (r *Runtime) lookAtCgroup(c *container, changes cgroup.Changes, turn bool) bool {
	r.mu.Lock()
	f, rec := c.facts, c.rec
	c.suspect = c.suspect || turn || changes.All || rec != nil && changes.Groups[rec.ID()]
	suspect := c.suspect
	r.mu.Unlock()
	if rec == nil || rec.State != record.Running || !suspect && (!changes.Moved || r.host.Group(rec.ID()).Holds(rec.Pid)) {
		return false
	}
	drift := r.driftOf(f, rec)
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.rec != rec || c.facts != f || c.updating {
		c.suspect = true
		return false // what differs may be our own doing
	}
	found := len(drift) > 0 && !slices.Equal(drift, c.drift)
	c.drift, c.suspect = drift, false
	return found
}

func (r *Runtime) driftOf(f *store.Facts, rec *record.Record) (drift status.Differences) {
	group := r.host.Group(rec.ID())
	if !group.Holds(rec.Pid) {
		drift = append(drift, cgroupLeft)
	}
	if group.Frozen() {
		drift = append(drift, frozen)
	}
	want := specconv.Limits(f.Manifest)
	for _, u := range f.Unapplied {
		forget(&want, u.Path)
	}
	for _, d := range group.Drift(want) {
		if path := "spec.resources." + d.Field; !isUnapplied(f, path) {
			drift = append(drift, status.Difference{Field: path, Wanted: d.Want, Found: d.Have})
		}
	}
	return drift
}

func isUnapplied(f *store.Facts, path string) bool {
	for _, u := range f.Unapplied {
		if u.Path == path {
			return true
		}
	}
	return false
}

// mend puts right what drift says: the processes back into their cgroup, the
// limits back to what they were. It returns the limits that need writing as
// unknown in have.
func (r *Runtime) mend(c *container, rec *record.Record, have *cgroup.Limits, want cgroup.Limits) error {
	f, _ := r.known(c)
	if err := r.mendFiles(c, f, rec); err != nil {
		return err
	}
	r.mu.Lock()
	drift := c.drift
	r.mu.Unlock()
	if slices.Contains(drift, frozen) { // first, as all may be
		if err := r.host.Group(rec.ID()).Thaw(); err != nil {
			return err
		}
	}
	for _, d := range drift {
		forget(have, d.Field)
		if d != cgroupLeft {
			continue
		}
		group := r.host.Group(rec.ID())
		if !group.Exists() {
			devices, err := specconv.Devices(f.Manifest)
			if err != nil {
				return err
			}
			want.Devices = specconv.AllowedDevices(f.Manifest, devices, r.host)
			if _, err := group.Create(want); err != nil {
				return err
			}
		}
		if err := group.Add(samePidNamespace(rec.Pid)); err != nil {
			return err
		}
	}
	r.mu.Lock()
	c.drift = nil
	r.mu.Unlock()
	return nil
}

// samePidNamespace are the processes of a container, found by their namespace.
func samePidNamespace(pid int) (pids []int) {
	mine, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		return nil
	}
	all, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	for _, file := range all {
		if ns, err := os.Readlink(file); err == nil && ns == mine {
			n, _ := strconv.Atoi(strings.Split(file, "/")[2])
			pids = append(pids, n)
		}
	}
	return pids
}
