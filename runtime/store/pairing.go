package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"stead/runtime/atomicfile"
	"stead/runtime/record"
)

// pairing is the combination of directories and cgroup parent that belong together on this
// boot. Running containers are found by their records in the run directory. With another
// run directory they would be started a second time, and with another state directory
// they would be killed as unknown.
type pairing struct {
	StateDir     string `json:"stateDir"`
	RunDir       string `json:"runDir"`
	CgroupParent string `json:"cgroupParent"`
	BootID       string `json:"bootId"`
}

// Mismatch is the error of PairDirs: the directories were used in another combination, and
// containers run there.
type Mismatch struct{ What, Given, Used, Flag string }

func (e *Mismatch) Error() string {
	return fmt.Sprintf("%s was %s when what runs now was started, and is %s now; use %s %s", e.What, e.Used, e.Given, e.Flag, e.Used)
}

// PairDirs refuses a combination of directories in which running containers would be
// unknown, and saves this one in both directories. Error: *Mismatch.
func PairDirs(stateDir, runDir, cgroupParent string) error {
	mine := pairing{StateDir: Resolved(stateDir), RunDir: Resolved(runDir), CgroupParent: cgroupParent, BootID: record.BootID()}
	files := pairFiles(stateDir, runDir)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		var was pairing
		if err := json.Unmarshal(b, &was); err != nil || was.BootID != mine.BootID || !hasRecords(was.RunDir) {
			continue // of another boot, or nothing runs
		}
		for _, m := range []Mismatch{
			{"the state directory", mine.StateDir, was.StateDir, "--state-dir"},
			{"the run directory", mine.RunDir, was.RunDir, "--run-dir"},
			{"the cgroup parent", mine.CgroupParent, was.CgroupParent, "--cgroup-parent"},
		} {
			if m.Given != m.Used {
				return &m
			}
		}
	}
	b, err := json.Marshal(mine)
	if err != nil {
		return err
	}
	for _, f := range files {
		if old, err := os.ReadFile(f); err == nil && string(old) == string(b) {
			continue
		}
		if err := atomicfile.Write(f, b); err != nil {
			return err
		}
	}
	return nil
}

func pairFiles(stateDir, runDir string) []string {
	return []string{filepath.Join(stateDir, "boot.json"), filepath.Join(runDir, "boot.json")}
}

// CheckPair refuses two directories of which one is in use with another: whoever only reads
// would get answers about two instances. It saves nothing. Error: *Mismatch.
func CheckPair(stateDir, runDir string) error {
	for _, f := range pairFiles(stateDir, runDir) {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // not there, or not for this user
		}
		var was pairing
		if err := json.Unmarshal(b, &was); err != nil || was.BootID != record.BootID() {
			continue
		}
		for _, m := range []Mismatch{
			{"the state directory", stateDir, was.StateDir, "--state-dir"},
			{"the run directory", runDir, was.RunDir, "--run-dir"},
		} {
			if m.Given != m.Used && Resolved(m.Given) != m.Used && inUse(was.RunDir) {
				return &m
			}
		}
	}
	return nil
}

// inUse reports whether containers or a daemon run with a run directory.
func inUse(run string) bool {
	if hasRecords(run) {
		return true
	}
	c, err := net.Dial("unix", filepath.Join(run, "daemon.sock"))
	if err == nil {
		c.Close()
	}
	return err == nil
}

func hasRecords(run string) bool {
	records, err := filepath.Glob(filepath.Join(run, "containers", "*.json"))
	return err == nil && len(records) > 0
}

// Resolved returns the absolute path of a directory, without links where it is there.
func Resolved(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	return dir
}
