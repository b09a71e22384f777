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

// ExecOptions describe a command that is run in a container besides its own.
type ExecOptions struct {
	Argv       []string
	Env        []string    // KEY=VALUE, besides the container's own
	User       string      // "" is the container's
	WorkingDir string      // "" is the container's
	Size       launch.Size // of its terminal
}

// Exec runs a command in a running container, as a child of the keeper. stdio are its
// descriptors 0, 1 and 2, which the caller may close; without stdio the command gets a
// terminal of the container's own. Exec works with and without a daemon.
func (r *Runtime) Exec(ctx context.Context, name string, o ExecOptions, stdio ...*os.File) (*keeper.Exec, error) {
	x, err := ExecPrepared(r.RunDir, name, o, stdio...)
	if errors.Is(err, keeper.ErrNotPrepared) {
		return r.execResolved(ctx, name, o, stdio)
	}
	return x, err
}

// ExecPrepared is Exec as the container's own user. It uses only files that the start left
// in runDir, so its cost does not grow with the number of containers. It returns
// keeper.ErrUnprepared if the command needs an opened Runtime.
func ExecPrepared(runDir, name string, o ExecOptions, stdio ...*os.File) (*keeper.Exec, error) {
	if o.User != "" {
		return nil, keeper.ErrNotPrepared
	}
	c := keeper.Command{Argv: o.Argv, Env: o.Env, WorkingDir: o.WorkingDir, Size: o.Size}
	return keeper.Client{Run: runDir}.ExecPrepared(name, c, stdio)
}

// execResolved resolves the process from the manifest, without the prepared files.
func (r *Runtime) execResolved(ctx context.Context, name string, o ExecOptions, stdio []*os.File) (*keeper.Exec, error) {
	c, err := r.find(name)
	if err != nil {
		return nil, err
	}
	f, rec := r.snapshot(c)
	if rec == nil || rec.State != record.Running {
		return nil, fmt.Errorf("exec in %s: container is not running", name)
	}
	m := *r.filled(f)
	m.Spec.Command, m.Spec.Args, m.Spec.Init = o.Argv, nil, false
	if o.User != "" {
		m.Spec.User, m.Spec.Groups = spec.Text(o.User), nil
	}
	if err := r.mayUse(ctx, &m); err != nil {
		return nil, fmt.Errorf("exec in %s: %w", name, err)
	}
	root := r.root(&m)
	if m.Spec.Rootfs.Image != "" && r.mergedRoot(name) == nil { // unmounted by hand; the container has its own mount
		root = fmt.Sprintf("/proc/%d/root", rec.Pid)
	}
	p, err := specconv.Process(&m, root)
	if err != nil {
		return nil, fmt.Errorf("exec in %s: %w", name, err)
	}
	vars, err := r.files.Env(rec.ID())
	if err != nil {
		return nil, fmt.Errorf("exec in %s: %w", name, err)
	}
	p = specconv.WithEnv(p, f.Manifest.Spec.Env, vars).With(o.Argv, o.Env, o.WorkingDir)
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

// Details are a container's status and what `inspect` shows besides.
type Details struct {
	Status  status.Status
	Filled  *spec.Container // the applied manifest with what the image of its root says
	Root    string          // directory of the host
	Cgroups []string        // directories of the running container; nil if it does not run
	IDBase  uint32          // host id of its root; 0 without a user namespace
	LogDir  string
	Nonce   string
	Usage   *cgroup.Usage // nil if it does not run
}

// Inspect returns the details of one container.
func (r *Runtime) Inspect(name string) (Details, error) {
	c, err := r.find(name)
	if err != nil {
		return Details{}, err
	}
	f, rec := r.snapshot(c)
	s, _ := r.Get(name)
	d := Details{Status: s, Filled: r.filled(f), Root: r.root(f.Manifest), IDBase: f.IDBase, LogDir: r.LogDir(name)}
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
