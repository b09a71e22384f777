package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"stead/reconcile"
	"stead/reconcile/control"
	"stead/reconcile/events"
	"stead/reconcile/source"
	"stead/reconcile/view"
	"stead/runtime"
	"stead/runtime/store"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"
)

func (a *app) daemonCommand() *cobra.Command {
	var d daemon
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "Watch the manifests and keep this host as they declare",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.app, d.log, d.checkSocket = a, a.log(slog.LevelInfo), make(chan struct{}, 1)
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&d.stopContainers, "stop-containers", false, "stop all containers when the daemon ends")
	return cmd
}

// daemon is one run of the engine, with its socket and its reports to systemd.
type daemon struct {
	*app
	log            *slog.Logger
	stopContainers bool

	rt     *runtime.Runtime
	src    *source.Source
	config sync.Mutex // guards settings while the engine runs
	engine *reconcile.Engine

	checkSocket chan struct{} // a reload sends to it
}

// run is the daemon from its lock to its end.
func (d *daemon) run(ctx context.Context) error {
	unlock, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	// With a handler, a write to a log whose reader is gone fails with EPIPE; without one it would
	// end the daemon (os/signal, "SIGPIPE"). A handler is not inherited, as SIG_IGN would be.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	d.log.Info("starting", "version", versionText(), "pid", os.Getpid(), "state", d.stateDir, "run", d.runDir, "manifests", d.manifests)
	if d.rt, err = d.open(ctx, runtime.Options{Upgrade: true, Watch: true, Log: d.log}); err != nil {
		return err
	}
	defer d.rt.Close()
	socket, err := control.Listen(d.daemonSocket())
	if err != nil {
		return err
	}
	journal := events.Open(d.stateDir)
	defer journal.Close()
	exits, err := events.LastExits(d.stateDir)
	if err != nil {
		d.log.Warn("cannot read the event journal; ends of commands may be recorded twice", "error", err)
	}
	d.src = d.source(d.rt, d.log)
	d.engine = d.app.engine(d.rt)
	d.engine.Source, d.engine.Log, d.engine.Retention = d.src, d.log, d.retention
	d.engine.Record, d.engine.Exits = journal.Record, exits
	defer d.limitEnd(ctx)()
	err = d.serve(ctx, socket)
	if ctx.Err() != nil {
		d.notify(sd.SdNotifyStopping)
	}
	os.Remove(d.daemonSocket())
	if d.stopContainers {
		return d.stopAll(context.WithoutCancel(ctx), err)
	}
	if e := d.rt.QuitKeeper(context.WithoutCancel(ctx)); e != nil { // it ends only if it holds no container
		d.log.Warn("cannot end the keeper, which holds no container", "error", e)
	}
	d.log.Info("ended; the containers keep running")
	return err
}

// unlockDelay is how long a daemon that was killed may still hold its lock.
const unlockDelay = 500 * time.Millisecond

// lock locks the state directory. It waits for a daemon that is dying.
func (d *daemon) lock(ctx context.Context) (unlock func(), err error) {
	err = whileLocked(ctx, unlockDelay, func() error {
		unlock, err = store.Lock(d.stateDir)
		return err
	})
	return unlock, err
}

// serve runs the engine, the socket and the reports until ctx ends or one of them fails.
func (d *daemon) serve(ctx context.Context, socket net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var parts sync.WaitGroup
	failed := make(chan error, 1)
	part := func(run func(context.Context) error) {
		parts.Go(func() {
			if err := run(ctx); err != nil {
				select {
				case failed <- err: // the first
				default:
				}
				cancel()
			}
		})
	}
	part(d.engine.Run)
	answer := func(socket net.Listener) {
		part(func(ctx context.Context) error { return control.Serve(ctx, socket, reloading{d.engine, d}, d.log) })
	}
	answer(socket)
	part(func(ctx context.Context) error { return d.keepSocket(ctx, answer) })
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // before READY=1: systemd may send SIGHUP after that, which would end the daemon
	defer signal.Stop(hangups)
	part(func(ctx context.Context) error { return d.reloads(ctx, hangups) })
	part(d.reports)
	d.notify(sd.SdNotifyReady)
	parts.Wait()
	close(failed)
	return <-failed // nil if none
}

