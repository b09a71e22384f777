package reconcile

import (
	"context"
	goruntime "runtime"
	"sync"
	"time"

	"stead/runtime/status"
)

const (
	// patience is how long an action counts against its pool. One that takes
	// longer waits for something (a process that will not end, a slow disk), and
	// what waits must not keep others from being done.
	patience = 250 * time.Millisecond
	// Stops are mostly waiting from the start.
	manyStops = 512
)

// executor does what a plan says, one action per container at a time. It decides
// nothing.
type executor struct {
	runtime Runtime
	quick   chan struct{} // a slot for each action that works
	stops   chan struct{} // a slot for each that begins with a stop
	done    func(*job)    // called when a job ends, before its container is free
	freed   func()        // called after that

	mu   sync.Mutex
	busy map[string]*job
	wg   sync.WaitGroup
}

// job is an action under way.
type job struct {
	Action
	since time.Time     // of its turn
	ended chan struct{} // closed at the end; what follows is valid then
	note  string
	err   error
}

func newExecutor(rt Runtime, workers int, done func(*job), freed func()) *executor {
	if workers <= 0 {
		workers = max(4, 2*goruntime.GOMAXPROCS(0))
	}
	return &executor{
		runtime: rt, done: done, freed: freed, busy: map[string]*job{},
		quick: make(chan struct{}, workers), stops: make(chan struct{}, manyStops),
	}
}

// start begins an action, unless its container is busy.
func (e *executor) start(ctx context.Context, a Action) (*job, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if j := e.busy[a.Name]; j != nil {
		return j, false
	}
	j := &job{Action: a, since: time.Now(), ended: make(chan struct{})}
	e.busy[a.Name] = j
	e.wg.Go(func() { e.run(ctx, j) })
	return j, true
}

// jobs returns what is under way, by container.
func (e *executor) jobs() map[string]*job {
	e.mu.Lock()
	defer e.mu.Unlock()
	jobs := make(map[string]*job, len(e.busy))
	for name, j := range e.busy {
		jobs[name] = j
	}
	return jobs
}

func (e *executor) run(ctx context.Context, j *job) {
	pool := e.quick
	if j.Verb == Stop || j.Verb == Remove || j.Verb == Restart {
		pool = e.stops
	}
	select {
	case pool <- struct{}{}:
		j.since = time.Now()
		release := sync.OnceFunc(func() { <-pool })
		waiting := time.AfterFunc(patience, release)
		if j.note, j.err = e.perform(ctx, j.Action); j.note == "" {
			j.note = j.Action.note
		}
		waiting.Stop()
		release()
	case <-ctx.Done():
		j.err = ctx.Err()
	}
	e.done(j)
	e.mu.Lock()
	delete(e.busy, j.Name)
	e.mu.Unlock()
	close(j.ended)
	e.freed()
}

// perform is the one place where a verb becomes a call.
func (e *executor) perform(ctx context.Context, a Action) (note string, err error) {
	rt := e.runtime
	switch a.Verb {
	case Create:
		return rt.Create(ctx, a.Spec, a.From)
	case Update:
		return "", rt.Update(ctx, a.Spec, a.From)
	case Adopt:
		return "", rt.Adopt(ctx, a.Name, a.From)
	case Remove:
		return "", rt.Remove(ctx, a.Name)
	case Restart:
		return "", rt.Restart(ctx, a.Spec, a.From, a.ByAdmin)
	case Start:
		return "", rt.Start(ctx, a.Name, status.StartOptions{Spec: a.Spec, From: a.From, ByPolicy: a.ByPolicy, ByAdmin: a.ByAdmin})
	case Stop:
		o := status.StopOptions{ByAdmin: a.ByAdmin}
		if a.Suspend && len(a.Changes) > 0 { // stops, applies and, suspended, starts nothing
			o.Spec, o.From = a.Spec, a.From
		}
		return "", rt.Stop(ctx, a.Name, o)
	}
	return "", nil // Hold
}
