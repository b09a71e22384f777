package reconcile

import (
	"context"
	"time"

	"stead/runtime/status"
	"stead/spec"
)

// Runtime is all that the loop asks of the containers on this host. Calls for
// one name never overlap; calls for different names do. Each returns when what
// it says holds or failed, and is safe to repeat: what is done already is not
// an error.
type Runtime interface {
	// List returns what is known about every container, by name. It is cheap:
	// no system call per container, and Applied is the same pointer for as long
	// as it is the same manifest.
	List() []*status.Status
	// Wake receives after a container changed by itself (its command ended, its
	// keeper died). It is never closed and holds at most one wake-up.
	Wake() <-chan struct{}
	// Check looks at the kernel for drift and at the keeper's health, and
	// updates what List says: closely at all containers, for whoever asks, or on
	// each resync tick for what an idle host can afford.
	Check(ctx context.Context, all bool) error

	// Create makes the container's directory (bringing back the root of a
	// removed one of that name, told by the result) and, unless c is suspended,
	// starts it.
	Create(ctx context.Context, c *spec.Container, from Origin) (broughtBack string, err error)
	// Start starts a container that does not run.
	Start(ctx context.Context, name string, o status.StartOptions) error
	// Update applies c where only live fields differ from what is applied;
	// changes that the kernel refused are in Status.Unapplied afterwards. Of a
	// container that does not run it only notes c.
	Update(ctx context.Context, c *spec.Container, from Origin) error
	// Restart stops the container, applies c and starts it unless c is suspended
	// or an admin stopped it; byAdmin takes that back.
	Restart(ctx context.Context, c *spec.Container, from Origin, byAdmin bool) error
	// Adopt notes that the same meaning now stands in another file or document.
	Adopt(ctx context.Context, name string, from Origin) error
	// Recognise makes new the applied manifest where old is, which means the same:
	// what is then compared is one pointer.
	Recognise(old, new *spec.Container)
	// Stop ends the processes (signal, timeout, kill); the directory stays.
	Stop(ctx context.Context, name string, o status.StopOptions) error
	// Remove stops the container and moves its directory to removed/.
	Remove(ctx context.Context, name string) error

	// Holds are what is on hold; the value is never changed in place.
	Holds() *status.Holds
	// Hold and Release put containers, or with no names the host, on hold and
	// take that back, durably.
	Hold(names []string, reason string) error
	Release(names []string) error
	// HoldRemovals notes, durably, the removals that are held as part of a mass
	// removal, and why, in place of those noted before: Holds has them.
	HoldRemovals(why map[string]string) error

	// Purge deletes what was removed under a name; Expire what was removed
	// longer ago than that. Both return the directories' names.
	Purge(ctx context.Context, name string) ([]string, error)
	Expire(ctx context.Context, retention time.Duration) ([]string, error)
}

// Origin is where a manifest stands.
type Origin = status.Origin
