package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"stead/runtime/fault"
	"stead/runtime/keeper"
	"stead/runtime/record"
	"stead/runtime/specconv"
	"stead/runtime/status"
	"stead/runtime/store"

	"golang.org/x/sys/unix"
)

// Stop ends the processes of a container and keeps its directory.
func (r *Runtime) Stop(ctx context.Context, name string, o status.StopOptions) error {
	c, err := r.find(name)
	if err != nil {
		return err
	}
	var unwritten error
	if o.ByAdmin {
		if unwritten, err = r.saveAdminIntent(c, true); err != nil {
			return err
		}
	}
	if o.Spec != nil { // it is suspended: nothing is started
		err = r.restart(ctx, c, o.Spec, o.From)
	} else {
		err = r.stop(ctx, c, o.AtMost)
	}
	if err == nil && unwritten != nil { // its end may have made space
		err = r.save(c, func(*store.Facts) {})
	}
	if isDiskFull(err) {
		return fmt.Errorf("%s is stopped, but the disk is full, so this is not saved yet: until there is space, a restart of stead would start it again: %w", name, err)
	}
	return err
}

// stop ends the processes of a container. It waits for its stop timeout, but no longer than
// atMost, unless that is 0.
func (r *Runtime) stop(ctx context.Context, c *container, atMost time.Duration) error {
	f, rec := r.snapshot(c)
	if rec == nil || rec.State != record.Running {
		return nil
	}
	defer r.mark(&c.stopping)()
	how := r.filled(f).Spec.Stop
	timeout := time.Duration(how.Timeout)
	if atMost > 0 {
		timeout = min(timeout, atMost)
	}
	if err := errors.Join(r.keeper.ensure(ctx), r.host.Group(rec.ID()).Thaw()); err != nil { // a frozen container can't end by itself
		return fmt.Errorf("stop %s: %w", c.name, err)
	}
	signal, err := specconv.Signal(how.Signal)
	if err != nil {
		return fmt.Errorf("stop %s: %w", c.name, err)
	}
	// With an init, or in the host's pid namespace, signals do to the command what they do anywhere.
	toInit := !f.Manifest.Spec.Init && f.Manifest.Spec.Security.Pid != "host"
	fault.Point("stop-begun")
	err = r.await(ctx, rec, signal, toInit, timeout)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("stop %s: %w", c.name, ctx.Err())
	}
	if errors.Is(err, keeper.ErrNoKeeper) { // the keeper died; the next one adopts the container, and the timeout begins again
		if err = r.keeper.find(ctx); err == nil {
			err = r.await(ctx, rec, signal, toInit, timeout)
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

// await sends the stop signal and waits until the container has ended or the timeout is over.
// toInit says that the signal goes to the first process of a pid namespace.
func (r *Runtime) await(ctx context.Context, rec *record.Record, signal unix.Signal, toInit bool, timeout time.Duration) error {
	if toInit && isDropped(signal, rec.Pid) {
		signal = unix.SIGKILL
	}
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
	// The pid namespace dies with its init on every kernel; the cgroup also has
	// processes that an older keeper's exec put there.
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

// isDropped reports whether the kernel drops a signal that is sent to a process now: the first
// process of a pid namespace gets no signal that would take the default action
// (man 7 pid_namespaces). A process that catches, ignores or blocks the signal means something
// by it (a blocked one may be taken by sigwait(3)), and is given its time.
func isDropped(signal unix.Signal, pid int) bool {
	switch signal {
	case unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGPIPE, unix.SIGABRT:
	default: // its default action ends nothing, or it is SIGKILL
		return false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false // the process is gone
	}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		if key != "SigIgn" && key != "SigCgt" && key != "SigBlk" {
			continue
		}
		mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err == nil && mask>>(uint(signal)-1)&1 == 1 {
			return false
		}
	}
	return true
}
