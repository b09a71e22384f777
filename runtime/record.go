package runtime

import (
	"context"
	"errors"
	"os"
	"time"

	"stead/runtime/keeper"
	"stead/runtime/record"

	"golang.org/x/sys/unix"
)

// The boot record on disk is the truth about a run, and several goroutines read it:
// the one that asked for a start or a stop, the watch on the keeper, the resync. They
// finish in any order, so advance is the only way into memory.

// advance makes rec what memory says of the current run of c, unless memory knows
// better: a run goes from creating to running to exited and never back, and a record of
// another run says nothing about this one. The caller holds Runtime.mu.
func (c *container) advance(rec *record.Record) {
	if c.rec == nil || c.rec.ID() != rec.ID() || phase(rec.State) < phase(c.rec.State) {
		return
	}
	c.rec = rec
}

// beginRun makes rec, of a start that is about to happen, the current run of c. The
// caller holds Runtime.mu.
func (c *container) beginRun(rec *record.Record) { c.rec, c.readAt = rec, stamp{} }

func phase(s record.State) int {
	switch s {
	case record.Running:
		return 1
	case record.Exited:
		return 2
	}
	return 0
}

// advance is container.advance for who does not hold the lock.
func (r *Runtime) advance(c *container, rec *record.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.advance(rec)
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

// resync derives again, from the records on disk and from the kernel, what memory says
// of every run that is not over. What was not reported, or was reported in the wrong
// order, is put right here.
func (r *Runtime) resync(ctx context.Context) {
	type run struct {
		c    *container
		rec  *record.Record
		read stamp
	}
	var open []run
	r.mu.Lock()
	for _, c := range r.ordered {
		if c.rec != nil && !c.starting && c.settled != c.rec.ID() {
			open = append(open, run{c, c.rec, c.readAt})
		}
	}
	r.mu.Unlock()
	for _, o := range open {
		now, err := stampOf(record.Path(r.RunDir, o.rec.ID())) // before it is read: a later version is read on the next tick
		if err != nil {
			continue // the look for drift restores it
		}
		if now != o.read {
			r.settle(o.rec.ID())
			r.mu.Lock()
			o.c.readAt = now
			r.mu.Unlock()
		}
		if o.rec.State == record.Running && errors.Is(unix.Kill(o.rec.Pid, 0), unix.ESRCH) {
			r.processGone(ctx, o.c, o.rec.ID())
		}
	}
}

// processGone puts an end on record that nobody else will: the process is gone, its
// record says that it runs, and the keeper does not hold it.
func (r *Runtime) processGone(ctx context.Context, c *container, id string) {
	err := r.keeper.Signal(ctx, id, 0, false) // a keeper that holds it is about to record the end
	if !errors.Is(err, keeper.ErrMissing) {
		return
	}
	rec, err := record.Read(r.RunDir, id) // again: the keeper writes it before it lets go
	if err != nil {
		return
	}
	if rec.State != record.Exited {
		r.Log.Warn("the process is gone and no keeper saw it end", "container", c.name, "pid", rec.Pid)
		rec.State, rec.FinishedAt, rec.Ending = record.Exited, time.Now(), &record.Ending{Code: -1, Unknown: true}
		if err := rec.Write(r.RunDir); err != nil && !errors.Is(err, os.ErrNotExist) {
			r.Log.Error("cannot record the end", "container", c.name, "error", err)
			return
		}
	}
	r.settle(id)
}
