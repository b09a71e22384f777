package reconcile

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"stead/reconcile/events"
	"stead/reconcile/source"
	"stead/runtime/trim"
)

// Manifests is all that the loop asks of the manifest directories.
type Manifests interface {
	// Watch makes changes known on Wake until ctx ends.
	Watch(ctx context.Context)
	// Wake receives when there may be something new to read.
	Wake() <-chan struct{}
	// Read rereads what may have changed; the same pointer if nothing has.
	Read() *source.Reading
	// Follow rereads what events have told of since, and is Read without Watch.
	Follow() *source.Reading
	// Renew makes the next Read trust no memory of directories.
	Renew()
}

// DefaultSettle is how long a manifest must have been gone before its container is removed.
const DefaultSettle = 5 * time.Second

// DefaultResync is how often a pass runs without any event.
const DefaultResync = time.Minute

// DefaultRetention is how long the data of removed containers is kept.
const DefaultRetention = 30 * 24 * time.Hour

// Engine keeps the host at what the manifests declare. Set the fields, then Run
// it (the daemon), or call Apply, Plan, Do or Status alone (a verb without one).
type Engine struct {
	Source  Manifests
	Runtime Runtime
	Log     *slog.Logger

	Settle  time.Duration // absent for so long before a removal; 5 s, negative for none
	Resync  time.Duration // a pass without any event, and a look at the kernel; 1 min
	Quiet   time.Duration // a pass waits for so long without a file event; 10 ms
	Limit   time.Duration // but no longer than this after the first one; 200 ms
	Workers int           // actions at a time; twice the CPUs
	// Retention is how long the data of removed containers is kept by Run; 30
	// days, negative forever.
	Retention time.Duration

	// Record takes note of what happened; may be nil.
	Record func(...events.Event) error
	// Exits are ends of commands that Record knows of already, by container.
	Exits map[string]time.Time

	once     sync.Once
	exec     *executor
	reported chan struct{} // an action reported; at most one wake-up
	poke     chan struct{} // somebody asks for a pass; at most one wake-up

	pass sync.Mutex // held for the length of a pass: there is one at a time

	mu        sync.Mutex // guards what follows
	memory    Memory
	compared  *comparer
	declared  *Declared
	last      *outcome // of the last pass
	did       map[string]deed
	problems  map[string]string    // logged errors, by file
	held      map[string]string    // logged held removals, by container
	writing   map[string]bool      // logged files that wait for their writer
	notes     []string             // logged notes on the manifests
	exits     map[string]time.Time // told ends of commands, by container
	since     time.Time            // Run began; zero without it
	base      context.Context      // of Run
	checking  int
	checkNote string // logged error of the last check

	expiring   sync.Mutex             // one expiry at a time
	recordNote atomic.Pointer[string] // logged error of Record
}

// outcome is what a pass saw and planned.
type outcome struct {
	desired  *Desired
	plan     Plan
	at       time.Time
	started  []*job
	unneeded []string // confirmations of what is not to be removed
}

func (e *Engine) init() {
	e.once.Do(func() {
		if e.Log == nil {
			e.Log = slog.New(slog.DiscardHandler)
		}
		e.Settle = orDefault(e.Settle, DefaultSettle)
		e.Resync = orDefault(e.Resync, DefaultResync)
		e.Quiet = orDefault(e.Quiet, 10*time.Millisecond)
		e.Limit = orDefault(e.Limit, 200*time.Millisecond)
		e.Retention = orDefault(e.Retention, DefaultRetention)
		e.reported, e.poke = make(chan struct{}, 1), make(chan struct{}, 1)
		e.exec = newExecutor(e.Runtime, e.Workers, e.report, func() { signal(e.reported) })
		e.memory = Memory{Settle: e.Settle, Failures: map[string]Failure{}, Confirmed: map[string]bool{}, Massive: maps.Clone(e.Runtime.Holds().Removals)}
		if e.memory.Massive == nil {
			e.memory.Massive = map[string]string{}
		}
		e.exits = maps.Clone(e.Exits)
		if e.exits == nil {
			e.exits = map[string]time.Time{}
		}
		e.compared = &comparer{by: map[string]comparison{}}
		e.did, e.problems, e.held = map[string]deed{}, map[string]string{}, map[string]string{}
	})
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return max(d, 0)
}

// signal puts one wake-up into a channel that holds at most one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run runs passes until ctx ends, then waits for the actions under way to give
// up. It leaves the containers running.
func (e *Engine) Run(ctx context.Context) error {
	e.init()
	e.mu.Lock()
	e.base, e.since = ctx, time.Now()
	e.mu.Unlock()
	defer e.exec.wg.Wait()
	e.record(events.Event{Time: time.Now(), Type: events.Started, Message: "the daemon keeps this host as declared"})
	e.Source.Watch(ctx)
	e.check(ctx, false)
	e.exec.wg.Go(func() { e.check(ctx, true); e.expire(ctx) }) // it may take long
	pace := pacer{quiet: e.Quiet, limit: e.Limit}
	pace.other(time.Now())
	resync := time.NewTicker(e.Resync)
	defer resync.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	follow := false // what events tell of is enough
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.Source.Wake():
			pace.event(time.Now())
		case <-e.Runtime.Wake():
			pace.other(time.Now().Add(e.Quiet))
		case <-e.reported:
			pace.other(time.Now().Add(e.Quiet))
		case <-e.poke:
			follow = false
			pace.event(time.Now())
		case <-resync.C:
			e.Source.Renew()
			follow = false
			e.exec.wg.Go(func() { e.check(ctx, false) })
			e.exec.wg.Go(func() { e.expire(ctx) })
			pace.other(time.Now())
		case <-timer.C:
		}
		now := time.Now()
		if due := pace.due(); !due.IsZero() && !now.Before(due) {
			out := e.runPass(ctx, passOptions{follow: follow})
			pace.passed(now, time.Now())
			follow = true
			if again := out.again(); !again.IsZero() {
				pace.other(again)
			}
		}
		if due := pace.due(); !due.IsZero() {
			timer.Reset(time.Until(due))
		}
	}
}

// again is when to look again without any event; zero if never.
func (o *outcome) again() time.Time {
	at := o.plan.Next
	if retry := o.desired.Reading.Retry; retry > 0 {
		at = earlier(at, o.at.Add(retry))
	}
	return at
}

// check looks at the kernel for what changed by hand. A check that takes long is
// not followed by a second one beside it, unless that is to look at all.
func (e *Engine) check(ctx context.Context, all bool) {
	e.mu.Lock()
	if e.checking > 0 && !all {
		e.mu.Unlock()
		return
	}
	e.checking++
	e.mu.Unlock()
	err := e.Runtime.Check(ctx, all)
	note := ""
	if err != nil && ctx.Err() == nil {
		note = err.Error()
	}
	e.mu.Lock()
	said := e.checkNote
	e.checking--
	e.checkNote = note
	e.mu.Unlock()
	if note != "" && note != said {
		e.Log.Error("check the containers of this host", "error", note)
	}
	signal(e.reported)
	trim.Memory() // of what was done since the last look
}

// Reload makes the loop look at everything again, now: at the kernel too, for what
// changed by hand. The manifests have been read when it returns: whoever asks next
// is told of what is there now.
func (e *Engine) Reload(context.Context) error {
	e.init()
	e.Source.Renew()
	e.look(false)
	signal(e.poke)
	e.mu.Lock()
	ctx := e.base
	e.mu.Unlock()
	if ctx != nil && ctx.Err() == nil {
		go e.check(ctx, true) // nobody waits for it: it ends with the daemon
	}
	return nil
}
