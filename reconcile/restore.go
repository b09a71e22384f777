package reconcile

import (
	"context"

	"stead/reconcile/plan"
)

// RestoreOptions are the options of a restore.
type RestoreOptions struct {
	Name string `json:"name"`
	Data string `json:"data"` // the staging directory of the data
}

// Restore puts the data of a backup in the place of that of a container, which must not run, or
// keeps it for a container that is declared later. It waits until nothing else is done to the
// container. The note says where the data from before is.
func (e *Engine) Restore(ctx context.Context, o RestoreOptions) (note string, err error) {
	e.init()
	base, daemon := e.runs()
	if !daemon {
		if err := e.checkAlone(ctx, false); err != nil {
			return "", err
		}
		base = ctx
	}
	a := plan.Action{Verb: plan.Restore, Subject: plan.ContainerNamed(o.Name), Cause: "by admin", ByAdmin: true, Data: o.Data}
	for {
		e.pass.Lock() // no pass acts on an observation from before
		j, started := e.exec.start(base, a)
		e.pass.Unlock()
		select {
		case <-j.ended:
		case <-ctx.Done():
			return "", ctx.Err()
		}
		if started {
			signal(e.poke)
			return j.note, j.err
		}
	}
}
