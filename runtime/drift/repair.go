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
		return group.Add([]int{r.Record.Pid})
	}
	return group.Add(samePidNamespace(r.Record.Pid))
}

// samePidNamespace returns the processes in the pid namespace of a process.
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
