package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"stead/runtime/cgroup"
	"stead/runtime/keeper"
)

// looksAtOnce is how many containers a check looks at. The kernel's answers about
// one take 0.1 to 0.2 ms of CPU: too much for thousands of them every minute, so they
// take turns.
const looksAtOnce = 100

// What may be found about a container's cgroup besides its limits.
const (
	cgroupLeft = "cgroup left"
	frozen     = "cgroup frozen"
)

// lookForDrift compares what runs with what was applied. What was changed by
// hand is in Status.Drift until an Update has put it right, or in Status.Lost
// until a restart has.
func (r *Runtime) lookForDrift() {
	r.looking.Lock()
	defer r.looking.Unlock()
	all := slices.DeleteFunc(r.List(), func(s *Status) bool { return s.State != Running })
	from, _ := slices.BinarySearchFunc(all, r.looked, func(s *Status, name string) int { return strings.Compare(s.Name, name) })
	found := false
	for i := range min(len(all), looksAtOnce) {
		s := all[(from+i)%len(all)]
		r.looked = s.Name + "\x00" // the next name
		if c, err := r.find(s.Name); err == nil {
			found = r.lookAtLimits(c) || found
			found = r.lookAtMounts(c) || found
		}
	}
	if found {
		r.changed()
	}
}

// lookAtLimits says whether something new was found.
func (r *Runtime) lookAtLimits(c *container) bool {
	f, rec := r.known(c)
	if rec == nil || rec.State != keeper.Running {
		return false
	}
	drift := r.driftOf(f, rec)
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.rec != rec || c.facts != f || c.updating {
		return false // what differs is our own doing
	}
	found := len(drift) > 0 && !slices.Equal(drift, c.drift)
	c.drift = drift
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
	c.drift = nil
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
