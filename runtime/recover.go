package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"stead/runtime/image"
	"stead/runtime/job"
	"stead/runtime/keeper"
	"stead/runtime/record"

	"golang.org/x/sys/unix"
)

// recover finishes or undoes what an earlier process left half-done: starts without a
// process, ends that nobody recorded, and records, cgroups and pipes of no container. It
// runs under the state directory's lock, before anything else.
func (r *Runtime) recover(ctx context.Context) error {
	records, err := record.ReadAll(r.RunDir)
	if err != nil {
		r.Log.Error("cannot read boot records", "error", err)
	}
	if slices.ContainsFunc(records, func(rec *record.Record) bool { return rec.State == record.Running && rec.BootID == record.BootID() }) {
		// A keeper that died is replaced: the new one records which processes ended.
		if err := r.keeper.ensure(ctx); err != nil && !errors.Is(err, keeper.ErrSilent) {
			return err
		}
	}
	known := map[string]bool{}
	for _, rec := range records {
		keep, err := r.recoverOne(ctx, rec)
		if err != nil {
			r.Log.Error("cannot recover container", "container", rec.Name, "error", err) // the others must start all the same
		}
		if keep || err != nil {
			known[rec.ID()] = true
		}
	}
	job.Sweep(r.host)
	if err := errors.Join(r.sweepGroups(known), r.sweepFiles(known), r.sweepRoots(ctx), r.sweepRestores(ctx), image.Open(filepath.Join(r.StateDir, "images")).Recover(ctx)); err != nil {
		r.Log.Error("cannot clean up what belongs to no container", "error", err)
	}
	r.sweepFileContent(known)
	if err := Volumes(r.StateDir).Recover(ctx); err != nil {
		r.Log.Error("cannot delete what is left of volumes", "error", err)
	}
	return nil
}

// recoverOne finishes or undoes one start, and reports whether its record is still needed.
func (r *Runtime) recoverOne(ctx context.Context, rec *record.Record) (keep bool, err error) {
	r.mu.Lock()
	c := r.byName[rec.Name]
	mine := c != nil && c.rec != nil && c.rec.ID() == rec.ID()
	r.mu.Unlock()
	now, err := record.Read(r.RunDir, rec.ID()) // the keeper may have changed it
	if err != nil {
		return false, err
	}
	switch {
	case now.BootID != record.BootID():
		return false, nil
	case r.isUnread(rec.Name):
		return true, nil
	case !mine && now.State == record.Running && now.Alive():
		// A later start superseded it, or its container is gone: it must not run.
		return false, r.endStray(ctx, now)
	case !mine:
		return false, nil
	case now.State == record.Creating:
		return true, r.undoStart(ctx, c, now)
	}
	r.syncRun(now.ID())
	return true, errors.Join(r.thawInterrupted(now), now.Point(r.RunDir)) // an older version of stead, which made no link, may have started it
}

// undoStart undoes a start that was interrupted. The keeper answers once no start is under
// way: then the record has a process, or there never will be one.
func (r *Runtime) undoStart(ctx context.Context, c *container, rec *record.Record) error {
	err := r.keeper.Signal(ctx, rec.ID(), 0, false) // returns when a start that is under way is over
	if now, e := record.Read(r.RunDir, rec.ID()); e == nil && now.State != record.Creating {
		r.syncRun(now.ID())
		return nil
	}
	if err != nil && !errors.Is(err, keeper.ErrNoKeeper) && !errors.Is(err, keeper.ErrMissing) {
		return err
	}
	own := *rec // readers may have this one
	rec = &own
	rec.State, rec.Ending = record.Exited, &record.Ending{Code: 125, Failed: "the start was interrupted before the command ran", Where: "step"}
	rec.FinishedAt = rec.CreatedAt
	if err := rec.Write(r.RunDir); err != nil { // first: a keeper that reads the record from now on finds the run over
		return err
	}
	if err == nil || errors.Is(err, keeper.ErrMissing) { // it took a request that it had not read a moment ago
		if r.keeper.Signal(ctx, rec.ID(), unix.SIGKILL, true) == nil {
			_, _ = r.keeper.Wait(ctx, rec.ID())
		}
	}
	r.advance(c, rec)
	r.clearPipes(rec.ID())
	return r.endGroup(rec.ID())
}

// thawInterrupted thaws a container that a change of its limits froze, and lets it have its memory
// again, if the process that changed them died. A container that was frozen by hand is drift.
func (r *Runtime) thawInterrupted(rec *record.Record) error {
	g := r.host.Group(rec.ID())
	if err := g.RestoreHigh(); err != nil {
		return err
	}
	if !g.FrozenByUs() {
		return nil
	}
	r.Log.Warn("a change of limits was interrupted; container thawed", "container", rec.Name)
	return g.Thaw()
}

// endStray kills a process that belongs to no container.
func (r *Runtime) endStray(ctx context.Context, rec *record.Record) error {
	r.Log.Warn("killing a process that belongs to no container", "container", rec.Name, "pid", rec.Pid)
	if err := r.kill(ctx, rec); err != nil {
		return err
	}
	return r.host.Group(rec.ID()).Remove()
}

// endGroup kills the processes in a cgroup and removes it.
func (r *Runtime) endGroup(id string) error {
	g := r.host.Group(id)
	if err := g.KillAll(); err != nil {
		return err
	}
	return g.Remove()
}

// sweepGroups removes cgroups of starts without a record.
func (r *Runtime) sweepGroups(known map[string]bool) error {
	names, err := r.host.Children()
	if err != nil {
		return err
	}
	var failed error
	for _, id := range names {
		if !known[id] && strings.Contains(id, ".") && !r.host.Group(id).Foreign() { // ours are NAME.NONCE
			r.Log.Warn("removing a cgroup that belongs to no container", "cgroup", id)
			failed = errors.Join(failed, r.endGroup(id))
		}
	}
	return failed
}

// sweepFiles removes the files of starts that are over.
func (r *Runtime) sweepFiles(known map[string]bool) error {
	entries, err := os.ReadDir(r.RunDir + "/containers")
	if err != nil {
		return err
	}
	var failed error
	for _, e := range entries {
		parts := strings.SplitN(e.Name(), ".", 3)
		if len(parts) < 3 || known[parts[0]+"."+parts[1]] {
			continue
		}
		failed = errors.Join(failed, record.Forget(r.RunDir, parts[0]+"."+parts[1]))
	}
	return failed
}

// waitGone waits for a process that is not our child.
func waitGone(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		if n > 0 || ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
	}
}
