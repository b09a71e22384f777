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

// An exec as the container's own user needs nothing that its start did not find
// out. That lies beside the boot record, ready for the keeper, so who asks for
// such an exec reads no manifest, no passwd and no cgroup mounts.

// Command is what is run in a container besides all that is the container's own.
type Command struct {
	Argv       []string    `json:"argv"`
	Env        []string    `json:"env,omitempty"`        // KEY=VALUE, besides the container's
	WorkingDir string      `json:"workingDir,omitempty"` // "" is the container's
	TTY        bool        `json:"tty,omitempty"`
	Size       launch.Size `json:"size,omitzero"`
}

// ErrUnprepared: nothing was run, and Exec has to be asked instead.
var ErrNotPrepared = errors.New("no exec is prepared")

// Prepare puts down what execs in a start of a container have in common. groups
// are the directories of all its v1 cgroups, also of those that there are none of
// yet: a limit that is set later may make them.
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

// execPrepared is exec of what is prepared. It refuses without anything run if that is
// not there, or not whole.
func (s *server) execPrepared(c conn, q *request, fds []int) error {
	var b execBody
	text, err := os.ReadFile(record.PreparedPath(s.run, q.ID))
	if err == nil { // strictly: what a newer stead prepared is not left out
		err = decodeStrictly(bytes.NewReader(text), &b)
	}
	if err == nil && b.Into != "" { // it may have been removed by hand
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

// ExecPrepared is Exec of a command as the user that the container runs as. After
// ErrUnprepared nothing was run: the container is not known or does not run, its
// start or the keeper is of an older program, or there is no keeper.
func (k Client) ExecPrepared(name string, command Command, stdio []*os.File) (*Exec, error) {
	id, err := os.Readlink(filepath.Join(k.Run, record.CurrentDir, name))
	if err != nil || !strings.HasPrefix(id, name+".") {
		return nil, ErrNotPrepared
	}
	command.TTY = len(stdio) == 0
	x, err := k.runExec(request{Op: "exec-prepared", ID: id, Command: &command}, stdio)
	var launched *StartError
	mayHaveRun := errors.As(err, &launched) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, errNoReply)
	if err != nil && !mayHaveRun {
		return nil, fmt.Errorf("%w: %w", ErrNotPrepared, err)
	}
	return x, err
}
