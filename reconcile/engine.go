package reconcile

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"stead/reconcile/desired"
	"stead/reconcile/events"
	"stead/reconcile/plan"
	"stead/reconcile/source"
	"stead/runtime/status"
	"stead/spec"
)

// Manifests is all that the engine asks of the manifest directories.
type Manifests interface {
	// Watch makes changes known on Wake until ctx ends.
	Watch(ctx context.Context)
	// Wake receives when there may be something new to read.
	Wake() <-chan struct{}
	// Read rereads what may have changed; the same pointer if nothing has.
	Read() *source.Reading
	// Renew makes the next Read trust no memory of directories.
	Renew()
}

const (
	// DefaultSettle is how long a manifest must have been gone before its container is removed.
	DefaultSettle = 5 * time.Second
	// DefaultResync is how often a pass runs without any event.
	DefaultResync = time.Minute
	// DefaultRetention is how long the data of removed containers is kept.
	DefaultRetention = 30 * 24 * time.Hour
)

// Engine keeps the host at what the manifests declare. Set the fields, then Run it (the
// daemon), or call Apply, Plan, Do or Status alone (a verb without one).
type Engine struct {
	Source     Manifests
	Observer   Observer
	Containers Containers
	Reloader   Reloader
	Restorer   Restorer
	Images     Images // nil: no image is looked for before a start
	Holds      Holds  // nil: nothing is on hold
	Removed    Removed
	Log        *slog.Logger

	Settle  time.Duration // absent for so long before a removal; 5 s, negative for none
	Resync  time.Duration // a pass without any event, and a look at the kernel; 1 min
	Quiet   time.Duration // a pass waits for so long without a file event; 10 ms
	Limit   time.Duration // but no longer than this after the first one; 200 ms
	Workers int           // actions at a time; twice the CPUs
	// Retention is how long the data of removed containers is kept by Run; 30 days, negative
	// for ever.
	Retention time.Duration

	// Record writes events to the journal; nil records nothing.
	Record func(...events.Event) error
	// Exits are the ends of commands that the journal holds already, by container.
	Exits map[string]time.Time
	// Exposed returns the directories of this host in which the root of a container can leave a
	// set-user-ID file that other users can run; may be nil.
	Exposed func(*spec.Container) []string
	// HostNotes returns what an admin should know about this host; may be nil.
	HostNotes func(context.Context) []string

	once      sync.Once
	exec      *executor
	journal   *journal
	notices   *notices
	checks    checks
	expiring  sync.Mutex             // one expiry at a time
	examining sync.Mutex             // one Examine at a time
	noStore   atomic.Pointer[string] // why the images could not be read last
	reported  chan struct{}          // an action reported; at most one wake-up
	poke      chan struct{}          // somebody asks for a pass; at most one wake-up
	answers   chan struct{}          // received from by the loop between passes

	pass sync.Mutex // held for the length of a pass: there is one at a time

	mu       sync.Mutex // guards what follows, and Settle and Retention
	declared *desired.Declared
	last     *outcome                     // of the last pass; nil before the first
	memory   plan.Memory                  // that the last plan was made with
	plan     plan.Plan                    // the last
	results  []plan.Result                // of actions that ended since the last plan
	exposed  map[*spec.Container][]string // by applied manifest, as of the last Examine
	since    time.Time                    // Run began; zero without it
	base     context.Context              // of Run
}

// outcome is what a pass saw, planned and began.
type outcome struct {
	reading *source.Reading
	desired *plan.Desired
	plan    plan.Plan
	at      time.Time
	started []*job
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
		e.reported, e.poke, e.answers = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{})
		e.exec = newExecutor(e.Containers, e.Images, e.Workers, e.report, func() { signal(e.reported) })
		e.exec.reloader, e.exec.restorer = e.Reloader, e.Restorer
		e.journal = &journal{log: e.Log, write: e.Record}
		e.notices = newNotices(e.Log, e.journal, e.Exits)
		e.plan.Found.MassHeld = maps.Clone(e.holds().Removals)
	})
}

func (e *Engine) holds() *status.Holds {
	if e.Holds == nil {
		return &status.Holds{}
	}
	return e.Holds.Holds()
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return max(d, 0)
}

// signal sends a wake-up to a channel of capacity 1, unless one is waiting there.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Configure changes Settle and Retention while the daemon runs.
func (e *Engine) Configure(settle, retention time.Duration) {
	e.init()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.Settle, e.Retention = orDefault(settle, DefaultSettle), orDefault(retention, DefaultRetention)
}

// runs reports whether Run is running, and returns its context: actions that the daemon begins
// outlive the request that asked for them.
func (e *Engine) runs() (context.Context, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.base, e.base != nil
}

// state is the input of a plan or a view.
type state struct {
	reading  *source.Reading
	desired  *plan.Desired
	observed []*status.Status
	memory   plan.Memory
	known    int // how many results of actions memory contains
	now      time.Time
}

// current returns what the last pass read, held against the containers as they are now;
// without a pass it reads.
func (e *Engine) current() state {
	e.mu.Lock()
	passed := e.last != nil
	e.mu.Unlock()
	if !passed {
		return e.look()
	}
	busy := e.exec.jobs()
	observed, stored := e.Observer.List(), e.stored()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stateOf(e.declared, observed, stored, busy)
}

// look reads the manifests and observes the host. It starts nothing.
func (e *Engine) look() state {
	e.pass.Lock()
	defer e.pass.Unlock()
	return e.lookLocked()
}

// lookLocked is look for a caller that holds e.pass. It asks for busy subjects before it
// observes the host: an action that ends in between leaves an observation that is out of date,
// and its subject still counts as busy.
func (e *Engine) lookLocked() state {
	busy := e.exec.jobs()
	reading := e.Source.Read()
	observed, stored := e.Observer.List(), e.stored()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.declared == nil || e.declared.Reading != reading {
		e.declared = desired.Declare(reading)
	}
	return e.stateOf(e.declared, observed, stored, busy)
}

// stored returns the images of this host, nil if they can't be read: then each start says why.
func (e *Engine) stored() *status.Images {
	if e.Images == nil {
		return nil
	}
	images, err := e.Images.Stored()
	note := ""
	if err != nil {
		images, note = nil, err.Error()
	}
	if before := e.noStore.Swap(&note); note != "" && (before == nil || *before != note) {
		e.Log.Error("cannot read the images of this host", "error", note)
	}
	return images
}

// stateOf holds what is declared against what is observed; the caller holds mu.
func (e *Engine) stateOf(d *desired.Declared, observed []*status.Status, stored *status.Images, busy map[plan.Subject]*job) state {
	m := plan.Next(e.memory, e.plan, e.results)
	m.Settle, m.Holds, m.Stored = e.Settle, e.holds(), stored
	m.Busy, m.Progress = verbsOf(busy), progressOf(busy)
	want := d.Combine(observed)
	m.Left = e.left(want, observed, stored)
	return state{reading: d.Reading, desired: want, observed: observed, memory: m, known: len(e.results), now: time.Now()}
}

// left returns the images of removed containers that are declared again, if only those have what
// the manifest names.
func (e *Engine) left(want *plan.Desired, observed []*status.Status, stored *status.Images) map[string]status.ImageUse {
	if stored == nil || e.Removed == nil {
		return nil
	}
	left := map[string]status.ImageUse{}
	want.Missing(observed, func(name string, w *plan.Want) {
		image := w.Spec.Spec.Rootfs.Image
		if image == "" {
			return
		}
		if _, there := stored.Find(image); there {
			return
		}
		if use, ok := e.Removed.Image(name); ok {
			left[name] = use
		}
	})
	return left
}
