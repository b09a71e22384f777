package reconcile

import (
	"context"
	"fmt"
	"sync"
	"time"

	"stead/reconcile/events"
	"stead/runtime/trim"
)

// Run runs passes until ctx ends, then waits until the actions under way have stopped. The
// containers run on.
func (e *Engine) Run(ctx context.Context) error {
	e.init()
	e.mu.Lock()
	e.base, e.since = ctx, time.Now()
	e.mu.Unlock()
	defer e.exec.wg.Wait()
	e.journal.record(events.Event{Time: time.Now(), Type: events.Started, Message: "the daemon started"})
	e.Source.Watch(ctx)
	e.check(ctx, false)
	e.exec.wg.Go(func() { e.check(ctx, true); e.Examine(); e.expire(ctx) }) // these may take long
	next := debounce{quiet: e.Quiet, limit: e.Limit}
	next.other(time.Now())
	resync := time.NewTicker(e.Resync)
	defer resync.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.Source.Wake():
			next.event(time.Now())
		case <-e.Observer.Wake():
			next.other(time.Now().Add(e.Quiet))
		case <-e.reported:
			next.other(time.Now().Add(e.Quiet))
		case <-e.poke:
			next.event(time.Now())
		case <-resync.C:
			e.Source.Renew()
			e.exec.wg.Go(func() { e.check(ctx, false); e.Examine() })
			e.exec.wg.Go(func() { e.expire(ctx) })
			next.other(time.Now())
		case <-timer.C:
		case <-e.answers:
		}
		now := time.Now()
		if due := next.due(); !due.IsZero() && !now.Before(due) {
			out := e.runPass(ctx, passOptions{})
			next.passed(now, time.Now())
			if again := out.again(); !again.IsZero() {
				next.other(again)
			}
		}
		if due := next.due(); !due.IsZero() {
			timer.Reset(time.Until(due))
		}
	}
}

// Answers returns when the loop of Run is between two passes. A loop that hangs in a pass (in a
// read of a dead file system, say) does not answer before ctx ends: then the error is ctx's.
func (e *Engine) Answers(ctx context.Context) error {
	e.init()
	select {
	case e.answers <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// checks counts the checks of the kernel under way.
type checks struct {
	mu     sync.Mutex // guards what follows
	count  int
	logged string // error of the last one
}

// check asks the runtime to check the kernel for what was changed by hand. It does nothing
// while another check runs, unless all containers are to be checked closely.
func (e *Engine) check(ctx context.Context, all bool) {
	c := &e.checks
	c.mu.Lock()
	if c.count > 0 && !all {
		c.mu.Unlock()
		return
	}
	c.count++
	c.mu.Unlock()
	note := ""
	if err := e.Observer.Check(ctx, all); err != nil && ctx.Err() == nil {
		note = err.Error()
	}
	c.mu.Lock()
	fresh := note != "" && note != c.logged
	c.count, c.logged = c.count-1, note
	c.mu.Unlock()
	if fresh {
		e.Log.Error("check the containers of this host", "error", note)
	}
	signal(e.reported)
	trim.Memory() // that actions since the last check have used
}

// checkAlone checks the kernel once, for a verb that runs without a daemon.
func (e *Engine) checkAlone(ctx context.Context, all bool) error {
	if err := e.Observer.Check(ctx, all); err != nil {
		return fmt.Errorf("check the containers of this host: %w", err)
	}
	return nil
}

// Reload has the daemon read all manifests and check the kernel now. The manifests have been
// read when Reload returns.
func (e *Engine) Reload(context.Context) error {
	e.init()
	e.Source.Renew()
	e.look()
	signal(e.poke)
	if ctx, daemon := e.runs(); daemon && ctx.Err() == nil {
		go e.check(ctx, true) // in the background, until the daemon ends
	}
	return nil
}

// expire deletes the data of containers that were removed longer ago than the retention time.
func (e *Engine) expire(ctx context.Context) {
	e.mu.Lock()
	retention := e.Retention
	e.mu.Unlock()
	if retention <= 0 || !e.expiring.TryLock() {
		return
	}
	defer e.expiring.Unlock()
	gone, err := e.Removed.Expire(ctx, retention)
	for _, entry := range gone {
		e.Log.Info("deleted the data of a removed container", "entry", entry, "retention", retention)
	}
	e.journal.deleted(gone, fmt.Sprintf("removed more than %s ago", retention))
	if err != nil && ctx.Err() == nil {
		e.Log.Error("delete what was removed long ago", "error", err)
	}
}