// keepSocket creates the socket again after somebody deleted it. Existing connections
// stay.
func (d *daemon) keepSocket(ctx context.Context, answer func(net.Listener)) error {
	tick := time.NewTicker(reconcile.DefaultResync)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-d.checkSocket:
		}
		if _, err := os.Lstat(d.daemonSocket()); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		socket, err := control.Listen(d.daemonSocket())
		if err != nil {
			d.log.Error("the control socket was deleted by hand; cannot create it again", "error", err)
			continue
		}
		d.log.Warn("the control socket was deleted by hand; created it again")
		answer(socket)
	}
}

// reports sends the summary of this host to systemd, and feeds the watchdog for as long as the
// loop that runs passes answers. systemd restarts a daemon whose loop hangs; the containers keep
// running.
func (d *daemon) reports(ctx context.Context) error {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil
	}
	watchdog, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		d.log.Warn("cannot read the watchdog interval; no watchdog", "error", err)
	}
	every := 30 * time.Second
	if watchdog > 0 {
		every = min(every, watchdog/3)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := ""
	for {
		if now := summary(d.engine.Summary()); now != last {
			last = now
			d.notify("STATUS=" + now)
		}
		if watchdog > 0 {
			patience, cancel := context.WithTimeout(ctx, watchdog)
			if err := d.engine.Answers(patience); err == nil {
				d.notify(sd.SdNotifyWatchdog)
			} else if ctx.Err() == nil {
				d.log.Error("the loop hangs in a pass; systemd will restart the daemon", "since", watchdog)
			}
			cancel()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// notify sends a state to systemd, if it is there.
func (d *daemon) notify(state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		d.log.Debug("notify systemd", "error", err)
	}
}

// limitEnd ends the process within two seconds of ctx, even if an action still waits. The
// next start finishes the action.
func (d *daemon) limitEnd(ctx context.Context) (ended func()) {
	if d.stopContainers {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		<-ctx.Done()
		select {
		case <-done:
		case <-time.After(1500 * time.Millisecond):
			d.log.Warn("ended during an action; the next start finishes it")
			os.Exit(0)
		}
	}()
	return func() { close(done) }
}

// stopAll stops every container and the keeper. It does not record that they are
// stopped, so that the next daemon starts them again.
func (d *daemon) stopAll(ctx context.Context, ended error) error {
	stopped := stopAll(ctx, d.rt, d.log, "the daemon ends", time.Time{})
	if stopped != nil {
		return multierror.Append(nil, ended, stopped).ErrorOrNil()
	}
	d.log.Info("ended; all containers are stopped")
	return multierror.Append(nil, ended, d.rt.QuitKeeper(ctx)).ErrorOrNil()
}

// summary describes the host in one line.
func summary(r view.Report) string {
	running, all, removals := 0, 0, 0
	for _, c := range r.Containers {
		if c.State == view.Running {
			running++
		}
		if c.State != view.Invalid { // a manifest, and no container
			all++
		}
	}
	for _, h := range r.Held {
		if h.Reason == view.ReasonRemovalHeld {
			removals++
		}
	}
	s := fmt.Sprintf("%d of %d containers running", running, all)
	for _, f := range r.Faults {
		s += ", " + f.Subject + " faulty (" + f.Reason + ")"
	}
	for _, part := range []struct {
		n    int
		what string
	}{{len(r.Differs), "not as declared"}, {removals, "removals held"}, {len(r.Held) - removals, "on hold"}} {
		if part.n > 0 {
			s += fmt.Sprintf(", %d %s", part.n, part.what)
		}
	}
	return s
}
