package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrBusy is returned where images are pulled, imported or just taken into use for longer than
// the caller wants to wait.
var ErrBusy = errors.New("images are being pulled or imported")

// Lease keeps every image from being deleted until it is released or this process ends. Who
// adds images, and who is about to record that a container uses one, holds a lease meanwhile.
func (s *Store) Lease(ctx context.Context) (release func(), err error) {
	return s.lock(ctx, unix.LOCK_SH, 0)
}

// lock locks the store. It waits at most for patience; 0 means until ctx ends.
func (s *Store) lock(ctx context.Context, how int, patience time.Duration) (release func(), err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("lock images: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock images: %w", err)
	}
	for began := time.Now(); ; {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if err == unix.EWOULDBLOCK && patience != 0 && time.Since(began) > patience {
			err = ErrBusy
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			f.Close()
			return nil, fmt.Errorf("lock images: %w", err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}
