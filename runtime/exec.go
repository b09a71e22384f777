package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"

	"stead/runtime/cgroup"
	"stead/runtime/keeper"
	"stead/runtime/launch"
	"stead/runtime/record"
	"stead/runtime/specconv"
	"stead/runtime/status"
	"stead/spec"
)

// ExecOptions say what is run in a container besides its command.
type ExecOptions struct {
	Argv       []string
	Env        []string    // KEY=VALUE, besides the container's own
	User       string      // "" is the container's
	WorkingDir string      // "" is the container's
	Size       launch.Size // of its terminal
}

// Exec runs a command in a running container, as a child of the keeper, with
// files as its 0, 1 and 2, which the caller may close, or with a terminal of
// the container's own if there are none. It works beside a daemon, and without one.
func (r *Runtime) Exec(ctx context.Context, name string, o ExecOptions, stdio ...*os.File) (*keeper.Exec, error) {
	x, err := ExecPrepared(r.RunDir, name, o, stdio...)
	if errors.Is(err, keeper.ErrNotPrepared) {
		return r.execResolved(ctx, name, o, stdio)
	}
	return x, err
}

// ExecPrepared is Exec as the container's own user, by what its start left in
// runDir and nothing else: it costs the same whatever the container and however
// many there are. keeper.ErrUnprepared says that it takes an opened Runtime.
func ExecPrepared(runDir, name string, o ExecOptions, stdio ...*os.File) (*keeper.Exec, error) {
	if o.User != "" {
		return nil, keeper.ErrNotPrepared
	}
	c := keeper.Command{Argv: o.Argv, Env: o.Env, WorkingDir: o.WorkingDir, Size: o.Size}
	return keeper.Client{Run: runDir}.ExecPrepared(name, c, stdio)
}

// execResolved finds out all anew.
func (r *Runtime) execResolved(ctx context.Context, name string, o ExecOptions, stdio []*os.File) (*keeper.Exec, error) {
	c, err := r.find(name)
	if err != nil {
		return nil, err
	}
	f, rec := r.known(c)
	if rec == nil || rec.State != record.Running {
		return nil, fmt.Errorf("exec in %s: it does not run", name)
	}
	m := *f.Manifest
	m.Spec.Command, m.Spec.Args, m.Spec.Init = o.Argv, nil, false
	if o.User != "" {
		m.Spec.User, m.Spec.Groups = spec.Text(o.User), nil
	}
	p, err := specconv.Process(&m, r.root(&m))
	if err != nil {
		return nil, fmt.Errorf("exec in %s: %w", name, err)
	}
	p = p.With(o.Argv, o.Env, o.WorkingDir)
	dirs, into := r.host.Group(rec.ID()).Join()
	if into != "" {
		dirs = append(dirs, into)
	}
	enter := func() (*keeper.Exec, error) {
		return r.keeper.Exec(ctx, rec.ID(), rec.IDBase, dirs, into, p, stdio, o.Size)
	}
	x, err := enter()
	if errors.Is(err, keeper.ErrNoKeeper) {
		if err := r.keeper.find(ctx); err != nil {
			return nil, fmt.Errorf("exec in %s: %w", name, err)
		}
		x, err = enter()
	}
	return x, err
}

// Details are what `inspect` shows besides the status.
type Details struct {
	Status  status.Status
	Root    string   // directory of the host
	Cgroups []string // directories of the running container; nil if it does not run
	IDBase  uint32   // host id of its root; 0 without a user namespace
	LogDir  string
	Nonce   string
	Usage   *cgroup.Usage // nil if it does not run
}

// Inspect is all that is known about one container.
func (r *Runtime) Inspect(name string) (Details, error) {
	c, err := r.find(name)
	if err != nil {
		return Details{}, err
	}
	f, rec := r.known(c)
	s, _ := r.Get(name)
	d := Details{Status: s, Root: r.root(f.Manifest), IDBase: f.IDBase, LogDir: r.LogDir(name)}
	if rec != nil {
		d.Nonce, d.IDBase = rec.Nonce, rec.IDBase
		if rec.State == record.Running {
			dirs, into := r.host.Group(rec.ID()).Join()
			d.Cgroups = append(dirs, into)
			u := r.host.Group(rec.ID()).Usage()
			d.Usage = &u
		}
	}
	return d, nil
}
