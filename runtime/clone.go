package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"stead/runtime/backup"
	"stead/runtime/fault"
	"stead/runtime/identity"
	"stead/runtime/keeper"
	"stead/runtime/record"
	"stead/runtime/rootfs"
	"stead/runtime/store"
	"stead/spec"
)

// A clone is a restore whose data comes from a container instead of an archive: it is copied into a
// staging directory and beside the places of its volumes, and takes its place as a restore does.

// CloneOptions say what to copy.
type CloneOptions struct {
	Name, As     string
	KeepIdentity bool
	MaxFreeze    time.Duration // how long what runs may stand still
}

// Clone copies what a container keeps into a staging directory. renewed are the files of the copy's
// identity, as paths of its root.
func (r *Runtime) Clone(ctx context.Context, s *backup.Staging, o CloneOptions) (renewed []string, err error) {
	q, err := r.copyRequest(o.Name, true)
	if err != nil {
		return nil, err
	}
	q.Index.Name, q.Index.CreatedAt = o.Name, time.Now().UTC()
	q.Index.Manifest, q.Index.Applied, q.Index.DropIns = q.Manifest, q.Applied, q.DropIns
	places, err := (&UnpackRequest{StateDir: r.StateDir, Staging: s.Dir, As: o.As}).accept(&q.Index)
	if err != nil {
		return nil, err
	}
	v := &backup.Staged{Index: q.Index, Manifest: q.Manifest, Applied: q.Applied, DropIns: q.DropIns, Places: places}
	if err := errors.Join(s.SetPlaces(places), os.Mkdir(s.Trees(), 0o700)); err != nil {
		return nil, err
	}
	if err := r.copyTrees(ctx, s, q, places, o.MaxFreeze); err != nil {
		return nil, err
	}
	fault.Point("clone-copied")
	if root := filepath.Join(s.Trees(), backup.RootTree); !o.KeepIdentity {
		if renewed, err = identity.Renew(root); err != nil {
			return nil, fmt.Errorf("make the identity of the copy: %w", err)
		}
	}
	return renewed, s.SetStaged(v)
}

// errTooLong ends a copy for which containers would stand still for too long.
var errTooLong = errors.New("it would stand still for longer than --max-freeze allows")

// copyTrees copies all trees, while what writes them stands still.
func (r *Runtime) copyTrees(ctx context.Context, s *backup.Staging, q *backup.Request, places []backup.Place, limit time.Duration) (err error) {
	before, err := os.Stat(filepath.Join(q.Record, store.FactsFile))
	if err != nil {
		return err
	}
	if len(q.Runs) > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeoutCause(ctx, limit, errTooLong)
		defer cancel()
	}
	for _, run := range q.Runs {
		held, err := keeper.Client{Run: r.RunDir}.Freeze(ctx, run.ID, run.Cgroup, limit)
		if err != nil {
			return err
		}
		defer func() { // an error here is that it was thawed before the copy was complete
			if thawed := held.Thaw(); err == nil {
				err = thawed
			}
		}()
	}
	for i, t := range q.Index.Trees {
		to := filepath.Join(s.Trees(), t.Name)
		for _, p := range places {
			if p.Tree == t {
				to = p.Beside
			}
		}
		if err := os.Mkdir(to, 0o700); err != nil {
			return err
		}
		if err := rootfs.Clone(ctx, q.Dirs[i], to); err != nil {
			return err
		}
	}
	return r.stoodStill(q, before)
}

// stoodStill returns an error if a container has started, or was changed, that was not to be while
// its data was copied.
func (r *Runtime) stoodStill(q *backup.Request, before os.FileInfo) error {
	if err := (&backupJob{Request: q, StateDir: r.StateDir}).check(); err != nil {
		return err
	}
	now, err := os.Stat(filepath.Join(q.Record, store.FactsFile))
	if err != nil {
		return err
	}
	records, err := record.ReadAll(r.RunDir, q.Index.Name)
	for _, rec := range records {
		was := false
		for _, run := range q.Runs {
			was = was || run.ID == rec.ID()
		}
		if rec.State != record.Exited && !was {
			err = errors.Join(err, errors.New("it was started meanwhile; try again"))
		}
	}
	if err == nil && !os.SameFile(before, now) {
		err = errors.New("it was changed, stopped or started meanwhile; try again")
	}
	return err
}

// wholly returns a manifest whose backup would hold all that the container keeps.
func wholly(m *spec.Container) *spec.Container {
	c := *m
	c.Spec.Backup = nil
	return &c
}
