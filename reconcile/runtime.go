package reconcile

import (
	"context"
	"time"

	"stead/runtime/status"
	"stead/spec"
)

// What follows is all that the engine asks of this host. Calls of Containers for one name
// never overlap; calls for different names do. Each returns when what it says holds or
// failed, and is safe to repeat: what is done already is not an error.

// Observer tells what is on this host.
type Observer interface {
	// List returns what is known about every container, by name. It is cheap: no system call
	// per container.
	List() []*status.Status
	// Wake receives after a container changed by itself (its command ended, its keeper died).
	// It is never closed and holds at most one wake-up.
	Wake() <-chan struct{}
	// Check looks at the kernel for drift and at the keeper's health, and updates what List
	// says: closely at all containers, for whoever asks, or on each resync tick for what an
	// idle host can afford.
	Check(ctx context.Context, all bool) error
	// Faults returns what is wrong with stead itself on this host, such as a keeper that does
	// not answer.
	Faults() []status.Fault
}

// Containers changes containers, one call for each verb of a plan.
type Containers interface {
	// Create makes the container's directory (bringing back the root of a removed one of that
	// name, which the note says) and, unless c is suspended, starts it.
	Create(ctx context.Context, c *spec.Container, from status.Origin) (note string, err error)
	// Start starts a container that does not run.
	Start(ctx context.Context, name string, o status.StartOptions) error
	// Update applies c where only live fields differ from what is applied; changes that the
	// kernel refused are in Status.Unapplied afterwards. Of a container that does not run it
	// only notes c.
	Update(ctx context.Context, c *spec.Container, from status.Origin) error
	// Restart stops the container, applies c and starts it, unless c is suspended or an admin
	// stopped it. byAdmin takes the note of such a stop back.
	Restart(ctx context.Context, c *spec.Container, from status.Origin, byAdmin bool) error
	// Rename stops the container, gives it the name of c, applies c and starts it, unless c is
	// suspended or an admin stopped it. Its root, its ids and its output stay.
	Rename(ctx context.Context, old string, c *spec.Container, from status.Origin) error
	// Adopt notes that the same meaning now stands in another file or document.
	Adopt(ctx context.Context, name string, from status.Origin) error
	// Stop ends the processes (signal, timeout, kill); the directory stays.
	Stop(ctx context.Context, name string, o status.StopOptions) error
	// Remove stops the container and moves its directory to removed/.
	Remove(ctx context.Context, name string) error
}

// Reloader tells containers to read their configuration again.
type Reloader interface {
	// Reload reloads a running container as its applied manifest says, and returns when its
	// command was told, or the command of the reload has succeeded.
	Reload(ctx context.Context, name string) error
}

// Images are the images of this host. Calls of Pull and Import for one name never overlap. Both
// can be interrupted by ctx and go on from what is complete.
type Images interface {
	// Stored returns the images that are complete. It is cheap while nothing changes, and the
	// value is never changed.
	Stored() (*status.Images, error)
	// Pull downloads the image of a complete reference. An error that knows when to try again
	// has a method RetryAfter() time.Duration.
	Pull(ctx context.Context, reference string, progress func(done, total int64)) error
	// Import makes the image that a manifest declares, from its source, in place of an earlier
	// one of that name.
	Import(ctx context.Context, m *spec.Image, progress func(done, total int64)) error
}

// Restorer puts data of a backup in place.
type Restorer interface {
	// Restore puts the data in a staging directory in the place of that of a container, which must
	// not run, or keeps it for a container of that name that is created later. The note says where
	// the data from before is.
	Restore(ctx context.Context, name, staging string) (note string, err error)
}

// Holds are what an admin has put on hold, durably.
type Holds interface {
	// Holds returns what is on hold; the value is never changed in place.
	Holds() *status.Holds
	// Hold and Release put containers, or with no names the host, on hold and take that back.
	Hold(names []string, reason string) error
	Release(names []string) error
	// HoldRemovals notes the removals that are held as part of a mass removal, and why, in
	// place of those noted before.
	HoldRemovals(why map[string]string) error
}

// Removed is the data of removed containers. Purge and Expire return the directories' names.
type Removed interface {
	// Image returns the image that the newest data of a name belongs to; false if there is none.
	Image(name string) (status.ImageUse, bool)
	// Purge deletes what was removed under a name.
	Purge(ctx context.Context, name string) ([]string, error)
	// Expire deletes what was removed longer ago than the retention time.
	Expire(ctx context.Context, retention time.Duration) ([]string, error)
}
