package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"stead/reconcile"
	"stead/reconcile/control"
	"stead/reconcile/events"
	"stead/reconcile/source"
	"stead/reconcile/view"
	"stead/runtime"
	"stead/runtime/hostpath"
	"stead/runtime/specconv"
	"stead/runtime/store"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// host controls this host, through the daemon or in this process.
type host struct {
	control.Controller
	daemon bool
	close  func(context.Context) error
}

// parser returns the parser for manifests on this host.
func (a *app) parser() spec.Parser { return spec.Parser{Host: a.host} }

// source returns the source of manifests. rt knows what containers can write; it may be
// nil.
func (a *app) source(rt *runtime.Runtime, log *slog.Logger) *source.Source {
	s := &source.Source{Dirs: a.manifests, Parser: a.parser(), Host: a.host, Trust: a.trust, Protected: a.protected(), Log: log}
	if rt != nil {
		s.Writable, s.Key = rt.Writable.List, rt.FilesKey()
		s.Contents = source.AllContents
		rt.SetTrusted(ownersOf(a.trust))
	}
	return s
}

// ownersOf returns the trusted owners of manifests besides root; t is nil if every owner is
// trusted (--allow-writable-manifests).
func ownersOf(t *source.Trust) []uint32 {
	if t == nil {
		return nil
	}
	return t.Owners
}

// protected returns the files and directories that no container may write.
func (a *app) protected() []hostpath.Protected {
	return specconv.ProtectedPaths(a.stateDir, a.runDir, a.flags.config, a.manifests)
}

// open opens the runtime on this program's directories.
func (a *app) open(ctx context.Context, o runtime.Options) (*runtime.Runtime, error) {
	if err := a.checkPair(); err != nil {
		return nil, err
	}
	o.StateDir, o.RunDir, o.CgroupParent = a.stateDir, a.runDir, a.cgroupParent
	o.FirstID, o.IDs, o.Config, o.Manifests = a.firstID, a.ids, a.flags.config, a.manifests
	o.Registries = a.registries
	return runtime.Open(ctx, o)
}

// checkPair fails if the state or the run directory is in use with another one.
func (a *app) checkPair() error {
	err := store.CheckPair(a.stateDir, a.runDir)
	var mismatch *store.Mismatch
	if errors.As(err, &mismatch) {
		return exitWith(exitUsage, "%w (or its variable)", err)
	}
	return err
}

// openOnly opens the runtime read-only with some containers alone.
func (a *app) openOnly(ctx context.Context, names ...string) (*runtime.Runtime, error) {
	rt, err := a.open(ctx, runtime.Options{ReadOnly: true, Only: names, Log: a.log(slog.LevelWarn)})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", a.stateDir, err)
	}
	return rt, nil
}

// dial connects to the daemon and returns nil if none is running. It fails if the
// caller named other manifest directories than the daemon reads.
func (a *app) dial(ctx context.Context) (*host, error) {
	if err := a.checkPair(); err != nil {
		return nil, err
	}
	c, err := control.Dial(a.daemonSocket())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	h := &host{Controller: c, daemon: true, close: func(context.Context) error { return nil }}
	if err := a.sameSources(ctx, h); err != nil {
		return nil, err
	}
	return h, nil
}

// sameSources fails if the caller named other manifest directories or another host name
// than the daemon uses. An apply or a plan also fails if the configuration file has
// changed since the daemon read it.
func (a *app) sameSources(ctx context.Context, h *host) error {
	strict := a.verb == "apply" || a.verb == "plan"
	if len(a.flags.manifests) == 0 && a.flags.host == "" && !strict {
		return nil
	}
	report, err := h.Status(ctx)
	if err != nil {
		return err
	}
	var dirs []string
	for _, s := range report.Sources {
		dirs = append(dirs, s.Path)
	}
	differ := func(what, theirs, ours string, named bool) error {
		advice := "leave out --" + what + " and its variable, or use other state and run directories"
		if !named {
			advice = "stead reload makes the daemon read " + a.flags.config + " again"
		}
		return exitWith(exitUsage, "the daemon uses %s %s, not %s; %s", what, theirs, ours, advice)
	}
	if named := len(a.flags.manifests) > 0; (named || strict) && !slices.Equal(dirs, a.manifests) {
		return differ("manifests", strings.Join(dirs, ", "), strings.Join(a.manifests, ", "), named)
	}
	if named := a.flags.host != ""; (named || strict) && report.Host != a.host {
		return differ("host", report.Host, a.host, named)
	}
	return nil
}

