package runtime

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"stead/runtime/cgroup"
	"stead/runtime/keeper"
	"stead/runtime/store"
)

// supervisor keeps a keeper running and watches it: it starts one where none answers,
// upgrades one of another binary, thaws a frozen one, and watches for the ends of runs.
type supervisor struct {
	keeper.Client
	host              *cgroup.Host
	holds             *store.Holds
	log               *slog.Logger
	upgrade, readOnly bool
	ended             func(id string) // is called in a goroutine of its own for each run that ended
	replaced          func()          // is called when another keeper has taken the place of one that died, or a silent one answers again
	changed           func()          // is called after the keeper fell silent or answers again

	ctx    context.Context
	cancel context.CancelFunc
	tasks  *sync.WaitGroup // of the runtime

	starting sync.Mutex  // held while find looks for a keeper, starts it and connects to it
	watching atomic.Bool // the keeper reports ends; false as soon as it is gone
	outdated atomic.Bool // the keeper could not be upgraded; each check tries again
	lenient  atomic.Bool // the keeper leaves out what it does not know, instead of refusing it
	awaited  atomic.Bool // awaitAnswer runs
}

// group returns the keeper's own cgroup leaf. No container's name has a '_', and each
// instance below the same parent has a leaf of its own.
func (s *supervisor) group() *cgroup.Group {
	h := fnv.New32a()
	h.Write([]byte(s.host.Owner))
	return s.host.Group(fmt.Sprintf("_keeper-%08x", h.Sum32()))
}

// ensure makes sure that a keeper runs, answers and is watched. The error wraps
// keeper.ErrSilent if it lives and does not answer.
func (s *supervisor) ensure(ctx context.Context) error {
	if err := s.thaw(); err != nil {
		return err
	}
	if e := s.Health.Silent(); e != nil {
		return e
	}
	if s.watching.Load() { // the watch would have ended with the keeper
		return nil
	}
	return s.find(ctx)
}

// find is ensure without a look at the watch: the caller has just seen that no keeper answers.
func (s *supervisor) find(ctx context.Context) error {
	s.starting.Lock()
	defer s.starting.Unlock()
	pid, started, err := s.Ensure(ctx)
	var silent *keeper.SilentError
	if errors.As(err, &silent) {
		s.awaitAnswer(silent)
	}
	if err != nil {
		return err
	}
	if started {
		s.log.Info("keeper started", "pid", pid)
		if err := s.host.ReleaseAll(); err != nil { // held by the keeper before it
			s.log.Error("cannot thaw containers", "error", err)
		}
		s.place(pid)
	} else if s.upgrade {
		if err := keeper.RaiseLimit(pid); err != nil { // before the upgrade, as the new binary may need more
			s.log.Warn("cannot raise the keeper's limit of open files", "error", err)
		}
		s.upgradeKeeper(ctx)
	}
	features, err := s.Features(ctx)
	if err != nil {
		return err
	}
	s.lenient.Store(!slices.Contains(features, keeper.Strict))
	if s.readOnly || s.watching.Load() { // only the daemon records ends: our facts may be out of date by then
		return nil
	}
	return s.watch()
}

// upgradeKeeper makes a keeper of another binary execute ours. If that fails, the next call
// of find tries again.
func (s *supervisor) upgradeKeeper(ctx context.Context) {
	current, err := s.Current(ctx)
	if err == nil && !current {
		if err = s.Upgrade(ctx); err == nil {
			s.log.Info("keeper upgraded")
		}
	}
	if failedBefore := s.outdated.Swap(err != nil); err != nil && !failedBefore { // once, not on every tick
		s.log.Warn("cannot upgrade keeper; will be retried", "error", err)
	}
}

// place moves the keeper into a leaf cgroup of its own, so that its memory and CPU time
// are not charged to the process that started it.
func (s *supervisor) place(pid int) {
	_, err := s.group().Create(cgroup.NoLimits())
	if err == nil {
		err = s.group().Add([]int{pid})
	}
	if err != nil {
		s.log.Warn("cannot move keeper into its own cgroup; it stays in the cgroup of the process that started it", "error", err)
	}
}

