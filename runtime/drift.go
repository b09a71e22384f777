package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"stead/runtime/cgroup"
	"stead/runtime/keeper"
)

// lookForDrift compares what runs with what was applied. What was changed by
// hand is in Status.Drift until an Update has put it right.
func (r *Runtime) lookForDrift() {
	all := r.List()
	r.looking.Lock()
	if r.lookForLosses(all) {
		r.changed()
	}
	r.looking.Unlock()
	for _, s := range all {
		if s.State != Running {
			continue
		}
		c, err := r.find(s.Name)
		if err != nil {
			continue
		}
		f, rec := r.known(c)
		drift := r.driftOf(f, rec)
		r.mu.Lock()
		found := len(drift) > 0 && strings.Join(drift, ",") != strings.Join(c.drift, ",")
		if c.rec == rec {
			c.drift = drift
		}
		r.mu.Unlock()
		if found {
			r.changed()
		}
	}
}

func (r *Runtime) driftOf(f *facts, rec *keeper.Record) (drift []string) {
	group := r.host.Group(rec.ID())
	if !group.Exists() || !group.Holds(rec.Pid) {
		drift = append(drift, "cgroup left")
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
	for _, d := range drift {
		path, _, _ := strings.Cut(d, " ")
		forget(have, path)
		if path != "cgroup" {
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
