package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"stead/runtime/rootfs"
	"stead/runtime/status"

	"github.com/hashicorp/go-multierror"
	"github.com/moby/sys/mountinfo"
)

// User data is deleted in this file and nowhere else: when an admin purges it by name, or
// when its retention time is over.

// doomedPrefix marks directories in STATE/removed that are being deleted. The rename makes
// it final: no container gets half a root back. The next start or purge continues a deletion
// that was interrupted or failed.
const doomedPrefix = ".deleting-"

// Purge deletes all removed containers of a name (`web`, all replicas if that is the name of their
// manifest), or one entry (`web@20261123T041500Z`), and returns the entries that are gone. With an
// error the rest can be purged again. It does not touch an existing
// container. The error wraps status.ErrMissing if there is no such entry.
func (r *Removed) Purge(ctx context.Context, name string) (purged []string, err error) {
	all, err := r.List()
	if err != nil {
		return nil, err
	}
	var found []RemovedContainer
	for _, e := range all {
		if e.Is(name) {
			found = append(found, e)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("purge %s: nothing was removed by that name: %w", name, status.ErrMissing)
	}
	return r.delete(ctx, found)
}

// expiryGrace is the time that Expire must have found an entry overdue before it deletes it.
// A clock that is wrong for a while, as at the boot of a machine without a clock battery,
// deletes nothing.
const expiryGrace = time.Hour

// Expire deletes entries that were removed longer ago than the retention time, and returns
// them.
func (r *Removed) Expire(ctx context.Context, retention time.Duration) (expired []string, err error) {
	all, err := r.entries()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	now := time.Now()
	overdue := map[string]time.Time{}
	var found []RemovedContainer
	for _, e := range all {
		if e.Deleting || now.Sub(e.RemovedAt) < retention { // a purge or the next start goes on with what is being deleted
			continue
		}
		since, seen := r.overdue[e.Entry]
		if !seen {
			since = now
		}
		overdue[e.Entry] = since
		if now.Sub(since) >= expiryGrace { // by the monotonic clock
			found = append(found, e)
		}
	}
	r.overdue = overdue
	r.mu.Unlock()
	return r.delete(ctx, found)
}

// delete deletes entries of STATE/removed, and returns those that are gone.
func (r *Removed) delete(ctx context.Context, entries []RemovedContainer) (gone []string, err error) {
	var failed *multierror.Error
	for _, e := range entries {
		if err := r.deleteEntry(ctx, e); err != nil {
			failed = multierror.Append(failed, fmt.Errorf("delete %s: %w", e.Entry, err))
			continue
		}
		gone = append(gone, e.Entry)
	}
	return gone, failed.ErrorOrNil()
}

func (r *Removed) deleteEntry(ctx context.Context, e RemovedContainer) error {
	doomed := filepath.Join(r.dir, doomedPrefix+e.Entry)
	if !e.Deleting {
		if err := noMounts(e.Path); err != nil {
			return err
		}
		if err := os.Rename(e.Path, doomed); err != nil {
			return err
		}
		r.forget(e.Entry)
	}
	if err := deleteTree(ctx, doomed); err != nil {
		return fmt.Errorf("%w; the rest can be purged again: stead purge %s", err, e.Entry)
	}
	return nil
}

// deleteTree deletes a directory that has doomedPrefix.
func deleteTree(ctx context.Context, dir string) error {
	if err := noMounts(dir); err != nil {
		return err
	}
	return rootfs.Delete(ctx, dir)
}

// noMounts returns an error if something is mounted in a directory: it does not belong to
// the container, and would be deleted with it.
func noMounts(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(Resolved(dir)))
	if err != nil {
		return fmt.Errorf("look for mounts in %s: %w", dir, err)
	}
	if len(mounts) > 0 {
		return fmt.Errorf("%s is a mount: unmount it first, or what is mounted there would be deleted", mounts[0].Mountpoint)
	}
	return nil
}
