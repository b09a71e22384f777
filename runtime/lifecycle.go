package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"stead/runtime/atomicfile"
	"stead/runtime/fault"
	"stead/runtime/record"
	"stead/runtime/status"
	"stead/runtime/store"
	"stead/spec"
)

// save changes a container's facts, on disk first and then in memory. It takes a lock, as
// the end of a run is saved while something else changes the container, and one would
// undo the other. It writes nothing for a removed container: another one may have its
// name by now.
func (r *Runtime) save(c *container, change func(*store.Facts)) error {
	c.finishing.Lock()
	defer c.finishing.Unlock()
	next, err := r.changeFacts(c, change)
	if err == nil {
		r.setFacts(c, next)
	}
	return err
}

// changeFacts writes changed facts to the disk, and returns them with any error of that. The
// caller holds c.finishing.
func (r *Runtime) changeFacts(c *container, change func(*store.Facts)) (*store.Facts, error) {
	if now, err := r.find(c.name); err != nil || now != c {
		return nil, fmt.Errorf("container %s: %w", c.name, status.ErrMissing)
	}
	f, _ := r.snapshot(c)
	next := *f
	change(&next)
	if err := next.Write(r.dir(c.name)); err != nil {
		return &next, fmt.Errorf("container %s: %w", c.name, err)
	}
	return &next, nil
}

func (r *Runtime) setFacts(c *container, f *store.Facts) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.facts = f
}

// Create makes the container's directory and starts it unless it is suspended. If a
// container of that name was removed, Create restores its root and broughtBack says from
// when the root is. If only the start fails, the container exists and its status says why.
func (r *Runtime) Create(ctx context.Context, m *spec.Container, from status.Origin) (broughtBack string, err error) {
	name := m.Metadata.Name
	c, err := r.find(name)
	if err != nil {
		if err := r.loadFacts(name); err == nil {
			return r.manageAgain(ctx, name)
		} else if !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("create %s: there is a container whose container.json can't be read; nothing of it is changed: %w", name, err)
		}
		f := &store.Facts{Manifest: m, From: from, CreatedAt: time.Now().UTC()}
		if broughtBack, err = r.makeFacts(ctx, f); err != nil {
			return "", fmt.Errorf("create %s: %w", name, err)
		}
		fault.Point("create-facts-written")
		c = &container{name: name, facts: f}
		r.put(c)
	}
	if s, _ := r.Get(name); m.Spec.Suspend || s.State != status.Created { // it was started already
		return broughtBack, nil
	}
	return broughtBack, r.start(ctx, c, 0, 0)
}

// manageAgain brings a container that exists already under management: its container.json could
// not be read until now. The next pass makes it what its manifest says.
func (r *Runtime) manageAgain(ctx context.Context, name string) (note string, err error) {
	r.loadRecords(name)
	c, err := r.find(name)
	if err != nil {
		return "", err
	}
	if _, rec := r.snapshot(c); rec != nil {
		if _, err := r.recoverOne(ctx, rec); err != nil {
			return "", fmt.Errorf("recover %s: %w", name, err)
		}
		r.loadFilesOf(c)
	}
	r.changed()
	return "it exists already, and its container.json can be read again", store.ForgetBroughtBack(r.dir(name))
}

// makeFacts makes the directory of a new container and writes its facts.
func (r *Runtime) makeFacts(ctx context.Context, f *store.Facts) (broughtBack string, err error) {
	m, name := f.Manifest, f.Manifest.Metadata.Name
	release, err := r.lease(ctx, f)
	if err != nil {
		return "", err
	}
	defer release()
	if !m.Spec.Suspend {
		if _, err := r.chooseImage(m, r.returning(name)); err != nil { // first: without the image nothing is made
			return "", err
		}
	}
	if broughtBack, err = r.makeDir(name); err != nil {
		return "", err
	}
	fault.Point("create-dir-made")
	if before := store.BroughtBack(r.dir(name)); before != nil {
		f.Image = before.Image
	}
	had := isThere(r.dir(name) + "/upper")
	if !m.Spec.Suspend {
		err = r.prepareRun(ctx, f)
	}
	if err == nil {
		err = f.Write(r.dir(name))
	}
	if err != nil { // what nobody declares any more must not stay there
		r.ids.Release(f.IDBase)
		return "", errors.Join(err, r.Removed.UndoBringBack(name, r.dir(name)))
	}
	if had && !isThere(r.dir(name)+"/upper") {
		broughtBack = strings.Replace(broughtBack, "brought back", "stays in removed/, as it is of another image", 1)
	}
	return broughtBack, store.ForgetBroughtBack(r.dir(name))
}

