package runtime

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"strings"
	"time"

	"stead/runtime/cgroup"
	"stead/runtime/fault"
	"stead/runtime/keeper"
	"stead/runtime/record"
	"stead/runtime/store"
)

// keeperGroup is the keeper's own cgroup leaf: no container's name has a '_', and
// another instance below the same parent has another one.
func (r *Runtime) keeperGroup() *cgroup.Group {
	h := fnv.New32a()
	h.Write([]byte(r.host.Owner))
	return r.host.Group(fmt.Sprintf("_keeper-%08x", h.Sum32()))
}

// ensureKeeper makes sure that a keeper runs and is watched.
func (r *Runtime) ensureKeeper(ctx context.Context) error {
	if err := r.thawAll(); err != nil {
		return err
	}
	if r.watching.Load() { // it would have been told that the keeper is gone
		return nil
	}
	return r.newKeeper(ctx)
}

// newKeeper is ensureKeeper for who has just seen that none answers.
func (r *Runtime) newKeeper(ctx context.Context) error {
	r.ensure.Lock()
	defer r.ensure.Unlock()
	pid, started, err := r.keeper.Ensure(ctx)
	if err != nil {
		return err
	}
	if started {
		r.Log.Info("keeper started", "pid", pid)
		r.placeKeeper(pid)
	} else if r.Upgrade {
		if err := keeper.RaiseLimit(pid); err != nil { // before it becomes another, which may need more
			r.Log.Warn("the keeper's limit of open files stays as it is", "error", err)
		}
		r.upgradeKeeper(ctx)
	}
	if r.ReadOnly { // who decides takes note of ends: our facts may be out of date by then
		return nil
	}
	return r.watchKeeper()
}

// upgradeKeeper has a keeper of another binary become one of ours. If it can't
// now it is asked again when it is next looked for.
func (r *Runtime) upgradeKeeper(ctx context.Context) {
	current, err := r.keeper.Current(ctx)
	if err == nil && !current {
		if err = r.keeper.Upgrade(ctx); err == nil {
			r.Log.Info("keeper upgraded")
		}
	}
	if err != nil {
		r.Log.Warn("keeper stays as it is", "error", err)
	}
}

// placeKeeper puts it into a leaf group of its own: what it uses is not charged
// to whoever happened to start it.
func (r *Runtime) placeKeeper(pid int) {
	g := r.keeperGroup()
	_, err := g.Create(cgroup.NoLimits())
	if err == nil {
		err = g.Add([]int{pid})
	}
	if err != nil {
		r.Log.Warn("keeper stays in its starter's cgroup", "error", err)
	}
}

// watchKeeper has ends told, unless they are already. The caller holds ensure.
func (r *Runtime) watchKeeper() error {
	if r.watching.Load() {
		return nil
	}
	up := make(chan struct{})
	failed := make(chan error, 1)
	r.watcher.Add(1)
	go func() {
		defer r.watcher.Done()
		wasUp := false
		err := r.keeper.Watch(r.ctx, func(int) { wasUp = true; r.watching.Store(true); close(up) }, func(id string) {
			r.watcher.Go(func() { r.settle(id) }) // a slow clean-up holds nobody up
		})
		r.watching.Store(false)
		failed <- err
		if wasUp && r.ctx.Err() == nil { // else whoever asked tries again
			r.Log.Warn("keeper is gone", "error", err)
			r.revive()
		}
	}()
	select {
	case <-up:
		return nil
	case err := <-failed:
		return err
	}
}

// revive starts another keeper, which adopts what runs, and takes note of what
// ended meanwhile.
func (r *Runtime) revive() {
	for wait := 100 * time.Millisecond; r.ctx.Err() == nil; wait = min(2*wait, time.Minute) {
		err := r.ensureKeeper(r.ctx)
		if err == nil {
			r.refresh()
			return
		}
		r.Log.Error("start another keeper", "error", err)
		select {
		case <-time.After(wait):
		case <-r.ctx.Done():
		}
	}
}

// refresh reads again the records of all that ran, and gives up starts that
// nobody is about any more.
func (r *Runtime) refresh() {
	r.mu.Lock()
	var all []*container
	for _, c := range r.byName {
		if c.rec != nil && c.rec.State != record.Exited && !c.starting {
			all = append(all, c)
		}
	}
	r.mu.Unlock()
	for _, c := range all {
		_, rec := r.known(c)
		if now, err := record.Read(r.RunDir, rec.ID()); err == nil && now.State == record.Creating {
			if err := r.undoStart(r.ctx, c, now); err != nil {
				r.Log.Error("give up a start", "container", c.name, "error", err)
			}
			r.changed()
			continue
		}
		r.settle(rec.ID())
	}
}

