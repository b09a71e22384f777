package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"stead/runtime/keeper"
	"stead/runtime/record"
	"stead/runtime/specconv"
	"stead/spec"
)

// reloadTimeout is how long the command of a reload may take.
const reloadTimeout = time.Minute

// Reload tells a running container to read its configuration again, as its applied manifest
// says.
func (r *Runtime) Reload(ctx context.Context, name string) error {
	c, err := r.find(name)
	if err != nil {
		return err
	}
	f, rec := r.snapshot(c)
	if rec == nil || rec.State != record.Running {
		return fmt.Errorf("reload %s: it does not run", name)
	}
	return r.reload(ctx, c, rec, f.Manifest)
}

func (r *Runtime) reload(ctx context.Context, c *container, rec *record.Record, m *spec.Container) (err error) {
	switch how := m.Spec.Reload; {
	case how == nil:
		err = errors.New("its manifest has no reload: reload: {signal: HUP}, or {exec: [COMMAND]}")
	case how.Signal != "":
		err = r.reloadBySignal(ctx, rec, m)
	default:
		err = r.runLogged(ctx, c, how.Exec, reloadTimeout)
	}
	if err != nil {
		return fmt.Errorf("reload %s: %w", c.name, err)
	}
	return nil
}

func (r *Runtime) reloadBySignal(ctx context.Context, rec *record.Record, m *spec.Container) error {
	signal, err := specconv.Signal(m.Spec.Reload.Signal)
	if err != nil {
		return err
	}
	if !m.Spec.Init && m.Spec.Security.Pid != "host" && isDropped(signal, rec.Pid) {
		return fmt.Errorf("its first process does not take signal %s, and the kernel drops it; with init: true the command would end", m.Spec.Reload.Signal)
	}
	if err := r.keeper.ensure(ctx); err != nil {
		return err
	}
	return r.keeper.Signal(ctx, rec.ID(), signal, false)
}

// runLogged runs a command in a container, and kills it if it takes too long. What it writes goes to
// the container's log.
func (r *Runtime) runLogged(ctx context.Context, c *container, argv []string, timeout time.Duration) error {
	_, rec := r.snapshot(c)
	var stdio []*os.File
	defer func() {
		for _, f := range stdio {
			f.Close()
		}
	}()
	for _, name := range []string{os.DevNull, record.StdoutPath(r.RunDir, rec.ID()), record.StderrPath(r.RunDir, rec.ID())} {
		f, err := os.OpenFile(name, os.O_RDWR, 0) // a FIFO without a reader does not block
		if err != nil {
			return err
		}
		stdio = append(stdio, f)
	}
	x, err := r.execResolved(ctx, c.name, ExecOptions{Argv: argv}, stdio)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- exitError(x) }()
	select {
	case err = <-ended:
		return err
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(timeout):
		err = fmt.Errorf("%s has not ended after %s, and was killed", argv[0], timeout)
	}
	return errors.Join(err, x.Signal(9))
}

// exitError waits for the end of a command; it is nil if the command succeeded.
func exitError(x *keeper.Exec) error {
	code, err := x.Wait()
	if err == nil && code != 0 {
		err = fmt.Errorf("its command ended with exit code %d; see its log", code)
	}
	return err
}
