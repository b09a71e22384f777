package keeper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"stead/runtime/launch"
	"stead/runtime/record"

	"golang.org/x/sys/unix"
)

// The start of a container stores its exec configuration beside the boot record. An exec as
// the container's own user needs nothing more, so its client reads no manifest, no
// passwd and no cgroup mounts.

// Command is what an exec runs. All else comes from the container's configuration.
type Command struct {
	Argv       []string    `json:"argv"`
	Env        []string    `json:"env,omitempty"`        // KEY=VALUE, added to the container's
	WorkingDir string      `json:"workingDir,omitempty"` // "" is the container's
	TTY        bool        `json:"tty,omitempty"`
	Size       launch.Size `json:"size,omitzero"`
}

// ErrNotPrepared is returned when there is no usable exec configuration. Nothing was run;
// the caller has to use Exec.
var ErrNotPrepared = errors.New("no exec is prepared")

// Prepare stores the exec configuration of one start of a container. groups are the
// directories of all its v1 cgroups, including missing ones that a later limit may create.
func Prepare(run string, r *record.Record, c *launch.Config, groups []string) error {
	b := execBody{UserNS: c.IDBase != 0, IDBase: c.IDBase, Cgroups: groups, Into: c.CgroupInto, Process: c.Process}
	b.Process.Argv, b.Process.Paths, b.Process.Init = nil, nil, false
	text, err := json.Marshal(b)
	if err == nil {
		err = os.WriteFile(record.PreparedPath(run, r.ID()), text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("prepare exec in %s: %w", r.ID(), err)
	}
	return nil
}

// execPrepared starts a process with the stored exec configuration. If that is missing or
// incomplete, it runs nothing and returns ErrNotPrepared.
func (s *server) execPrepared(c conn, q *request, fds []int) error {
	var b execBody
	text, err := os.ReadFile(record.PreparedPath(s.run, q.ID))
	if err == nil { // strictly: a field of a newer stead must not be ignored
		err = decodeStrictly(bytes.NewReader(text), &b)
	}
	if err == nil && b.Into != "" { // somebody may have removed the cgroup
		err = unix.Access(b.Into, unix.F_OK)
	}
	if err == nil && (q.Command == nil || len(q.Command.Argv) == 0) {
		err = errors.New("no command")
	}
	if err != nil {
		closeAll(fds)
		return fmt.Errorf("exec in %s: %w: %w", q.ID, ErrNotPrepared, err)
	}
	b.Process = b.Process.With(q.Command.Argv, q.Command.Env, q.Command.WorkingDir)
	b.TTY, b.Size = q.Command.TTY, q.Command.Size
	return s.runExec(c, q.ID, &b, fds)
}

// ExecPrepared starts a command as the user that the container runs as. It returns
// ErrNotPrepared, and has run nothing, if the container is unknown or does not run, if
// an older program started it or its keeper, or if no keeper runs.
func (k Client) ExecPrepared(name string, command Command, stdio []*os.File) (*Exec, error) {
	id, err := os.Readlink(filepath.Join(k.Run, record.CurrentDir, name))
	if err != nil || !strings.HasPrefix(id, name+".") {
		return nil, ErrNotPrepared
	}
	command.TTY = len(stdio) == 0
	x, err := k.runExec(request{Op: "exec-prepared", ID: id, Command: &command}, stdio)
	var launched *StartError
	mayHaveRun := errors.As(err, &launched) || errors.Is(err, ErrSilent) || errors.Is(err, errNoReply)
	if err != nil && !mayHaveRun {
		return nil, fmt.Errorf("%w: %w", ErrNotPrepared, err)
	}
	return x, err
}
