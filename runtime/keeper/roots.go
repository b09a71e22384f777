package keeper

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"stead/runtime/fault"
	"stead/runtime/launch"

	"golang.org/x/sys/unix"
)

// Merged roots are mounted in the keeper's mount namespace, the host's: there the admin sees
// them, and the launches of this keeper copy them. They outlive the keeper.

// heldTimeout is how long a mount waits for an upper directory that is in use. A namespace
// that has just ended lets go of its mounts a moment later, and no event tells when.
const heldTimeout, heldPoll = 2 * time.Second, 10 * time.Millisecond

// closeTimeout is how long a mount waits until the disk has what was written through the mount
// before it.
const closeTimeout = time.Minute

// closings are the descriptors of unmounted roots that are being closed, by directory: the last close
// of an overlay writes all new data of its file system to disk, which may take long.
type closings struct {
	mu    sync.Mutex
	byDir map[string]closing
}

type closing struct {
	since time.Time
	done  chan struct{}
}

// begin notes that a descriptor of a root is being closed, until end is called.
func (c *closings) begin(dir string) (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byDir == nil {
		c.byDir = map[string]closing{}
	}
	one := closing{time.Now(), make(chan struct{})}
	c.byDir[dir] = one
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.byDir[dir] == one {
			delete(c.byDir, dir)
		}
		close(one.done)
	}
}

// wait waits until no descriptor of a root is being closed.
func (c *closings) wait(dir string, timeout time.Duration) error {
	c.mu.Lock()
	one, busy := c.byDir[dir]
	c.mu.Unlock()
	if !busy {
		return nil
	}
	select {
	case <-one.done:
		return nil
	case <-time.After(timeout):
		return fmt.Errorf("the disk of %s has been writing what was changed there since %s; try again when it has", dir, one.since.Format(time.TimeOnly))
	}
}

// mountRoot mounts a merged root in place of what is mounted there.
func (s *server) mountRoot(c conn, q *request) error {
	if q.Overlay == nil {
		return errors.New("mount-root needs an overlay")
	}
	s.upgrade.RLock()
	defer s.upgrade.RUnlock()
	root := q.Overlay.Dir + "/root"
	if err := s.closings.wait(root, closeTimeout); err != nil {
		return err
	}
	if err := launch.UnmountRoot(root); err != nil {
		return err
	}
	for end := time.Now().Add(heldTimeout); ; time.Sleep(heldPoll) {
		m, err := s.launcher.MountRoot(q.Overlay)
		if errors.Is(err, launch.ErrHeld) && time.Now().Before(end) {
			continue
		}
		if err != nil {
			return err
		}
		fault.Point("keeper-root-mounted")
		return c.send(reply{Mounted: &m})
	}
}

// unmountRoot unmounts what is mounted at a directory. Whoever lets go of an overlay last writes
// all new data of its file system to disk: a descriptor, which is closed after the answer, makes
// that the keeper.
func (s *server) unmountRoot(c conn, q *request) error {
	if q.Dir == "" {
		return errors.New("unmount-root needs a directory")
	}
	s.upgrade.RLock()
	defer s.upgrade.RUnlock()
	if fd, err := unix.Open(q.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err == nil {
		end := s.closings.begin(q.Dir)
		defer func() {
			go func() {
				defer end()
				s.unmounting.Lock() // one after the other: the next has little to write then
				defer s.unmounting.Unlock()
				unix.Close(fd)
			}()
		}()
	}
	if err := launch.UnmountRoot(q.Dir); err != nil {
		return err
	}
	return c.send(reply{})
}

// MountRoot mounts a merged root, in place of what is mounted there. It returns launch.ErrHeld if
// another mount still uses the private files.
func (k Client) MountRoot(ctx context.Context, o *launch.Overlay) (launch.Mounted, error) {
	r, err := k.call(ctx, request{Op: "mount-root", Overlay: o})
	if err == nil && r.Mounted == nil {
		err = errNoReply
	}
	if err != nil {
		return launch.Mounted{}, err
	}
	return *r.Mounted, nil
}

// UnmountRoot unmounts everything that is mounted at a directory.
func (k Client) UnmountRoot(ctx context.Context, dir string) error {
	_, err := k.call(ctx, request{Op: "unmount-root", Dir: dir})
	return err
}
