package reconcile

import (
	"context"
	"maps"
	goruntime "runtime"
	"sync"
	"time"

	"stead/reconcile/plan"
	"stead/runtime/status"
)

const (
	// patience is how long an action occupies a slot of its pool. An action that takes longer
	// waits for something (a process that does not end, a slow disk) and must not delay others.
	patience = 250 * time.Millisecond
	// maxStops limits the stops under way at once. Most of their time is waiting.
	maxStops = 512
)

// executor carries out the actions of plans, one per subject at a time. It decides nothing.
type executor struct {
	containers Containers
	quick      chan struct{} // slots of short actions
	stops      chan struct{} // slots of actions that begin with a stop
	ended      func(*job)    // called when a job ends, before its subject is free
	freed      func()        // called after that

	mu   sync.Mutex // guards busy
	busy map[plan.Subject]*job
	wg   sync.WaitGroup
}

// job is an action under way.
type job struct {
	plan.Action
	since time.Time     // it got a slot
	ended chan struct{} // closed at the end; what follows is valid then
	note  string
	err   error
}

func newExecutor(c Containers, workers int, ended func(*job), freed func()) *executor {
	if workers <= 0 {
		workers = max(4, 2*goruntime.GOMAXPROCS(0))
	}
	return &executor{
		containers: c, ended: ended, freed: freed, busy: map[plan.Subject]*job{},
		quick: make(chan struct{}, workers), stops: make(chan struct{}, maxStops),
	}
}

// start begins an action. If its subject is busy, start returns the job of that subject.
func (e *executor) start(ctx context.Context, a plan.Action) (j *job, started bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if j := e.busy[a.Subject]; j != nil {
		return j, false
	}
	if j := e.busy[plan.ContainerNamed(a.Old)]; j != nil && a.Old != "" {
		return j, false
	}
	j = &job{Action: a, since: time.Now(), ended: make(chan struct{})}
	e.busy[a.Subject] = j
	if a.Old != "" {
		e.busy[plan.ContainerNamed(a.Old)] = j
	}
	e.wg.Go(func() { e.run(ctx, j) })
	return j, true
}

// jobs returns the actions under way.
func (e *executor) jobs() map[plan.Subject]*job {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.busy)
}

// busyVerbs returns the verbs of the actions under way.
func (e *executor) busyVerbs() map[plan.Subject]plan.Verb {
	verbs := map[plan.Subject]plan.Verb{}
	for s, j := range e.jobs() {
		verbs[s] = j.Verb
	}
	return verbs
}

func (e *executor) run(ctx context.Context, j *job) {
	pool := e.quick
	if j.Verb == plan.Stop || j.Verb == plan.Remove || j.Verb == plan.Restart || j.Verb == plan.Rename {
		pool = e.stops
	}
	select {
	case pool <- struct{}{}:
		j.since = time.Now()
		release := sync.OnceFunc(func() { <-pool })
		waiting := time.AfterFunc(patience, release)
		if j.note, j.err = e.perform(ctx, j.Action); j.note == "" {
			j.note = j.Note
		}
		waiting.Stop()
		release()
	case <-ctx.Done():
		j.err = ctx.Err()
	}
	e.ended(j)
	e.mu.Lock()
	delete(e.busy, j.Subject)
	if j.Old != "" {
		delete(e.busy, plan.ContainerNamed(j.Old))
	}
	e.mu.Unlock()
	close(j.ended)
	e.freed()
}

// perform maps an action to one call.
func (e *executor) perform(ctx context.Context, a plan.Action) (note string, err error) {
	switch c := e.containers; a.Verb {
	case plan.Create:
		return c.Create(ctx, a.Spec, a.From)
	case plan.Start:
		return "", c.Start(ctx, a.Name, status.StartOptions{Spec: a.Spec, From: a.From, ByPolicy: a.ByPolicy, ByAdmin: a.ByAdmin})
	case plan.Update:
		return "", c.Update(ctx, a.Spec, a.From)
	case plan.Restart:
		return "", c.Restart(ctx, a.Spec, a.From, a.ByAdmin)
	case plan.Rename:
		return "", c.Rename(ctx, a.Old, a.Spec, a.From)
	case plan.Adopt:
		return "", c.Adopt(ctx, a.Name, a.From)
	case plan.Stop:
		return "", c.Stop(ctx, a.Name, status.StopOptions{Spec: a.Spec, From: a.From, ByAdmin: a.ByAdmin})
	case plan.Remove:
		return "", c.Remove(ctx, a.Name)
	}
	return "", nil // Hold
}
