// Package record reads and writes boot records: one file in RUN/containers for each start of a
// container, with its state during this boot. It knows no manifests and no cgroups.
package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"stead/runtime/atomicfile"
)

// Record is the boot record of one start of a container, in RUN/containers/NAME.NONCE.json. The
// runtime writes it before any kernel object exists; from the clone on only the keeper
// writes it.
type Record struct {
	Name   string `json:"name"`
	Nonce  string `json:"nonce"`
	BootID string `json:"bootId"`
	State  State  `json:"state"`

	Pid       int    `json:"pid,omitempty"`       // in the host's pid namespace
	StartTime uint64 `json:"startTime,omitempty"` // field 22 of /proc/PID/stat; tells a reused pid apart
	IDBase    uint32 `json:"idBase,omitempty"`    // host id of the container's root; 0 is no user namespace

	CreatedAt  time.Time `json:"createdAt"`
	StartedAt  time.Time `json:"startedAt,omitzero"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
	Ending     *Ending   `json:"ending,omitempty"`
	Stopping   bool      `json:"stopping,omitempty"` // stead has asked it to end

	Restarts int `json:"restarts,omitempty"` // by the restart policy, up to this start
	Failures int `json:"failures,omitempty"` // runs in a row before this one that failed early

	Previous *Run `json:"previous,omitempty"` // nil if none is known

	LogDir  string `json:"logDir"`
	LogSize int64  `json:"logSize"`
	LogKeep int    `json:"logKeep"`
}

// Run is the time of an earlier start.
type Run struct {
	StartedAt  time.Time `json:"startedAt"`
	FinishedAt time.Time `json:"finishedAt,omitzero"` // zero: unknown, because the host went down
}

// State of a Record.
type State string

const (
	Creating State = "creating" // no process yet, or its pid is not recorded
	Running  State = "running"
	Exited   State = "exited"
)

// Ending describes how a start ended.
type Ending struct {
	Code    int    `json:"code"`              // 128+N for signal N, 125 when the launch failed, -1 unknown
	Signal  int    `json:"signal,omitempty"`  //
	Unknown bool   `json:"unknown,omitempty"` // the exit code is unknown
	Failed  string `json:"failed,omitempty"`  // why the launch failed
	Where   string `json:"where,omitempty"`   // launch.Where of the failed launch
	OOM     bool   `json:"oom,omitempty"`     // the kernel killed a process for lack of memory
	// OOMLimit is the memory limit at that time, bytes; -1 if there was none and the host was
	// out of memory; 0 if unknown.
	OOMLimit int64 `json:"oomLimit,omitempty"`
}

// ID returns the id of the start: web.4f1c22a0.
func (r *Record) ID() string { return r.Name + "." + r.Nonce }

// file returns the path of a file of one start in the run directory.
func file(run, id, suffix string) string { return filepath.Join(run, "containers", id+suffix) }

func Path(run, id string) string       { return file(run, id, ".json") }
func StdoutPath(run, id string) string { return file(run, id, ".stdout") }
func StderrPath(run, id string) string { return file(run, id, ".stderr") }
func RanPath(run, id string) string    { return file(run, id, ".ran") }

// PreparedPath returns the path of the exec configuration (keeper.Prepare).
func PreparedPath(run, id string) string { return file(run, id, ".exec") }

// Write replaces the record on disk. It does not sync, as a record need not survive the boot.
func (r *Record) Write(run string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode record %s: %w", r.ID(), err)
	}
	if err := atomicfile.WriteVolatile(Path(run, r.ID()), b); err != nil {
		return fmt.Errorf("write record %s: %w", r.ID(), err)
	}
	return nil
}

// Restore writes a record that was removed by hand. It does not replace a record that the
// keeper has written meanwhile.
func (r *Record) Restore(run string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode record %s: %w", r.ID(), err)
	}
	tmp := file(run, r.ID(), ".json~~")
	defer os.Remove(tmp)
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("restore record %s: %w", r.ID(), err)
	}
	if err := os.Link(tmp, Path(run, r.ID())); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("restore record %s: %w", r.ID(), err)
	}
	return nil
}

// ReadAll returns all records of the run directory, or those of some containers. If some
// records can't be read, it returns the others and an error.
func ReadAll(run string, names ...string) ([]*Record, error) {
	if all := readLinked(run, names); len(names) > 0 && len(all) == len(names) {
		return all, nil
	}
	dir, err := os.Open(filepath.Join(run, "containers"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	entries, err := dir.Readdirnames(-1)
	dir.Close()
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	var all []*Record
	var failed error
	for _, e := range entries {
		id, ok := strings.CutSuffix(e, ".json")
		name, _, _ := strings.Cut(id, ".")
		if !ok || len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		r, err := Read(run, id)
		if err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				failed = errors.Join(failed, err)
			}
			continue
		}
		all = append(all, r)
	}
	return all, failed
}

// Read reads the record of one start.
func Read(run, id string) (*Record, error) {
	b, err := os.ReadFile(Path(run, id))
	if err != nil {
		return nil, fmt.Errorf("read record %s: %w", id, err)
	}
	r := &Record{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read record %s: %w", id, err)
	}
	if r.ID() != id {
		return nil, fmt.Errorf("read record %s: its content has the id %s", id, r.ID())
	}
	return r, nil
}

// CurrentDir holds a link for each container, from NAME to the id of its last start, so that a
// command for one container need not search the files of thousands.
const CurrentDir = "current"

// MakeDirs creates the directories of the records.
func MakeDirs(run string) error {
	var failed error
	for _, dir := range []string{"containers", CurrentDir, rootsDir} {
		failed = errors.Join(failed, os.MkdirAll(filepath.Join(run, dir), 0o700))
	}
	return failed
}

// Point makes the container's link in CurrentDir lead to this start.
func (r *Record) Point(run string) error {
	if err := atomicfile.Symlink(filepath.Join(run, CurrentDir, r.Name), r.ID()); err != nil {
		return fmt.Errorf("point to record %s: %w", r.ID(), err)
	}
	return nil
}

// readLinked reads the records that the containers' links lead to. The caller has to search
// for records that it lacks.
func readLinked(run string, names []string) (all []*Record) {
	for _, name := range names {
		id, err := os.Readlink(filepath.Join(run, CurrentDir, name))
		if err != nil {
			continue
		}
		if r, err := Read(run, id); err == nil && r.Name == name {
			all = append(all, r)
		}
	}
	return all
}

// NamesPath returns the path of a run's own hosts, hostname or resolv.conf.
func NamesPath(run, id, name string) string { return file(run, id, "."+name) }

// Forget removes all files of a start.
func Forget(run, id string) error {
	var failed error
	name, _, _ := strings.Cut(id, ".")
	if link := filepath.Join(run, CurrentDir, name); name != "" {
		if at, err := os.Readlink(link); err == nil && at == id {
			failed = os.Remove(link)
		}
	}
	for _, suffix := range []string{".stdout", ".stderr", ".ran", ".exec", ".hosts", ".hostname", ".resolv.conf", ".json~", ".json~~", ".json"} { // the record last, because it leads to the others
		if err := os.Remove(file(run, id, suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// BootID returns the kernel's id of this boot.
var BootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
})

// StartTime returns the start time of a process in clock ticks since boot: field 22 of
// /proc/PID/stat (proc_pid_stat(5)). ok is false if the process does not exist or is a
// zombie.
func StartTime(pid int) (ticks uint64, ok bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	_, ticks = StatFields(b)
	state := b[bytes.LastIndexByte(b, ')')+1:]
	return ticks, ticks > 0 && !bytes.HasPrefix(state, []byte(" Z")) && !bytes.HasPrefix(state, []byte(" X"))
}

// StatFields returns fields 4 and 22 of the content of /proc/PID/stat.
func StatFields(b []byte) (parent int, started uint64) {
	// The command's name may hold anything, also ") ".
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 20 {
		return 0, 0
	}
	parent, _ = strconv.Atoi(string(f[1]))
	started, _ = strconv.ParseUint(string(f[19]), 10, 64)
	return parent, started
}

// Alive reports whether the process of the record still runs.
func (r *Record) Alive() bool {
	if r.BootID != BootID() || r.Pid == 0 {
		return false
	}
	t, ok := StartTime(r.Pid)
	return ok && t == r.StartTime
}
