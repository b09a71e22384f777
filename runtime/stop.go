package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"stead/runtime/fault"
	"stead/runtime/keeper"
	"stead/runtime/record"
	"stead/runtime/specconv"
	"stead/runtime/status"

	"golang.org/x/sys/unix"
)

// Stop ends the processes; the directory stays.
func (r *Runtime) Stop(ctx context.Context, name string, o status.StopOptions) error {
	c, err := r.find(name)
	if err != nil {
		return err
	}
	if o.ByAdmin {
		if err := r.noteAdmin(c, true); err != nil {
			return err
		}
	}
	if o.Spec != nil { // it is suspended: nothing is started
		return r.restart(ctx, c, o.Spec, o.From)
	}
	return r.stop(ctx, c)
}

func (r *Runtime) stop(ctx context.Context, c *container) error {
	f, rec := r.known(c)
	if rec == nil || rec.State != record.Running {
		return nil
	}
	defer r.mark(&c.stopping)()
	how := f.Manifest.Spec.Stop
	timeout := time.Duration(how.Timeout)
	if err := errors.Join(r.keeper.ensure(ctx), r.host.Group(rec.ID()).Thaw()); err != nil { // frozen it can't end by itself
		return fmt.Errorf("stop %s: %w", c.name, err)
	}
	signal, err := specconv.Signal(how.Signal)
	if err != nil {
		return fmt.Errorf("stop %s: %w", c.name, err)
	}
	spec := f.Manifest.Spec
	ordinary := spec.Init || spec.Security.Pid == "host" // signals do to the command what they do anywhere
	if !ordinary && wouldEnd(rec.Pid, signal) {
		signal = unix.SIGKILL
	}
	fault.Point("stop-begun")
	err = r.await(ctx, rec, signal, timeout)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("stop %s: %w", c.name, ctx.Err())
	}
	if errors.Is(err, keeper.ErrNoKeeper) { // it died: the next one holds the container, with its patience begun anew
		if err = r.keeper.find(ctx); err == nil {
			err = r.await(ctx, rec, signal, timeout)
		}
	}
	if err != nil && !errors.Is(err, keeper.ErrMissing) {
		if err := r.kill(ctx, rec); err != nil {
			return fmt.Errorf("stop %s: %w", c.name, err)
		}
	}
	fault.Point("stop-ended")
	r.syncRun(rec.ID())
	return nil
}

// await asks the container to end and gives it its time.
func (r *Runtime) await(ctx context.Context, rec *record.Record, signal unix.Signal, timeout time.Duration) error {
	if err := r.keeper.Signal(ctx, rec.ID(), signal, true); err != nil {
		return err
	}
	fault.Point("stop-signalled")
	patience, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := r.keeper.Wait(patience, rec.ID())
	return err
}

// kill ends everything in the container at once and waits for it.
func (r *Runtime) kill(ctx context.Context, rec *record.Record) error {
	if err := r.keeper.ensure(ctx); err != nil {
		return err
	}
	// The pid namespace dies with its init on every kernel; the group also has
	// what an older keeper's exec put there.
	killed := r.keeper.Signal(ctx, rec.ID(), unix.SIGKILL, true)
	if err := r.host.Group(rec.ID()).Kill(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		killed = errors.Join(killed, err)
	}
	_, err := r.keeper.Wait(ctx, rec.ID())
	if errors.Is(err, keeper.ErrMissing) {
		return nil
	}
	return errors.Join(killed, err)
}

// wouldEnd says whether the signal's default action would end the process
// anywhere but here: the first process of a pid namespace never gets a signal
// that it has no handler for (pid_namespaces(7)). To wait for it would be in
// vain. One that ignores or blocks the signal means something by it, and is given its time.
func wouldEnd(pid int, signal unix.Signal) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	var seen uint64
	for _, line := range strings.Split(string(b), "\n") {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "SigBlk", "SigIgn", "SigCgt":
			var mask uint64
			fmt.Sscanf(strings.TrimSpace(value), "%x", &mask)
			seen |= mask
		}
	}
	switch signal {
	case unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGPIPE, unix.SIGABRT:
		return seen>>(uint(signal)-1)&1 == 0
	}
	return false
}