// watch returns as soon as the keeper reports ends. The caller holds starting.
func (s *supervisor) watch() error {
	up := make(chan struct{})
	failed := make(chan error, 1)
	s.tasks.Go(func() {
		ctx, cancel := context.WithCancel(s.ctx)
		monitor := make(chan struct{})
		wasUp := false
		err := s.Watch(s.ctx, func(int) {
			wasUp = true
			s.watching.Store(true)
			s.tasks.Go(func() { defer close(monitor); s.monitor(ctx) })
			close(up)
		}, func(id string) {
			s.tasks.Go(func() { s.ended(id) }) // a slow clean-up must not delay other ends
		})
		s.watching.Store(false)
		cancel()
		if wasUp {
			<-monitor // it has forgotten what it knew of this keeper
		}
		failed <- err
		if wasUp && s.ctx.Err() == nil { // else the caller of watch tries again
			s.log.Warn("keeper is gone; starting another", "error", err)
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

// monitor notes whether the keeper answers, for as long as it lives. One that was frozen by hand
// is thawed by the next check.
func (s *supervisor) monitor(ctx context.Context) {
	defer s.changed()
	_ = s.Monitor(ctx, func(e *keeper.SilentError) {
		s.changed()
		if e != nil {
			s.log.Error("keeper does not answer", "error", e)
			return
		}
		s.log.Info("keeper answers again")
		s.tasks.Go(s.replaced)
	})
}

// awaitAnswer watches a keeper that is silent now as soon as it answers or is replaced.
func (s *supervisor) awaitAnswer(e *keeper.SilentError) {
	if s.readOnly || s.awaited.Swap(true) {
		return
	}
	s.log.Error("keeper does not answer", "error", e)
	s.Health.Set(e) // at once: the next requests need not find out by themselves
	s.changed()
	s.tasks.Go(func() {
		ctx, cancel := context.WithCancel(s.ctx)
		defer cancel()
		_ = s.Monitor(ctx, func(*keeper.SilentError) { cancel() }) // it answers
		s.awaited.Store(false)
		s.changed()
		if s.ctx.Err() == nil {
			s.revive()
		}
	})
}

// revive finds or starts another keeper, which adopts what runs. If that keeper is silent,
// awaitAnswer goes on with it.
func (s *supervisor) revive() {
	for wait := 100 * time.Millisecond; s.ctx.Err() == nil; wait = min(2*wait, time.Minute) {
		err := s.ensure(s.ctx)
		if err == nil {
			s.replaced()
		}
		if err == nil || errors.Is(err, keeper.ErrSilent) {
			return
		}
		s.log.Error("cannot start another keeper", "error", err)
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
		}
	}
}

// thaw thaws the keeper's cgroup and the parent cgroup if they were frozen by hand, as a
// frozen keeper answers no request. It leaves the parent cgroup frozen while the host is
// on hold: the hold may be for that.
func (s *supervisor) thaw() error {
	var err error
	switch {
	case !s.host.ParentFrozen():
	case s.holds.Holds().Host != nil:
		return fmt.Errorf("cgroup %s, with all containers and the keeper, is frozen, and this host is on hold; run: stead release", s.host.Parent)
	default:
		s.log.Warn("all containers were frozen by hand; thawing them", "cgroup", s.host.Parent)
		err = s.host.ThawParent()
	}
	own := s.group()
	if own.Frozen() {
		s.log.Warn("the keeper was frozen by hand; thawing it")
		err = errors.Join(err, own.Thaw())
	}
	return err
}

// check is ensure for a tick: it also lets the keeper make its socket again if that was
// deleted.
func (s *supervisor) check(ctx context.Context) error {
	if _, err := os.Lstat(keeper.Socket(s.Run)); errors.Is(err, os.ErrNotExist) && s.watching.Load() {
		s.log.Warn("the keeper's socket was deleted by hand; making it again")
		return s.find(ctx)
	}
	if s.outdated.Load() {
		return s.find(ctx)
	}
	return s.ensure(ctx)
}

// mayStart returns an error if the keeper would leave out what it does not know of a start.
func (s *supervisor) mayStart() error {
	if s.lenient.Load() {
		return &keeper.OlderKeeperError{Message: "the keeper is of an older stead, which would leave out parts of the manifest"}
	}
	return nil
}

// quit ends a keeper that holds no container, and removes its cgroups.
func (s *supervisor) quit(ctx context.Context) error {
	pid, _, err := s.Ping(ctx)
	if errors.Is(err, keeper.ErrNoKeeper) {
		return s.host.RemoveParent() // jobs may have made it
	}
	s.cancel()
	s.tasks.Wait()
	if err := s.Quit(ctx); err != nil {
		return fmt.Errorf("end keeper: %w", err)
	}
	return errors.Join(waitGone(ctx, pid), s.group().Remove(), s.host.RemoveParent())
}
