package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"stead/reconcile/plan"
	"stead/reconcile/view"

	"github.com/hashicorp/go-multierror"
)

// ApplyOptions are the options of an apply.
type ApplyOptions struct {
	// Confirm names containers whose removal is confirmed; "all" confirms the removal of
	// every container that no manifest declares at that moment.
	Confirm []string `json:"confirm,omitempty"`
	// Progress is called when an action begins and when it has ended, by one goroutine; may
	// be nil.
	Progress func(Progress) `json:"-"`
}

// Progress is an action of an apply that began or ended.
type Progress struct {
	Name  string `json:"name"`
	Line  string `json:"line"` // the action and its cause
	Ended bool   `json:"ended,omitempty"`
}

// Result is the outcome of an apply, or of a verb for named containers.
type Result struct {
	// Containers are those that were acted on and those that are not as declared, by name.
	Containers []ContainerResult `json:"containers"`
	// Errors are the errors of the manifests and their directories, a line each.
	Errors []string `json:"errors,omitempty"`
	// Unneeded are confirmed names for which there is no removal.
	Unneeded []string `json:"unneeded,omitempty"`
}

// ContainerResult is what was done to one container, and its state now.
type ContainerResult struct {
	Name    string        `json:"name"`    // "image NAME" if it is an image
	Actions []plan.Verb   `json:"actions"` // done, in order
	Changes []plan.Change `json:"changes,omitempty"`
	State   view.State    `json:"state,omitempty"` // "" once it is removed
	Sync    view.Sync     `json:"sync,omitempty"`
	Reason  string        `json:"reason,omitempty"`
	Note    string        `json:"note,omitempty"` // of a root that was brought back, say; of a held action, its cause
	Error   string        `json:"error,omitempty"`
}

// Changed reports whether anything was done.
func (r Result) Changed() bool {
	return slices.ContainsFunc(r.Containers, func(c ContainerResult) bool { return len(c.Actions) > 0 })
}

// Held reports whether an action is held.
func (r Result) Held() bool {
	return slices.ContainsFunc(r.Containers, func(c ContainerResult) bool { return c.Sync == view.Held })
}

// Invalid reports whether a manifest has errors, or its directory can't be read.
func (r Result) Invalid() bool {
	return len(r.Errors) > 0 || slices.ContainsFunc(r.Containers, func(c ContainerResult) bool { return c.Reason == view.ReasonInvalidManifest })
}

// Err returns everything that failed; nil if nothing did. A held removal is no failure.
func (r Result) Err() error {
	var all *multierror.Error
	for _, c := range r.Containers {
		if c.Error != "" {
			all = multierror.Append(all, fmt.Errorf("%s: %s", c.Name, c.Error))
		}
	}
	return all.ErrorOrNil()
}

// maxRounds is more passes than any apply needs.
const maxRounds = 32

// Apply reads the manifests and returns when every container is as declared, failed, or held.
// Actions that failed before are retried at once. The error is about the request itself (ctx
// ended); what failed for containers is in the result.
func (e *Engine) Apply(ctx context.Context, o ApplyOptions) (Result, error) {
	e.init()
	if err := e.checkAlone(ctx, true); err != nil {
		return Result{}, err
	}
	done := &doneActions{by: map[string]*ContainerResult{}, progress: o.Progress}
	options := passOptions{prompt: true, retry: true, confirm: o.Confirm}
	for rounds := 0; rounds < maxRounds; {
		out := e.runPass(ctx, options)
		options = passOptions{prompt: true}
		done.unneeded = append(done.unneeded, out.plan.Found.Unneeded...) // of the first pass, which confirms
		waited, err := e.await(ctx, out.started, done)
		if err != nil {
			return e.result(done), err
		}
		if waited {
			rounds++
			continue
		}
		retry, writing := out.writers()
		if !writing {
			err := e.finish(ctx)
			return e.result(done), err
		}
		if err := pause(ctx, retry); err != nil {
			return e.result(done), err
		}
	}
	return e.result(done), errors.New("apply: each of 32 passes found something to do; see stead status")
}

