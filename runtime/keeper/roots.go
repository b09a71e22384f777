package keeper

import (
	"context"
	"errors"
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

// mountRoot mounts a merged root in place of what is mounted there.
func (s *server) mountRoot(c conn, q *request) error {
	if q.Overlay == nil {
		return errors.New("mount-root needs an overlay")
	}
	s.upgrade.RLock()
	defer s.upgrade.RUnlock()
	if err := launch.UnmountRoot(q.Overlay.Dir + "/root"); err != nil {
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
		defer func() {
			go func() {
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
