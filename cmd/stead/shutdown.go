package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"stead/runtime"
	"stead/runtime/status"
	"stead/runtime/store"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"
)

func (a *app) shutdownCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "shutdown",
		Short: "End the daemon and all containers, as the host goes down",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout < killReserve {
				return exitWith(exitUsage, "--timeout %s: want %s or more", timeout, killReserve)
			}
			return a.shutdown(cmd.Context(), timeout)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 80*time.Second, "total time, after which the remaining containers are killed")
	return cmd
}

// shutdown ends the daemon, if one is running, and then all containers. It does not record that
// they are stopped, so that the next daemon starts them again.
func (a *app) shutdown(ctx context.Context, timeout time.Duration) error {
	end := time.Now().Add(timeout)
	unlock, err := a.takeOver(ctx, timeout/2)
	if err != nil {
		return err
	}
	defer unlock()
	log := a.log(slog.LevelInfo)
	rt, err := a.open(ctx, runtime.Options{Log: log})
	if err != nil {
		return err
	}
	defer rt.Close()
	return errors.Join(stopAll(ctx, rt, log, "the host goes down", end), rt.QuitKeeper(context.WithoutCancel(ctx)))
}

// takeOver takes the lock of the state directory from the process that has it, which it tells to
// end.
func (a *app) takeOver(ctx context.Context, atMost time.Duration) (unlock func(), err error) {
	told := map[int]bool{}
	err = whileLocked(ctx, atMost, func() error {
		unlock, err = store.Lock(a.stateDir)
		var locked *store.Locked
		if errors.As(err, &locked) && locked.Pid > 1 && !told[locked.Pid] {
			told[locked.Pid] = true
			_ = syscall.Kill(locked.Pid, syscall.SIGTERM)
		}
		return err
	})
	return unlock, err
}

const (
	// killReserve is the part of a total time in which what is left is killed.
	killReserve = 2 * time.Second
	// waitingNote is how often the containers that are waited for are logged.
	waitingNote = 5 * time.Second
)

// stopAll stops all running containers with their own settings, those that started last first,
// many at a time, and kills what is left shortly before end (never, if that is zero). A
// signal ends it early: the containers that are left run on.
func stopAll(ctx context.Context, rt *runtime.Runtime, log *slog.Logger, cause string, end time.Time) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	again := make(chan os.Signal, 1)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(again)
	running := slices.DeleteFunc(rt.List(), func(s *status.Status) bool { return s.State != status.Running && s.State != status.Stopping })
	slices.SortFunc(running, func(a, b *status.Status) int {
		return cmp.Or(b.StartedAt.Compare(a.StartedAt), cmp.Compare(b.Name, a.Name))
	})
	left := remaining{names: map[string]bool{}}
	for _, s := range running {
		left.names[s.Name] = true
	}
	var stops multierror.Group
	slots := make(chan struct{}, 32)
	done := make(chan error)
	go func() {
		for _, s := range running {
			slots <- struct{}{}
			log.Info("stopping", "container", s.Name, "timeout", time.Duration(s.Applied.Spec.Stop.Timeout), "cause", cause)
			stops.Go(func() error {
				defer func() { <-slots }()
				began := time.Now()
				o, ctx := status.StopOptions{}, ctx
				if !end.IsZero() {
					var cancel context.CancelFunc
					ctx, cancel = context.WithDeadline(ctx, end) // a process that can't be killed must not hold up the host
					defer cancel()
					o.AtMost = max(time.Until(end)-killReserve, time.Millisecond)
				}
				err := rt.Stop(ctx, s.Name, o)
				if err == nil {
					left.remove(s.Name)
					log.Info("done", "container", s.Name, "action", "stop", "cause", cause, "took", time.Since(began).Round(time.Millisecond))
				}
				return err
			})
		}
		done <- stops.Wait().ErrorOrNil()
	}()
	note := time.NewTicker(waitingNote)
	defer note.Stop()
	for {
		select {
		case err := <-done:
			if err == nil {
				log.Info("all containers are stopped")
			}
			return err
		case <-note.C:
			log.Info("waiting for containers to end", "containers", left.list())
		case s := <-again:
			log.Warn("ended by a second signal; these containers may run on", "signal", s.String(), "containers", left.list())
			return fmt.Errorf("ended by a second signal (%s); may still run: %v", s, left.list())
		}
	}
}

// remaining are the containers that a stop of all is waiting for.
type remaining struct {
	mu    sync.Mutex
	names map[string]bool
}

func (r *remaining) remove(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.names, name)
}

func (r *remaining) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for name := range r.names {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}