// returning returns the facts of the removed container that a new one of its name brings back, nil
// if there is none.
func (r *Runtime) returning(name string) *store.Facts {
	if f := store.BroughtBack(r.dir(name)); f != nil { // of a Create that was interrupted
		return f
	}
	return r.Removed.Facts(name)
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// makeDir makes a container's directory, from its newest removed one if there is any.
func (r *Runtime) makeDir(name string) (broughtBack string, err error) {
	dir := r.dir(name)
	if _, err := os.Lstat(dir); err == nil {
		return "", nil // of a Create that was interrupted
	}
	broughtBack, err = r.Removed.BringBack(name, dir)
	if err == nil && broughtBack == "" {
		err = os.Mkdir(dir, 0o700)
	}
	return broughtBack, err
}

// Start starts a container that does not run. With a Spec it restarts one that runs.
func (r *Runtime) Start(ctx context.Context, name string, o status.StartOptions) error {
	c, err := r.find(name)
	if err != nil {
		return err
	}
	if o.ByAdmin {
		unwritten, err := r.saveAdminIntent(c, false)
		if err != nil {
			return err
		}
		if unwritten != nil {
			r.Log.Warn("the disk is full: a restart of stead would stop the container again", "container", name, "error", unwritten)
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

// Restart stops the container, applies m and starts it, unless m is suspended or an admin
// stopped it. byAdmin clears the admin's stop. If a check shows that m can't start, the
// running container is not stopped.
func (r *Runtime) Restart(ctx context.Context, m *spec.Container, from status.Origin, byAdmin bool) error {
	return r.Start(ctx, m.Metadata.Name, status.StartOptions{Spec: m, From: from, ByAdmin: byAdmin})
}

func (r *Runtime) restart(ctx context.Context, c *container, m *spec.Container, from status.Origin) error {
	s, _ := r.Get(c.name)
	down := m.Spec.Suspend || s.StoppedAt != nil
	if s.State == status.Running && !down {
		f, _ := r.snapshot(c)
		if err := r.preflight(ctx, c.name, m, f); err != nil {
			return fmt.Errorf("start %s: %w", c.name, err)
		}
	}
	if err := r.stop(ctx, c, 0); err != nil {
		return err
	}
	fault.Point("restart-stopped")
	if !down {
		if err := r.deleteRecord(c); err != nil {
			return err
		}
	}
	unwritten, err := r.saveOrKeep(c, func(f *store.Facts) { f.Manifest, f.From, f.Unapplied, f.LastRun = m, from, nil, nil })
	if err != nil {
		return err
	}
	if unwritten != nil {
		r.Log.Warn("the disk is full: the applied manifest will be saved later", "container", c.name, "error", unwritten)
	}
	fault.Point("restart-facts-written")
	if down {
		return nil
	}
	return r.start(ctx, c, 0, 0)
}

// deleteRecord deletes the record of a run that is over. A later process would take its end
// for the end of a run that has not begun yet.
func (r *Runtime) deleteRecord(c *container) error {
	f, rec := r.snapshot(c)
	if rec == nil || rec.State != record.Exited {
		return nil
	}
	if r.pending.has(c) && f.LastRun != nil { // until now only the record has the end of the run
		if err := r.save(c, func(*store.Facts) {}); err != nil {
			return err
		}
	}
	return record.Forget(r.RunDir, rec.ID())
}

// Adopt saves a new origin of a manifest whose meaning is the same.
func (r *Runtime) Adopt(_ context.Context, name string, from status.Origin) error {
	c, err := r.find(name)
	if err != nil {
		return err
	}
	return r.save(c, func(f *store.Facts) { f.From = from })
}

// saveAdminIntent saves that an admin stopped or started a container, as saveOrKeep does. A
// container that an admin started may run again, however its last run ended.
func (r *Runtime) saveAdminIntent(c *container, stopped bool) (unwritten, err error) {
	if stopped {
		now := time.Now().UTC()
		return r.saveOrKeep(c, func(f *store.Facts) { f.StoppedAt = &now })
	}
	if err := r.deleteRecord(c); err != nil {
		return nil, err
	}
	f, rec := r.snapshot(c)
	running := rec != nil && rec.State == record.Running
	if f.StoppedAt == nil && (running || f.LastRun == nil) {
		return nil, nil
	}
	return r.saveOrKeep(c, func(f *store.Facts) {
		if f.StoppedAt = nil; !running { // the end of a run under way is still to be recorded
			f.LastRun = nil
		}
	})
}

// Remove stops the container and moves its directory to removed/.
func (r *Runtime) Remove(ctx context.Context, name string) error {
	c, err := r.find(name)
	if errors.Is(err, status.ErrMissing) {
		return nil
	}
	if err := r.stop(ctx, c, 0); err != nil {
		return err
	}
	fault.Point("remove-stopped")
	_, rec := r.snapshot(c)
	if rec != nil {
		if err := r.host.Group(rec.ID()).Remove(); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	fault.Point("remove-cgroup-gone")
	if err := r.unmountRoot(ctx, name); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	fault.Point("remove-unmounted")
	c.finishing.Lock() // else a late end of its run would be written to the old directory
	defer c.finishing.Unlock()
	if err := r.Removed.PutAway(name, r.dir(name)); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	fault.Point("remove-put-away")
	if rec != nil { // last: a container without a record of its run would be started again
		if err := record.Forget(r.RunDir, rec.ID()); err != nil {
			r.Log.Error("clean up", "container", name, "error", err)
		}
	}
	r.drop(name)
	f, _ := r.snapshot(c)
	r.ids.Release(f.IDBase)
	return nil
}

// Rename stops a container, gives it the name of m, applies m and starts it, unless m is
// suspended or an admin stopped it. Its root, its ids and its logs stay. It is no error if that
// was done before.
func (r *Runtime) Rename(ctx context.Context, old string, m *spec.Container, from status.Origin) error {
	name := m.Metadata.Name
	c, err := r.find(old)
	if errors.Is(err, status.ErrMissing) {
		_, err = r.find(name)
		return err
	}
	if err != nil {
		return err
	}
	if _, err := r.find(name); err == nil || r.isUnread(name) {
		return fmt.Errorf("rename %s: there is a container %s", old, name)
	}
	s, _ := r.Get(old)
	if s.State == status.Running && !m.Spec.Suspend {
		f, _ := r.snapshot(c)
		if err := r.preflight(ctx, old, m, f); err != nil {
			return fmt.Errorf("rename %s: %w", old, err)
		}
	}
	if err := r.stop(ctx, c, 0); err != nil {
		return err
	}
	fault.Point("rename-stopped")
	if err := r.unmountRoot(ctx, old); err != nil {
		return fmt.Errorf("rename %s: %w", old, err)
	}
	if err := r.move(c, m, from); err != nil {
		return fmt.Errorf("rename %s: %w", old, err)
	}
	renamed, err := r.find(name)
	if err != nil || m.Spec.Suspend || s.StoppedAt != nil {
		return err
	}
	return r.start(ctx, renamed, 0, 0)
}

// move gives a stopped container the name of m. Once the directory has its new name, nothing that
// fails takes that back: what can't be written is written later. If the process dies then, the
// container still has its old manifest, and is changed to the new one as after any edit.
func (r *Runtime) move(c *container, m *spec.Container, from status.Origin) error {
	name := m.Metadata.Name
	_, rec := r.snapshot(c)
	if rec != nil {
		if err := r.host.Group(rec.ID()).Remove(); err != nil {
			return err
		}
	}
	c.finishing.Lock() // else a late end of its run would be written to the old directory
	defer c.finishing.Unlock()
	if err := os.Rename(r.dir(c.name), r.dir(name)); err != nil {
		return err
	}
	f, _ := r.snapshot(c)
	next := *f
	next.Manifest, next.From, next.Unapplied, next.LastRun = m, from, nil, nil
	renamed := &container{name: name, facts: &next}
	r.drop(c.name)
	r.put(renamed)
	err := atomicfile.SyncDir(r.dir(""))
	fault.Point("rename-moved")
	if err = errors.Join(err, next.Write(r.dir(name))); err != nil {
		r.Log.Error("cannot write container.json after a rename; will be retried", "container", name, "error", err)
		r.writeLater(renamed)
	}
	fault.Point("rename-facts-written")
	if rec != nil {
		if err := record.Forget(r.RunDir, rec.ID()); err != nil {
			r.Log.Error("cannot clean up", "container", c.name, "error", err)
		}
	}
	return nil
}
