package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"stead/runtime/cgroup"
	"stead/runtime/keeper"
)

// closeLooks is how many containers a check reads everything of, in their turn, for
// what nobody tells. That takes the kernel 0.2 ms of CPU each: too much for thousands
// every minute. Of the others it is asked what costs a twentieth: which mounts there are.
const closeLooks = 100

// looks is what looking at containers remembers; one look at a time has it.
type looks struct {
	sync.Mutex
	turn    int    // how many are looked at closely in their turn: closeLooks
	next    string // where the next turn begins
	signs   *signs
	cgroups *cgroup.Watch // nil where there is none
	whole   bool          // all cgroups were read since it is there
}

func (l *looks) begin(r *Runtime) {
	l.turn, l.signs = closeLooks, newSigns()
	if !r.Watch {
		return
	}
	var err error
	if l.cgroups, err = r.host.Watch(); err != nil {
		r.Log.Debug("changes of cgroups are looked for in turns: the kernel does not tell of them", "error", err)
	}
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
func (l *looks) changes(all bool) (c cgroup.Changes) {
	if l.cgroups != nil {
		c = l.cgroups.Changes()
	}
	c.All = c.All || all && !(l.cgroups != nil && l.whole)
	l.whole = l.whole || all
	return c
}

// What may be found about a container's cgroup besides its limits.
const (
	cgroupLeft = "cgroup left"
	frozen     = "cgroup frozen"
)

// lookForDrift compares what runs with what was applied, at all closely or at some
// in their turn. What was changed by hand is in Status.Drift until an Update has put
// it right, or in Status.Lost until a restart has.
func (r *Runtime) lookForDrift(all bool) {
	r.looks.Lock()
	defer r.looks.Unlock()
	running := slices.DeleteFunc(r.List(), func(s *Status) bool { return s.State != Running })
	changes, files := r.looks.changes(all), r.runFiles()
	from, _ := slices.BinarySearchFunc(running, r.looks.next, func(s *Status, name string) int { return strings.Compare(s.Name, name) })
	found := false
	for i := range running {
		s, turn := running[(from+i)%len(running)], i < r.looks.turn
		if turn {
			r.looks.next = s.Name + "\x00" // the next name
		}
		if c, err := r.find(s.Name); err == nil {
			found = r.lookAtCgroup(c, changes, turn) || found
			found = r.lookAtMounts(c, files, turn || all) || found
		}
	}
	if found {
		r.changed()
	}
}

// runFiles are the names of all containers' files of this boot: one reading costs less
// than to ask for each.
func (r *Runtime) runFiles() map[string]bool {
	dir, err := os.Open(filepath.Join(r.RunDir, "containers"))
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	files := make(map[string]bool, len(names))
	for _, name := range names {
		files[name] = true
	}
	return files
}

// lookAtCgroup says whether something new was found.
func (r *Runtime) lookAtCgroup(c *container, changes cgroup.Changes, turn bool) bool {
	r.mu.Lock()
	f, rec := c.facts, c.rec
	c.suspect = c.suspect || turn || changes.All || rec != nil && changes.Groups[rec.ID()]
	suspect := c.suspect
	r.mu.Unlock()
	if rec == nil || rec.State != keeper.Running || !suspect && (!changes.Moved || r.host.Group(rec.ID()).Holds(rec.Pid)) {
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

func (r *Runtime) driftOf(f *facts, rec *keeper.Record) (drift []string) {
	group := r.host.Group(rec.ID())
	if !group.Holds(rec.Pid) {
		drift = append(drift, cgroupLeft)
	}
	if group.Frozen() {
		drift = append(drift, frozen)
	}
	want := limitsOf(f.Manifest)
	for _, u := range f.Unapplied {
		forget(&want, u.Path)
	}
	for _, d := range group.Drift(want) {
		if path := "spec.resources." + d.Field; !isUnapplied(f, path) {
			drift = append(drift, fmt.Sprintf("%s is %s", path, d.Have))
		}
	}
	return drift
}

func isUnapplied(f *facts, path string) bool {
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
func (r *Runtime) mend(c *container, rec *keeper.Record, have *cgroup.Limits, want cgroup.Limits) error {
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
		path, _, _ := strings.Cut(d, " ")
		forget(have, path)
		if d != cgroupLeft {
			continue
		}
		group := r.host.Group(rec.ID())
		if !group.Exists() {
			devices, err := devicesOf(f.Manifest)
			if err != nil {
				return err
			}
			want.Devices = r.deviceList(f.Manifest, devices)
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