// settle takes note of a container's end: its record becomes what memory says,
// OOM kills are counted before the cgroup goes, and what it no longer needs is
// removed. It is safe to repeat.
func (r *Runtime) settle(id string) {
	rec, err := record.Read(r.RunDir, id)
	if err != nil {
		return // removed meanwhile
	}
	name, _, _ := strings.Cut(id, ".")
	r.mu.Lock()
	c := r.byName[name]
	mine := c != nil && c.rec != nil && c.rec.ID() == id
	r.mu.Unlock()
	if !mine {
		return
	}
	if rec.State != record.Exited {
		r.advance(c, rec)
		return
	}
	c.settling.Lock()
	defer c.settling.Unlock()
	r.mu.Lock()
	done := c.settled == id || c.rec.ID() != id // by another while we waited: the next run may be under way
	r.mu.Unlock()
	if done {
		return
	}
	fault.Point("settle-begun")
	group := r.host.Group(id)
	if group.Exists() {
		if rec.Ending != nil && !rec.Ending.OOM && group.OOMKills() > 0 && !rec.Stopping && rec.Ending.Code != 0 {
			rec.Ending.OOM, rec.Ending.OOMLimit = true, group.MemoryLimit()
			if err := rec.Write(r.RunDir); err != nil {
				r.Log.Error("record OOM kill", "container", name, "error", err)
			}
		}
	}
	if err := group.Remove(); err != nil {
		r.Log.Error("remove cgroup", "container", name, "error", err)
	}
	fault.Point("settle-cgroup-removed")
	r.clearPipes(id)
	fault.Point("settle-pipes-removed")
	r.mu.Lock()
	over := c.rec.ID() != id // a start that failed is told twice: whoever asked may have begun the next one
	r.mu.Unlock()
	if over {
		return
	}
	if f, _ := r.known(c); f.LastRun != nil {
		next := *f
		next.LastRun = &store.LastRun{BootID: rec.BootID, StartedAt: rec.StartedAt.UTC(), FinishedAt: rec.FinishedAt.UTC(), Exit: exitOf(rec.Ending, rec.Stopping)}
		r.mu.Lock()
		c.facts = &next
		r.mu.Unlock()
		r.writeLater(c)
	}
	r.mu.Lock()
	if c.rec.ID() == id {
		c.advance(rec)
		c.settled = id
	}
	r.mu.Unlock()
	r.changed()
}

// Check makes sure that a keeper holds what runs, derives again what memory says of
// each run, and looks for what was changed by hand: at all containers closely, or at
// some of them in their turn and at the others for what costs little.
func (r *Runtime) Check(ctx context.Context, all bool) error {
	if !r.anyRuns() {
		r.resync(ctx) // there may be starts that failed
		return nil
	}
	ensure := r.ensureKeeper
	if _, err := os.Lstat(keeper.Socket(r.RunDir)); errors.Is(err, os.ErrNotExist) && r.watching.Load() {
		r.Log.Warn("the keeper's socket was deleted by hand: it is made again")
		ensure = r.newKeeper
	}
	if err := ensure(ctx); err != nil {
		return fmt.Errorf("check keeper: %w", err)
	}
	r.resync(ctx)
	r.lookForDrift(all)
	return nil
}

func (r *Runtime) anyRuns() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.byName {
		if c.rec != nil && c.rec.State == record.Running {
			return true
		}
	}
	return false
}

// QuitKeeper ends the keeper if it holds no container; what it leaves behind is
// removed. Otherwise it stays, and that is no error.
func (r *Runtime) QuitKeeper(ctx context.Context) error {
	if r.anyRuns() {
		return nil
	}
	pid, _, err := r.keeper.Ping(ctx)
	if errors.Is(err, keeper.ErrNoKeeper) {
		return nil
	}
	r.cancel()
	r.watcher.Wait()
	if err := r.keeper.Quit(ctx); err != nil {
		return fmt.Errorf("end keeper: %w", err)
	}
	return errors.Join(waitGone(ctx, pid), r.keeperGroup().Remove(), r.host.RemoveParent())
}
