package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stead/reconcile/view"

	"github.com/spf13/cobra"
)

func (a *app) waitCommand() *cobra.Command {
	var goal, selector string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait NAME…",
		Short: "Wait for containers to run, be ready, complete or be removed",
		Long: `wait returns when all the containers named have come as far as --for says. One
that is not there yet is waited for. It fails at once if one of them can't come
there any more, and exits with 8 if the timeout is over.`,
		ValidArgsFunction: a.completeNames,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 && selector == "" {
				return errors.New("want the names of containers, or -l with a selector")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := oneOf("for", goal, "running", "ready", "completed", "removed"); err != nil {
				return err
			}
			w := waiter{app: a, goal: goal, names: names, selector: selector}
			return w.wait(cmd.Context(), timeout)
		},
	}
	f := cmd.Flags()
	f.StringVar(&goal, "for", "ready", "running, ready, completed or removed")
	f.DurationVar(&timeout, "timeout", time.Minute, "give up after so long; 0 waits for ever")
	f.StringVarP(&selector, "selector", "l", "", selectorHelp)
	return cmd
}

// waiter waits for some containers to reach a goal.
type waiter struct {
	*app
	goal, selector string
	names          []string
}

// look again after so long, first and at last: a daemon answers in a millisecond.
const (
	lookFirst = 20 * time.Millisecond
	lookLast  = 500 * time.Millisecond
)

func (w *waiter) wait(ctx context.Context, timeout time.Duration) error {
	began := time.Now()
	for pause := lookFirst; ; pause = min(2*pause, lookLast) {
		missing, err := w.missing(ctx)
		if err != nil || missing == "" {
			return err
		}
		if timeout > 0 && time.Since(began)+pause > timeout {
			return exitWith(exitTimeout, "not %s after %s: %s", w.goal, timeout, missing)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// missing says which container has not reached the goal, and how it stands; ""
// if all have.
func (w *waiter) missing(ctx context.Context) (string, error) {
	r, _, err := w.status(ctx)
	if err != nil {
		return "", err
	}
	views := map[string]*view.Container{}
	names := w.names
	selects, err := parseSelector(w.selector)
	if err != nil {
		return "", err
	}
	for i := range r.Containers {
		v := &r.Containers[i]
		views[v.Name] = v
		if w.selector != "" && selects(v.Labels) {
			names = append(names[:len(names):len(names)], v.Name)
		}
	}
	if len(names) == 0 && w.goal != "removed" {
		return "no container has the labels " + w.selector, nil
	}
	for _, name := range names {
		if missing, err := w.one(name, views[name]); missing != "" || err != nil {
			return missing, err
		}
	}
	return "", nil
}

func (w *waiter) one(name string, v *view.Container) (string, error) {
	if w.goal == "removed" {
		if v == nil || v.CreatedAt.IsZero() {
			return "", nil
		}
		return stands(v), nil
	}
	if v == nil {
		return name + " is not there", nil
	}
	switch {
	case w.goal == "running" && v.State == view.Running, w.goal == "ready" && v.Ready,
		w.goal == "completed" && v.State == view.Completed:
		return "", nil
	case v.State == view.Failed, v.State == view.Completed, v.State == view.Stopped:
		if v.Sync == view.Synced {
			return "", fmt.Errorf("%s, and will not be %s by itself", stands(v), w.goal)
		}
	}
	return stands(v), nil
}

// stands is how a container stands, in a clause.
func stands(v *view.Container) string {
	s := v.Name + " is " + string(v.State)
	if v.Why != "" {
		s += " (" + v.Why + ")"
	}
	return s
}
