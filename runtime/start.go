package runtime

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"stead/runtime/cgroup"
	"stead/runtime/fault"
	"stead/runtime/keeper"
	"stead/runtime/launch"
	"stead/runtime/record"
	"stead/runtime/specconv"
	"stead/runtime/status"
	"stead/runtime/store"
	"stead/spec"
)

// start starts a container. The order makes a crash harmless: first the record, then
// kernel objects, then the process. A start that fails is recorded as the end of the run.
func (r *Runtime) start(ctx context.Context, c *container, restarts, failures int) error {
	defer r.mark(&c.starting)()
	if err := r.keeper.ensure(ctx); err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	if err := r.keeper.mayStart(); err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	before, old := r.snapshot(c)
	if old != nil && old.State == record.Creating { // the keeper did not answer; it must not start both
		if err := r.undoStart(ctx, c, old); err != nil {
			return fmt.Errorf("start %s: %w", c.name, err)
		}
		if before, old = r.snapshot(c); old.State == record.Running {
			return nil
		}
	}
	if old != nil && !r.isSettled(c, old.ID()) { // or its late end would be taken for that of this run
		r.syncRun(old.ID())
		before, old = r.snapshot(c)
	}
	if err := r.beforeRun(ctx, c); err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	f, _ := r.snapshot(c)
	m := f.Manifest
	rec := &record.Record{
		Name: c.name, Nonce: nonce(), BootID: record.BootID(), State: record.Creating, CreatedAt: time.Now(),
		IDBase: f.IDBase, Restarts: restarts, Failures: failures, Previous: previousRun(before, old),
		LogDir: r.LogDir(c.name), LogSize: int64(m.Spec.Logs.MaxSize), LogKeep: specconv.LogKeep(m),
	}
	if m.Spec.Security.Userns == "host" {
		rec.IDBase = 0
	}
	if err := errors.Join(rec.Write(r.RunDir), rec.Point(r.RunDir)); err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	r.mu.Lock()
	c.beginRun(rec)                                               // from here on the end of this run is recorded, however soon it comes
	c.drift, c.lost, c.missingFiles, c.stale = nil, nil, nil, nil // of the last run
	r.mu.Unlock()
	fault.Point("start-recorded")
	if old != nil {
		if err := errors.Join(r.host.Group(old.ID()).Remove(), record.Forget(r.RunDir, old.ID())); err != nil {
			r.Log.Error("cannot clean up after the last run", "container", c.name, "error", err)
		}
	}
	fault.Point("start-old-forgotten")
	err := r.launch(ctx, c, rec, f)
	if errors.Is(err, keeper.ErrNoKeeper) {
		err = r.afterKeeper(ctx, c, rec)
	} else if errors.Is(err, keeper.ErrSilent) {
		// The keeper may start it later: resync sees what came of it when the keeper answers again.
	} else if err != nil {
		r.recordFailure(c, rec, err)
	} else {
		r.syncRun(rec.ID()) // reads the keeper's record, in which it runs, or has ended already
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	return nil
}

// beforeRun saves what a run needs, unless it is saved already.
func (r *Runtime) beforeRun(ctx context.Context, c *container) error {
	f, _ := r.snapshot(c)
	next := *f
	release, err := r.lease(ctx, f)
	if err != nil {
		return err
	}
	defer release()
	if err := r.prepareRun(ctx, &next); err != nil {
		return err
	}
	if next.IDBase == f.IDBase && next.LastRun == f.LastRun && next.Image == f.Image {
		return nil
	}
	return r.save(c, func(f *store.Facts) { f.IDBase, f.LastRun, f.Image = next.IDBase, next.LastRun, next.Image })
}

// prepareRun assigns host ids to a container, makes its private files fit its image, and notes the
// beginning of a run where there must not be a second one.
func (r *Runtime) prepareRun(ctx context.Context, f *store.Facts) (err error) {
	if f.Image, err = r.fitPrivate(ctx, f); err != nil {
		return err
	}
	switch {
	case f.Manifest.Spec.Restart.Policy == "always" || f.Manifest.Spec.Rerun == "on-boot":
		f.LastRun = nil
	case f.LastRun == nil || f.LastRun.Exit != nil:
		f.LastRun = &store.LastRun{BootID: record.BootID(), StartedAt: time.Now().UTC()}
	}
	if f.Manifest.Spec.Security.Userns == "host" || f.IDBase != 0 {
		return nil
	}
	f.IDBase, err = r.ids.Next()
	return err
}

// afterKeeper finishes a start in the middle of which the keeper died. The next keeper finds
// out whether the record has a process. Without one no process will ever run, as the child
// ends when its gate closes.
func (r *Runtime) afterKeeper(ctx context.Context, c *container, rec *record.Record) error {
	if err := r.keeper.find(ctx); err != nil {
		return err
	}
	now, err := record.Read(r.RunDir, rec.ID())
	if err != nil {
		return err
	}
	if now.State == record.Creating {
		return errors.Join(errors.New("the keeper died during the start"), r.undoStart(ctx, c, now))
	}
	r.syncRun(now.ID())
	return nil
}

// recordFailure records the end of a start that failed. If there was a process, the keeper
// reaps it, and the keeper's record is the truth.
func (r *Runtime) recordFailure(c *container, rec *record.Record, err error) {
	var end *record.Ending
	var launched *keeper.StartError
	var early *specconv.Error
	switch {
	case errors.As(err, &launched):
		end = &record.Ending{Code: launched.ExitCode(), Failed: launched.Message, Where: string(launched.Where)}
		// If there was a process, the keeper reaps it and records the end.
		wait, cancel := context.WithTimeout(r.ctx, 10*time.Second)
		if e, err := r.keeper.Wait(wait, rec.ID()); err == nil && e != nil {
			end = e
		} else if now, err := record.Read(r.RunDir, rec.ID()); err == nil && now.Ending != nil {
			end = now.Ending
		}
		cancel()
	case errors.As(err, &early):
		end = &record.Ending{Code: 125, Failed: early.Message, Where: string(early.Where)}
	default:
		end = &record.Ending{Code: 125, Failed: err.Error(), Where: string(launch.AtStep)}
	}
	over := *rec // readers have the record of c, which must not change
	over.State, over.FinishedAt, over.Ending = record.Exited, time.Now(), end
	if e := over.Write(r.RunDir); e != nil {
		r.Log.Error("cannot record a failed start", "container", c.name, "error", e)
	}
	if e := r.host.Group(rec.ID()).Remove(); e != nil {
		r.Log.Error("cannot remove cgroup", "container", c.name, "error", e)
	}
	r.clearPipes(rec.ID())
	r.advance(c, &over)
}

// launch makes the kernel objects and lets the keeper start the process.
func (r *Runtime) launch(ctx context.Context, c *container, rec *record.Record, f *store.Facts) error {
	merged, img, err := r.prepareRoot(ctx, c.name, f, rec.IDBase)
	if err != nil {
		return err
	}
	m := r.filled(f)
	if err := r.mayUse(ctx, m); err != nil {
		return err
	}
	config, writable, err := specconv.Build(m, r.root(m), &r.paths)
	if err != nil {
		return err
	}
	config.Root.Merged = merged
	if err := r.checkRestoring(m); err != nil {
		return err
	}
	if err := r.addVolumes(ctx, c, rec, m, config, img); err != nil {
		return err
	}
	if err := r.addImageVolumes(ctx, config, m, img); err != nil {
		return err
	}
	if err := r.writeFiles(c, rec, f, m, config); err != nil {
		return err
	}
	if err := r.Writable.Add(writable); err != nil { // before it can write
		return err
	}
	group := r.host.Group(rec.ID())
	if err := r.makeGroup(c, group, m, config.Devices); err != nil {
		return err
	}
	fault.Point("start-cgroup-made")
	if err := r.makePipes(rec); err != nil {
		return err
	}
	fault.Point("start-pipes-made")
	id := rec.ID()
	config.Name, config.Nonce, config.IDBase = rec.Name, rec.Nonce, rec.IDBase
	config.Stdout, config.Stderr, config.Ran = record.StdoutPath(r.RunDir, id), record.StderrPath(r.RunDir, id), record.RanPath(r.RunDir, id)
	config.Cgroups, config.CgroupInto = group.Join()
	if err := r.addNames(config, rec, m); err != nil {
		return err
	}
	if err := keeper.Prepare(r.RunDir, rec, config, group.MayJoin()); err != nil {
		return err
	}
	err = r.keeper.Start(ctx, rec, config)
	fault.Point("start-launched")
	return err
}

// makeGroup makes the cgroup. It saves limits that this kernel does not support as not
// applied.
func (r *Runtime) makeGroup(c *container, group *cgroup.Group, m *spec.Container, devices []launch.Device) error {
	limits := specconv.Limits(m)
	limits.Devices = specconv.AllowedDevices(m, devices, r.host)
	refused, err := group.Create(limits)
	if err != nil && m.Spec.Security.Userns != "host" && len(devices) == 0 { // here the list is only a second defence
		without := limits
		without.Devices = nil
		first := err
		if refused, err = group.Create(without); err == nil {
			r.Log.Warn("cannot limit devices by cgroup; container runs without a device list, its user namespace denies access to devices", "container", c.name, "error", first)
		}
	}
	if err != nil {
		return err
	}
	var refusals []status.Unapplied
	for _, x := range refused {
		path := "spec.resources." + x.Field
		refusals = append(refusals, unapplied(path, x.Message, &spec.Container{}, m, nil))
	}
	if f, _ := r.snapshot(c); len(refusals) == 0 && len(f.Unapplied) == 0 {
		return nil
	}
	return r.save(c, func(f *store.Facts) { f.Unapplied = refusals })
}

func nonce() string {
	var b [4]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
