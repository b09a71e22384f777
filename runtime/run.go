package runtime

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"stead/runtime/fault"
	"stead/runtime/keeper"
	"stead/runtime/record"
	"stead/runtime/store"

	"golang.org/x/sys/unix"
)

// syncRun reads the record of a run from disk into memory. The success of a start comes
// back this way, and so does every end. It is safe to repeat, and reports whether the record could
// be read.
func (r *Runtime) syncRun(id string) (read bool) {
	rec, err := record.Read(r.RunDir, id)
	if err != nil {
		return false // removed meanwhile
	}
	name, _, _ := strings.Cut(id, ".")
	r.mu.Lock()
	c := r.byName[name]
	mine := c != nil && c.rec != nil && c.rec.ID() == id
	r.mu.Unlock()
	switch {
	case !mine:
	case rec.State != record.Exited:
		r.advance(c, rec)
	default:
		r.finishRun(c, rec)
	}
	return true
}

// isSettled reports whether the end of a run is recorded.
func (r *Runtime) isSettled(c *container, id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.finished == id
}

// finishRun records the end of a run: it counts OOM kills before it removes the cgroup, and
// removes what the run no longer needs.
func (r *Runtime) finishRun(c *container, rec *record.Record) {
	id := rec.ID()
	c.finishing.Lock()
	defer c.finishing.Unlock()
	r.mu.Lock()
	done := c.finished == id || c.rec.ID() != id // another goroutine did it while we waited; the next run may be under way
	r.mu.Unlock()
	if done {
		return
	}
	fault.Point("finish-begun")
	group := r.host.Group(id)
	if group.Exists() {
		if rec.Ending != nil && !rec.Ending.OOM && group.OOMKills() > 0 && !rec.Stopping && rec.Ending.Code != 0 {
			rec.Ending.OOM, rec.Ending.OOMLimit = true, group.MemoryLimit()
			if err := rec.Write(r.RunDir); err != nil {
				r.Log.Error("cannot record OOM kill", "container", c.name, "error", err)
			}
		}
	}
	if f, _ := r.snapshot(c); f.Manifest.Spec.Security.Pid == "host" {
		if err := group.KillAll(); err != nil { // there is no pid namespace that ends with its first process
			r.Log.Error("cannot kill remaining processes", "container", c.name, "error", err)
		}
	}
	if err := group.Remove(); err != nil {
		r.Log.Error("cannot remove cgroup", "container", c.name, "error", err)
	}
	fault.Point("finish-cgroup-removed")
	r.clearPipes(id)
	fault.Point("finish-pipes-removed")
	r.mu.Lock()
	over := c.rec.ID() != id // a failed start is reported twice, and its caller may have begun the next run
	r.mu.Unlock()
	if over {
		return
	}
	if f, _ := r.snapshot(c); f.LastRun != nil {
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
		c.finished = id
	}
	r.mu.Unlock()
	r.changed()
}

// refresh reads the records of all runs again after the keeper was replaced, and undoes
// starts that the old keeper did not finish.
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
		_, rec := r.snapshot(c)
		if now, err := record.Read(r.RunDir, rec.ID()); err == nil && now.State == record.Creating {
			if err := r.undoStart(r.ctx, c, now); err != nil {
				r.Log.Error("cannot undo a start that the keeper did not finish", "container", c.name, "error", err)
			}
			r.changed()
			continue
		}
		r.syncRun(rec.ID())
	}
}

// stamp identifies one version of a file. A record is replaced by rename, so every
// version has an inode or a time of its own.
type stamp struct {
	ino  uint64
	time unix.Timespec
}

func stampOf(file string) (stamp, error) {
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		return stamp{}, err
	}
	return stamp{st.Ino, st.Mtim}, nil
}

// resync derives the state of every run that is not over from the records on disk and
// from the kernel. It corrects what was not reported, or was reported in the wrong order.
func (r *Runtime) resync(ctx context.Context) {
	type run struct {
		c    *container
		rec  *record.Record
		read stamp
	}
	var open []run
	r.mu.Lock()
	for _, c := range r.ordered {
		if c.rec != nil && !c.starting && c.finished != c.rec.ID() {
			open = append(open, run{c, c.rec, c.readAt})
		}
	}
	r.mu.Unlock()
	for _, o := range open {
		now, err := stampOf(record.Path(r.RunDir, o.rec.ID())) // before the read: the next tick reads a later version
		if err != nil {
			continue // the inspection for drift restores the record
		}
		if o.rec.State == record.Creating {
			r.undoSilent(ctx, o.c, o.rec)
			continue
		}
		if now != o.read && r.syncRun(o.rec.ID()) {
			r.mu.Lock()
			o.c.readAt = now
			r.mu.Unlock()
		}
		if o.rec.State == record.Running && errors.Is(unix.Kill(o.rec.Pid, 0), unix.ESRCH) {
			r.processGone(ctx, o.c, o.rec.ID())
		}
	}
}

// undoSilent finishes or undoes a start for which the keeper gave no answer.
func (r *Runtime) undoSilent(ctx context.Context, c *container, rec *record.Record) {
	if r.keeper.Health.Silent() != nil {
		return
	}
	if err := r.undoStart(ctx, c, rec); err != nil && !errors.Is(err, keeper.ErrSilent) {
		r.Log.Error("cannot undo a start that the keeper did not answer", "container", c.name, "error", err)
	}
	r.changed()
}

// countOOMKills reads for each running container how many of its processes were killed for
// lack of memory.
func (r *Runtime) countOOMKills() {
	for _, c := range r.running() {
		_, rec := r.snapshot(c)
		kills := r.host.Group(rec.ID()).OOMKills()
		r.mu.Lock()
		news := c.rec == rec && kills != c.oomKills
		if news {
			c.oomKills = kills
		}
		r.mu.Unlock()
		if news && !r.ReadOnly {
			r.changed()
		}
	}
}

// processGone records the end of a run that nobody else records: the process is gone, its
// record says that it runs, and the keeper does not hold it.
func (r *Runtime) processGone(ctx context.Context, c *container, id string) {
	err := r.keeper.Signal(ctx, id, 0, false) // a keeper that holds the process is about to record the end
	if !errors.Is(err, keeper.ErrMissing) {
		return
	}
	rec, err := record.Read(r.RunDir, id) // again: the keeper writes the record before it drops the process
	if err != nil {
		return
	}
	if rec.State != record.Exited {
		r.Log.Warn("process is gone and no keeper saw it end; exit code unknown", "container", c.name, "pid", rec.Pid)
		rec.State, rec.FinishedAt, rec.Ending = record.Exited, time.Now(), &record.Ending{Code: -1, Unknown: true}
		if err := rec.Write(r.RunDir); err != nil && !errors.Is(err, os.ErrNotExist) {
			r.Log.Error("cannot record the end", "container", c.name, "error", err)
			return
		}
	}
	r.syncRun(id)
}
