package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"stead/runtime/fault"
	"stead/runtime/record"
	"stead/runtime/specconv"
	"stead/runtime/status"
	"stead/runtime/store"
	"stead/spec"
)

// save changes a container's facts, on disk first and then in memory. Ends are
// noted beside whatever else is done to a container, hence the lock: one would
// undo the other. Nothing is written of a container that is removed: its name
// may be another's by now.
func (r *Runtime) save(c *container, change func(*store.Facts)) error {
	c.settling.Lock()
	defer c.settling.Unlock()
	if now, err := r.find(c.name); err != nil || now != c {
		return fmt.Errorf("container %s: %w", c.name, status.ErrMissing)
	}
	f, _ := r.known(c)
	next := *f
	change(&next)
	if err := next.Write(r.dir(c.name)); err != nil {
		return fmt.Errorf("container %s: %w", c.name, err)
	}
	r.mu.Lock()
	c.facts = &next
	r.mu.Unlock()
	return nil
}

// Create makes the container's directory and starts it unless it is suspended.
// A removed one of that name gets its root back; the result says of when. If
// only the start fails, the container exists and its status says why.
func (r *Runtime) Create(ctx context.Context, m *spec.Container, from status.Origin) (broughtBack string, err error) {
	name := m.Metadata.Name
	c, err := r.find(name)
	if err != nil {
		if broughtBack, err = r.makeDir(name); err != nil {
			return "", fmt.Errorf("create %s: %w", name, err)
		}
		fault.Point("create-dir-made")
		f := &store.Facts{Manifest: m, From: from, CreatedAt: time.Now().UTC()}
		if !m.Spec.Suspend {
			err = r.equip(f)
		}
		if err == nil {
			err = f.Write(r.dir(name))
		}
		if err != nil {
			return "", fmt.Errorf("create %s: %w", name, err)
		}
		fault.Point("create-facts-written")
		c = &container{name: name, facts: f}
		r.put(c)
	}
	if s, _ := r.Get(name); m.Spec.Suspend || s.State == status.Running { // it is created already
		return broughtBack, nil
	}
	return broughtBack, r.start(ctx, c, 0, 0)
}

// makeDir makes a container's directory, from the newest removed one if there is one.
func (r *Runtime) makeDir(name string) (broughtBack string, err error) {
	dir := r.dir(name)
	if _, err := os.Lstat(dir); err == nil {
		return "", nil // of a create that did not get far
	}
	broughtBack, err = r.Removed.BringBack(name, dir)
	if err == nil && broughtBack == "" {
		err = os.Mkdir(dir, 0o700)
	}
	return broughtBack, err
}

// Start starts a container that does not run.
func (r *Runtime) Start(ctx context.Context, name string, o status.StartOptions) error {
	c, err := r.find(name)
	if err != nil {
		return err
	}
	if o.ByAdmin {
		if err := r.noteAdmin(c, false); err != nil {
			return err
		}
	}
	if o.Spec != nil {
		return r.restart(ctx, c, o.Spec, o.From)
	}
	s, _ := r.Get(name)
	switch {
	case s.State == status.Running:
		return nil
	case o.ByPolicy:
		return r.start(ctx, c, s.Restarts+1, s.Failures)
	}
	return r.start(ctx, c, 0, 0)
}

// Restart stops the container, applies m and starts it unless m is suspended or an admin
// stopped it; byAdmin takes back that note. Where it can be told beforehand that m can't
// start, what runs is left alone.
func (r *Runtime) Restart(ctx context.Context, m *spec.Container, from status.Origin, byAdmin bool) error {
	c, err := r.find(m.Metadata.Name)
	if err != nil {
		return err
	}
	if byAdmin {
		if err := r.noteAdmin(c, false); err != nil {
			return err
		}
	}
	return r.restart(ctx, c, m, from)
}

func (r *Runtime) restart(ctx context.Context, c *container, m *spec.Container, from status.Origin) error {
	s, _ := r.Get(c.name)
	down := m.Spec.Suspend || s.StoppedAt != nil
	if s.State == status.Running && !down {
		if err := specconv.Preflight(m, r.root(m), &r.paths); err != nil {
			return fmt.Errorf("start %s: %w", c.name, err)
		}
	}
	if err := r.stop(ctx, c); err != nil {
		return err
	}
	fault.Point("restart-stopped")
	if !down {
		if err := r.forgetRun(c); err != nil {
			return err
		}
	}
	if err := r.save(c, func(f *store.Facts) { f.Manifest, f.From, f.Unapplied, f.LastRun = m, from, nil, nil }); err != nil {
		return err
	}
	fault.Point("restart-facts-written")
	if down {
		return nil
	}
	return r.start(ctx, c, 0, 0)
}

// forgetRun takes the record of a run that is over off the disk: whoever comes after
// us would take its end for that of a run which is yet to begin.
func (r *Runtime) forgetRun(c *container) error {
	_, rec := r.known(c)
	if rec == nil || rec.State != record.Exited {
		return nil
	}
	if r.pending.has(c) { // only the record has its end until now
		if err := r.save(c, func(*store.Facts) {}); err != nil {
			return err
		}
	}
	return record.Forget(r.RunDir, rec.ID())
}

// Adopt notes that the same meaning now stands elsewhere.
func (r *Runtime) Adopt(_ context.Context, name string, from status.Origin) error {
	c, err := r.find(name)
	if err != nil {
		return err
	}
	return r.save(c, func(f *store.Facts) { f.From = from })
}

// noteAdmin notes durably that an admin stopped a container, or that he started it: then it
// may run again, whatever its last run came to.
func (r *Runtime) noteAdmin(c *container, stopped bool) error {
	if stopped {
		now := time.Now().UTC()
		return r.save(c, func(f *store.Facts) { f.StoppedAt = &now })
	}
	if err := r.forgetRun(c); err != nil {
		return err
	}
	return r.save(c, func(f *store.Facts) { f.StoppedAt, f.LastRun = nil, nil })
}

// Remove stops the container and moves its directory to removed/.
func (r *Runtime) Remove(ctx context.Context, name string) error {
	c, err := r.find(name)
	if errors.Is(err, status.ErrMissing) {
		return nil
	}
	if err := r.stop(ctx, c); err != nil {
		return err
	}
	fault.Point("remove-stopped")
	_, rec := r.known(c)
	if rec != nil {
		if err := r.host.Group(rec.ID()).Remove(); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	fault.Point("remove-cgroup-gone")
	c.settling.Lock() // or a late note of its end would be written where it was
	defer c.settling.Unlock()
	if err := r.Removed.PutAway(name, r.dir(name)); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	fault.Point("remove-put-away")
	if rec != nil { // last: a container without a record of its run would be run again
		if err := record.Forget(r.RunDir, rec.ID()); err != nil {
			r.Log.Error("clean up", "container", name, "error", err)
		}
	}
	r.drop(name)
	f, _ := r.known(c)
	r.ids.Release(f.IDBase)
	return nil
}
