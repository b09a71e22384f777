package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"stead/runtime/cgroup"
)

// freeze holds a container frozen until the client says thaw, ends its connection, or the time is
// over, whichever comes first: no client that dies leaves a container frozen.
func (s *server) freeze(c conn, q *request) error {
	limit := time.Duration(q.Millis) * time.Millisecond
	if q.Dir == "" || limit <= 0 {
		return errors.New("freeze needs a cgroup and a time")
	}
	held := false
	s.do(func() { _, held = s.byID[q.ID] })
	if !held {
		return fmt.Errorf("freeze %s: %w", q.ID, ErrMissing)
	}
	s.upgrade.RLock() // the next binary would not know of it
	defer s.upgrade.RUnlock()
	end := time.Now().Add(limit)
	if err := cgroup.Hold(q.Dir, limit); err != nil {
		return err
	}
	err := c.send(reply{})
	if err == nil {
		c.SetReadDeadline(end)
		var next request
		_, err = c.receiveRequest(&next)
		c.SetReadDeadline(time.Time{})
	}
	if released := cgroup.Release(q.Dir); released != nil {
		return released
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil // the client gets its answer when it asks
	}
	if err != nil {
		return nil // it is gone
	}
	return c.send(reply{})
}

// Frozen is a container that the keeper holds frozen for this process.
type Frozen struct {
	c   conn
	dir string
}

// Freeze freezes a container until Thaw, for atMost so long, or until this process ends. dir is
// its directory in the cgroup2 hierarchy.
func (k Client) Freeze(ctx context.Context, id, dir string, atMost time.Duration) (*Frozen, error) {
	c, err := k.dial()
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	c.SetDeadline(time.Now().Add(atMost + answerTimeout))
	err = c.send(request{Op: "freeze", ID: id, Dir: dir, Millis: atMost.Milliseconds()})
	var r reply
	if err == nil {
		_, err = c.receive(&r)
	}
	if err == nil {
		err = r.err()
	}
	if err != nil {
		c.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("freeze %s: %w", id, connectionError(err))
	}
	return &Frozen{c, dir}, nil
}

// Thaw thaws the container. The error wraps cgroup.ErrThawed if it did not stand still all the
// time.
func (f *Frozen) Thaw() error {
	defer f.c.Close()
	f.c.SetDeadline(time.Now().Add(answerTimeout))
	err := f.c.send(request{Op: "thaw"})
	var r reply
	if err == nil {
		_, err = f.c.receive(&r)
	}
	if err != nil { // the keeper is gone, or hangs
		err = connectionError(err)
		if cgroup.IsHeld(f.dir) {
			err = errors.Join(err, cgroup.Release(f.dir))
		}
		return fmt.Errorf("thaw: %w", err)
	}
	if r.Error != "" {
		return fmt.Errorf("%w (%s)", cgroup.ErrThawed, r.Error)
	}
	return nil
}
