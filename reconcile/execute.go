package reconcile

import (
	"context"
	"maps"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"time"

	"stead/reconcile/plan"
	"stead/runtime/status"
)

const (
	// patience is how long an action occupies a slot of the short ones. An action that takes
	// longer waits for something (a slow disk, say) and must not delay others: it gives the
	// slot back and takes one of maxSlow.
	patience = 250 * time.Millisecond
	maxSlow  = 64
	// maxStops limits the stops under way at once. Most of their time is waiting.
	maxStops = 512
	// maxPulls limits the pulls and imports under way at once. Each of them keeps the network, the
	// disk and a CPU busy.
	maxPulls = 3
)

// executor carries out the actions of plans, one per subject at a time. It decides nothing.
type executor struct {
	containers Containers
	reloader   Reloader
	restorer   Restorer
	images     Images
	quick      chan struct{} // slots of short actions
	slow       chan struct{} // slots of actions that turned out to take longer
	stops      chan struct{} // slots of actions that begin with a stop
	pulls      chan struct{} // slots of pulls and imports
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

	percent atomic.Int32 // how far it has come, plus one; 0 if unknown
}

// progress notes how far a pull or an import has come.
func (j *job) progress(done, total int64) {
	if total > 0 {
		j.percent.Store(1 + int32(min(done, total)*100/total))
	}
}

func newExecutor(c Containers, images Images, workers int, ended func(*job), freed func()) *executor {
	if workers <= 0 {
		workers = max(4, 2*goruntime.GOMAXPROCS(0))
	}
	return &executor{
		containers: c, images: images, ended: ended, freed: freed, busy: map[plan.Subject]*job{},
		quick: make(chan struct{}, workers), slow: make(chan struct{}, maxSlow), stops: make(chan struct{}, maxStops), pulls: make(chan struct{}, maxPulls),
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

// verbsOf returns the verbs of actions under way.
func verbsOf(jobs map[plan.Subject]*job) map[plan.Subject]plan.Verb {
	verbs := map[plan.Subject]plan.Verb{}
	for s, j := range jobs {
		verbs[s] = j.Verb
	}
	return verbs
}

// progressOf returns how far those of the actions have come of which that is known, in percent.
func progressOf(jobs map[plan.Subject]*job) (progress map[plan.Subject]int) {
	for s, j := range jobs {
		if percent := j.percent.Load(); percent > 0 {
			if progress == nil {
				progress = map[plan.Subject]int{}
			}
			progress[s] = int(percent) - 1
		}
	}
	return progress
}

func (e *executor) run(ctx context.Context, j *job) {
	if release, err := e.slot(ctx, j.Verb); err != nil {
		j.err = err
	} else {
		j.since = time.Now()
		if j.note, j.err = e.perform(ctx, j); j.note == "" {
			j.note = j.Note
		}
		release()
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

// slot waits for a slot for an action. Until the action calls release it has exactly one: at
// most workers+maxSlow+maxStops+maxPulls actions are under way.
func (e *executor) slot(ctx context.Context, v plan.Verb) (release func(), err error) {
	pool := e.quick
	switch v {
	case plan.Stop, plan.Remove, plan.Restart, plan.Rename:
		pool = e.stops
	case plan.Pull, plan.Import:
		pool = e.pulls
	}
	select {
	case pool <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if pool != e.quick {
		return func() { <-pool }, nil
	}
	ended, freed := make(chan struct{}), make(chan struct{})
	move := time.AfterFunc(patience, func() {
		defer close(freed)
		select {
		case e.slow <- struct{}{}:
			<-pool
			<-ended
			<-e.slow
		case <-ended:
			<-pool
		}
	})
	return func() {
		close(ended)
		if move.Stop() {
			<-pool
		} else {
			<-freed
		}
	}, nil
}

// perform maps an action to one call.
func (e *executor) perform(ctx context.Context, j *job) (note string, err error) {
	a := j.Action
	switch c := e.containers; a.Verb {
	case plan.Pull, plan.Import:
		if a.Image != nil {
			return "", e.images.Import(ctx, a.Image, j.progress)
		}
		return "", e.images.Pull(ctx, a.Name, j.progress)
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
	case plan.Reload:
		return "", e.reloader.Reload(ctx, a.Name)
	case plan.Restore:
		return e.restorer.Restore(ctx, a.Name, a.Data)
	case plan.Adopt:
		return "", c.Adopt(ctx, a.Name, a.From)
	case plan.Stop:
		return "", c.Stop(ctx, a.Name, status.StopOptions{Spec: a.Spec, From: a.From, ByAdmin: a.ByAdmin})
	case plan.Remove:
		return "", c.Remove(ctx, a.Name)
	}
	return "", nil // Hold
}
