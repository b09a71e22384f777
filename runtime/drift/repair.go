package drift

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"stead/runtime/atomicfile"
	"stead/runtime/cgroup"
	"stead/runtime/record"
	"stead/runtime/specconv"
	"stead/runtime/status"
)

// Repair repairs the drift of a run: it restores files, thaws a frozen cgroup and moves the
// processes back into their cgroup. The caller writes the limits again.
func Repair(r Run, host *cgroup.Host, runDir string, drift, missingFiles status.Differences) error {
	if len(missingFiles) > 0 {
		err := r.Record.Restore(runDir)
		if r.Facts.Manifest.Spec.Rootfs.Image == "" {
			err = errors.Join(err, atomicfile.Symlink(filepath.Join(r.Dir, "root"), r.Root))
		}
		if err != nil {
			return err
		}
	}
	group := host.Group(r.Record.ID())
	if slices.Contains(drift, frozen) { // first, as all processes may be frozen
		if err := group.Thaw(); err != nil {
			return err
		}
	}
	if !slices.Contains(drift, cgroupLeft) {
		return nil
	}
	if !group.Exists() {
		devices, err := specconv.Devices(r.Facts.Manifest, r.Root)
		if err != nil {
			return err
		}
		want := specconv.Limits(r.Facts.Manifest)
		want.Devices = specconv.AllowedDevices(r.Facts.Manifest, devices, host)
		if _, err := group.Create(want); err != nil {
			return err
		}
	}
	if r.Facts.Manifest.Spec.Security.Pid == "host" { // the namespace has all processes of the host
		if !r.Record.Alive() {
			return nil
		}
		return group.Add([]int{r.Record.Pid})
	}
	return eachMember(r.Record, func(pid int) error { return group.Add([]int{pid}) })
}

// eachMember calls add for each process in the pid namespace of a run. Each is looked at right before
// that: a pid that was read earlier may belong to another process by now, and so may that of the run.
func eachMember(run *record.Record, add func(pid int) error) error {
	all, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	mine, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", run.Pid))
	own, ownErr := os.Readlink("/proc/self/ns/pid")
	if err != nil || ownErr != nil || mine == own || !run.Alive() { // checked last: it says whose namespace that was
		return nil // the run has ended, and all of its namespace with it
	}
	for _, file := range all {
		if ns, err := os.Readlink(file); err != nil || ns != mine {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
		if err := add(pid); err != nil {
			return err
		}
	}
	return nil
}
