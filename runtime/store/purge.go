package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"stead/runtime/rootfs"
	"stead/runtime/status"

	"github.com/moby/sys/mountinfo"
)

// User data is deleted in this file and nowhere else: when an admin purges it by name, or
// when its retention time is over.

// doomedPrefix marks directories in STATE/removed that are being deleted. The rename makes
// it final: no container gets half a root back, and the next start continues a deletion
// that was interrupted.
const doomedPrefix = ".deleting-"

// Purge deletes all removed containers of a name (`web`), or one entry
// (`web@20261123T041500Z`), and returns the entries. It does not touch an existing
// container. The error wraps status.ErrMissing if there is no such entry.
func (r *Removed) Purge(ctx context.Context, name string) (purged []string, err error) {
	all, err := r.entries()
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if e.Name == name || e.Entry == name {
			purged = append(purged, e.Entry)
		}
	}
	if len(purged) == 0 {
		return nil, fmt.Errorf("purge %s: nothing was removed by that name: %w", name, status.ErrMissing)
	}
	return r.delete(ctx, purged)
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
	for _, e := range all {
		if now.Sub(e.RemovedAt) < retention {
			continue
		}
		since, seen := r.overdue[e.Entry]
		if !seen {
			since = now
		}
		overdue[e.Entry] = since
		if now.Sub(since) >= expiryGrace { // by the monotonic clock
			expired = append(expired, e.Entry)
		}
	}
	r.overdue = overdue
	r.mu.Unlock()
	return r.delete(ctx, expired)
}

// delete deletes entries of STATE/removed, and returns those that it deleted.
func (r *Removed) delete(ctx context.Context, entries []string) (gone []string, err error) {
	var failed error
	for _, entry := range entries {
		path, doomed := filepath.Join(r.dir, entry), filepath.Join(r.dir, doomedPrefix+entry)
		err := noMounts(path)
		if err == nil {
			err = os.Rename(path, doomed)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("delete %s: %w", entry, err))
			continue
		}
		r.forget(entry)
		gone = append(gone, entry)
		if err := deleteTree(ctx, doomed); err != nil {
			failed = errors.Join(failed, fmt.Errorf("delete %s: %w", entry, err))
		}
	}
	return gone, failed
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