// finish waits, without a daemon, for starts by the restart policy that have begun: this process
// ends, and would interrupt them.
func (e *Engine) finish(ctx context.Context) error {
	if _, daemon := e.runs(); daemon {
		return nil
	}
	for _, j := range e.exec.jobs() {
		select {
		case <-j.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// writers reports whether a file's writer is worth waiting for, and for how long.
func (o *outcome) writers() (time.Duration, bool) {
	worth := slices.ContainsFunc(o.desired.Writing, func(f plan.WritingFile) bool {
		concerns := !f.DropIn || f.Of == "" || o.desired.Lookup(f.Of) != nil
		return concerns && o.at.Sub(f.Since) < view.WriterNoted
	})
	return o.reading.Retry, worth
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// await waits for the actions that a pass started and for those that were under way, and
// reports whether there were any. It does not wait for starts by the restart policy, which go
// on for ever.
func (e *Engine) await(ctx context.Context, started []*job, done *doneActions) (bool, error) {
	jobs := e.exec.jobs()
	for _, j := range started {
		jobs[j.Subject] = j
	}
	ended := make(chan *job, len(jobs))
	gone, leave := context.WithCancel(ctx)
	defer leave()
	waiting := 0
	byName := func(a, b *job) int { return cmp.Compare(a.Subject.String(), b.Subject.String()) }
	maps.DeleteFunc(jobs, func(s plan.Subject, j *job) bool { return s != j.Subject }) // a rename has two
	for _, j := range slices.SortedFunc(maps.Values(jobs), byName) {
		if j.ByPolicy {
			continue
		}
		waiting++
		if j.Verb != plan.Adopt {
			done.tell(Progress{Name: j.Subject.String(), Line: j.Action.String()})
		}
		go func() {
			select {
			case <-j.ended:
				ended <- j
			case <-gone.Done():
			}
		}()
	}
	for range waiting {
		select {
		case j := <-ended:
			done.add(j)
		case <-ctx.Done():
			return true, ctx.Err()
		}
	}
	return waiting > 0, nil
}

// doneActions collects the actions of an apply or a verb.
type doneActions struct {
	by       map[string]*ContainerResult
	progress func(Progress)
	unneeded []string
}

func (d *doneActions) tell(p Progress) {
	if d.progress != nil {
		d.progress(p)
	}
}

func (d *doneActions) add(j *job) {
	if j.Verb == plan.Adopt && j.err == nil {
		return // no change
	}
	name := j.Subject.String()
	c := d.by[name]
	if c == nil {
		c = &ContainerResult{Name: name}
		d.by[name] = c
	}
	line := j.Action.String()
	if j.err != nil {
		c.Error = fmt.Sprintf("%s failed: %v", j.Verb, j.err)
		line += ": failed: " + j.err.Error()
	} else {
		c.Actions, c.Changes, c.Error = append(c.Actions, j.Verb), append(c.Changes, j.Changes...), ""
		if j.note != "" {
			c.Note = j.note
			line += "  (" + j.note + ")"
		}
	}
	d.tell(Progress{Name: j.Subject.String(), Line: line, Ended: true})
}

// result combines what was done with the state of every container now.
func (e *Engine) result(done *doneActions) Result {
	s := e.current()
	r := Result{Unneeded: done.unneeded, Errors: s.desired.ErrorLines()}
	seen := map[string]bool{}
	for _, v := range view.Containers(s.desired, s.observed, s.memory, s.now) {
		c, acted := done.by[v.Name]
		bad := v.NeedsAttention() || acted && v.State == view.Failed
		if !acted && !bad {
			continue
		}
		if c == nil {
			c = &ContainerResult{Name: v.Name}
		}
		c.State, c.Sync, c.Reason = v.State, v.Sync, v.Reason
		if v.Sync == view.Held {
			c.Note = v.Why
		}
		if c.Error == "" && bad && v.Sync != view.Held {
			c.Error = cmp.Or(v.Why, v.Message, string(v.State))
		}
		seen[v.Name] = true
		r.Containers = append(r.Containers, *c)
	}
	for _, name := range slices.Sorted(maps.Keys(done.by)) {
		if !seen[name] {
			r.Containers = append(r.Containers, *done.by[name])
		}
	}
	slices.SortStableFunc(r.Containers, func(a, b ContainerResult) int { return cmp.Compare(a.Name, b.Name) })
	return r
}

// Plan returns what an apply would do now, with the actions that are under way, and does
// nothing.
func (e *Engine) Plan(context.Context) (plan.Plan, error) {
	e.init()
	jobs := e.exec.jobs()
	s := e.look()
	s.memory.Prompt, s.memory.Retry = true, true
	p := plan.Diff(s.desired, s.observed, s.memory, s.now)
	for subject, j := range jobs {
		if _, busy := s.memory.Busy[subject]; busy && subject == j.Subject { // it was not planned
			p.AddUnderWay(j.Action)
		}
	}
	p.Errors = s.desired.ErrorLines()
	for _, f := range s.desired.Writing {
		if !f.DropIn {
			p.Writing = append(p.Writing, f.Path)
		}
	}
	return p, nil
}
