package runtime

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"stead/runtime/cgroup"
	"stead/runtime/keeper"
	"stead/runtime/store"
)

// supervisor keeps a keeper running and watches it: it starts one where none answers,
// has it become one of this binary, thaws it, and asks to be told of ends.
type supervisor struct {
	keeper.Client
	host              *cgroup.Host
	holds             *store.Holds
	log               *slog.Logger
	upgrade, readOnly bool
	ended             func(id string) // is called in a goroutine of its own for each run that ended
	replaced          func()          // is called when another keeper has taken the place of one that died

	ctx    context.Context
	cancel context.CancelFunc
	tasks  *sync.WaitGroup // of the runtime

	starting sync.Mutex  // held while a keeper is looked for, started and connected to
	watching atomic.Bool // ends are told; false as soon as the keeper is gone
}

// group is the keeper's own cgroup leaf: no container's name has a '_', and another
// instance below the same parent has another one.
func (s *supervisor) group() *cgroup.Group {
	h := fnv.New32a()
	h.Write([]byte(s.host.Owner))
	return s.host.Group(fmt.Sprintf("_keeper-%08x", h.Sum32()))
}

// ensure makes sure that a keeper runs and is watched.
func (s *supervisor) ensure(ctx context.Context) error {
	if err := s.thaw(); err != nil {
		return err
	}
	if s.watching.Load() { // it would have been told that the keeper is gone
		return nil
	}
	return s.find(ctx)
}

// find is ensure for who has just seen that no keeper answers.
func (s *supervisor) find(ctx context.Context) error {
	s.starting.Lock()
	defer s.starting.Unlock()
	pid, started, err := s.Ensure(ctx)
	if err != nil {
		return err
	}
	if started {
		s.log.Info("keeper started", "pid", pid)
		s.place(pid)
	} else if s.upgrade {
		if err := keeper.RaiseLimit(pid); err != nil { // before it becomes another, which may need more
			s.log.Warn("the keeper's limit of open files stays as it is", "error", err)
		}
		s.upgradeKeeper(ctx)
	}
	if s.readOnly || s.watching.Load() { // who decides takes note of ends: our facts may be out of date by then
		return nil
	}
	return s.watch()
}

// upgradeKeeper has a keeper of another binary become one of ours. If it can't
// now it is asked again when it is next looked for.
func (s *supervisor) upgradeKeeper(ctx context.Context) {
	current, err := s.Current(ctx)
	if err == nil && !current {
		if err = s.Upgrade(ctx); err == nil {
			s.log.Info("keeper upgraded")
		}
	}
	if err != nil {
		s.log.Warn("keeper stays as it is", "error", err)
	}
}

// place puts the keeper into a leaf group of its own: what it uses is not charged
// to whoever happened to start it.
func (s *supervisor) place(pid int) {
	_, err := s.group().Create(cgroup.NoLimits())
	if err == nil {
		err = s.group().Add([]int{pid})
	}
	if err != nil {
		s.log.Warn("keeper stays in its starter's cgroup", "error", err)
	}
}

// watch returns when the keeper tells of ends. The caller holds starting.
func (s *supervisor) watch() error {
	up := make(chan struct{})
	failed := make(chan error, 1)
	s.tasks.Go(func() {
		wasUp := false
		err := s.Watch(s.ctx, func(int) { wasUp = true; s.watching.Store(true); close(up) }, func(id string) {
			s.tasks.Go(func() { s.ended(id) }) // a slow clean-up holds nobody up
		})
		s.watching.Store(false)
		failed <- err
		if wasUp && s.ctx.Err() == nil { // else whoever asked tries again
			s.log.Warn("keeper is gone", "error", err)
			s.revive()
		}
	})
	select {
	case <-up:
		return nil
	case err := <-failed:
		return err
	}
}

// revive starts another keeper, which adopts what runs.
func (s *supervisor) revive() {
	for wait := 100 * time.Millisecond; s.ctx.Err() == nil; wait = min(2*wait, time.Minute) {
		err := s.ensure(s.ctx)
		if err == nil {
			s.replaced()
			return
		}
		s.log.Error("start another keeper", "error", err)
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
		}
	}
}

// thaw lets the keeper go on where somebody froze it, by its own group or with all
// containers by the one that they are in: it would answer nobody. While the host is
// on hold the latter may be what the hold is for.
func (s *supervisor) thaw() error {
	var err error
	switch {
	case !s.host.ParentFrozen():
	case s.holds.Holds().Host != nil:
		return fmt.Errorf("cgroup %s with all containers and the keeper is frozen, and this host is on hold", s.host.Parent)
	default:
		s.log.Warn("all containers were frozen by hand: they go on", "cgroup", s.host.Parent)
		err = s.host.ThawParent()
	}
	own := s.group()
	if own.Frozen() {
		s.log.Warn("the keeper was frozen by hand: it goes on")
		err = errors.Join(err, own.Thaw())
	}
	return err
}

// check is ensure for a tick: it also makes a socket again that was deleted.
func (s *supervisor) check(ctx context.Context) error {
	if _, err := os.Lstat(keeper.Socket(s.Run)); errors.Is(err, os.ErrNotExist) && s.watching.Load() {
		s.log.Warn("the keeper's socket was deleted by hand: it is made again")
		return s.find(ctx)
	}
	return s.ensure(ctx)
}

// quit ends a keeper that holds nothing, and removes what it leaves behind.
func (s *supervisor) quit(ctx context.Context) error {
	pid, _, err := s.Ping(ctx)
	if errors.Is(err, keeper.ErrNoKeeper) {
		return nil
	}
	s.cancel()
	s.tasks.Wait()
	if err := s.Quit(ctx); err != nil {
		return fmt.Errorf("end keeper: %w", err)
	}
	return errors.Join(waitGone(ctx, pid), s.group().Remove(), s.host.RemoveParent())
}