// daemonSocket returns the path of the daemon's socket.
func (a *app) daemonSocket() string { return a.runDir + "/daemon.sock" }

// patience is how long a verb waits for a daemon that starts or ends, or for another
// verb.
const patience = 2 * time.Second

// whileLocked calls try again while another process holds the lock of the state directory,
// at most for so long.
func whileLocked(ctx context.Context, atMost time.Duration, try func() error) error {
	for began := time.Now(); ; {
		var locked *store.Locked
		err := try()
		if !errors.As(err, &locked) || time.Since(began) > atMost {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// forChange returns the daemon, or without one this process with the lock of the state
// directory.
func (a *app) forChange(ctx context.Context) (*host, error) {
	var h *host
	var unlock func()
	err := whileLocked(ctx, patience, func() (err error) {
		if h, err = a.dial(ctx); h == nil && err == nil {
			unlock, err = store.Lock(a.stateDir)
		}
		return err
	})
	if h != nil || err != nil {
		return h, err
	}
	log := a.log(slog.LevelWarn)
	rt, err := a.open(ctx, runtime.Options{Log: log})
	if err != nil {
		unlock()
		return nil, err
	}
	journal := events.Open(a.stateDir)
	var lost sync.Once
	record := func(list ...events.Event) error {
		err := journal.Record(list...)
		if err != nil {
			lost.Do(func() { log.Error("cannot write the event journal; events are lost", "error", err) })
		}
		return err
	}
	engine := a.engine(rt) // without a log: the verb prints what failed
	engine.Record = record
	return &host{Controller: engine, close: func(ctx context.Context) error {
		defer unlock()
		defer rt.Close()
		defer journal.Close()
		return rt.QuitKeeper(context.WithoutCancel(ctx)) // only if nothing runs
	}}, nil
}

// forReading returns the daemon, or without one this process with the files.
func (a *app) forReading(ctx context.Context) (*host, error) {
	h, err := a.dial(ctx)
	if h != nil || err != nil {
		return h, err
	}
	rt, err := a.open(ctx, runtime.Options{ReadOnly: true, Log: a.log(slog.LevelWarn)})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", a.stateDir, err)
	}
	return &host{Controller: a.engine(rt), close: func(context.Context) error {
		rt.Close()
		return nil
	}}, nil
}

// status returns the report of this host, and whether a daemon made it.
func (a *app) status(ctx context.Context) (r view.Report, daemon bool, err error) {
	return a.statusWith(ctx, func(*reconcile.Engine) {})
}

// statusWith is status with some work first if there is no daemon, which does that in time.
func (a *app) statusWith(ctx context.Context, first func(*reconcile.Engine)) (r view.Report, daemon bool, err error) {
	h, err := a.forReading(ctx)
	if err != nil {
		return r, false, err
	}
	defer h.close(ctx)
	if e, own := h.Controller.(*reconcile.Engine); own {
		first(e)
	}
	r, err = h.Status(ctx)
	return r, h.daemon, err
}

// engine returns the engine of this host.
func (a *app) engine(rt *runtime.Runtime) *reconcile.Engine {
	return &reconcile.Engine{
		Source: a.source(rt, nil), Observer: rt, Containers: rt, Images: rt.Images, Reloader: rt, Restorer: rt, Holds: rt.Holds, Removed: rt.Removed,
		Settle: a.settle, Exposed: specconv.Exposed, HostNotes: rt.Notes,
	}
}
