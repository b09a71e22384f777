package main

import (
	"context"
	"fmt"
	"time"

	"stead/reconcile/view"

	"github.com/spf13/cobra"
)

func (a *app) waitCommand() *cobra.Command {
	var goal, selector string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:               "wait NAME…",
		Short:             "Wait for containers to run, be ready, complete or be removed",
		ValidArgsFunction: a.completeNames,
		Args:              needNames(&selector),
		RunE: func(cmd *cobra.Command, names []string) error {
			w := waiter{app: a, goal: goal, names: names, selector: selector}
			return w.wait(cmd.Context(), timeout)
		},
	}
	f := cmd.Flags()
	choiceFlag(cmd, f, &goal, "for", "", "state to wait for: ", "ready", "running", "completed", "removed")
	f.DurationVar(&timeout, "timeout", time.Minute, "maximum time to wait; 0 for no limit")
	selectorFlag(cmd, &selector)
	return cmd
}

// waiter waits for some containers to reach a goal.
type waiter struct {
	*app
	goal, selector string
	names          []string
}

// The interval at which wait polls grows from pollFirst to pollLast.
const (
	pollFirst = 20 * time.Millisecond
	pollLast  = 500 * time.Millisecond
)

func (w *waiter) wait(ctx context.Context, timeout time.Duration) error {
	began := time.Now()
	for pause := pollFirst; ; pause = min(2*pause, pollLast) {
		missing, err := w.waitsFor(ctx)
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

// waitsFor returns the state of a container that has not reached the goal, or "" if all
// have.
func (w *waiter) waitsFor(ctx context.Context) (string, error) {
	r, _, err := w.status(ctx)
	if err != nil {
		return "", err
	}
	selects, err := parseSelector(w.selector)
	if err != nil {
		return "", err
	}
	names := namesOf(w.names, r.Containers)
	views := map[string]*view.Container{}
	for _, v := range r.Containers {
		if views[v.Name] = &v; w.selector != "" && selects(v.Labels) {
			names = append(names, v.Name)
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

// one is waitsFor for one container; v is nil if it does not exist.
func (w *waiter) one(name string, v *view.Container) (string, error) {
	switch {
	case w.goal == "removed":
		if v == nil || v.CreatedAt.IsZero() {
			return "", nil
		}
	case v == nil:
		return "there is no container " + name, nil
	case w.goal == "running" && v.State == view.Running, w.goal == "ready" && v.Ready,
		w.goal == "completed" && v.State == view.Completed:
		return "", nil
	case v.Sync == view.Synced && (v.State == view.Failed || v.State == view.Completed || v.State == view.Stopped):
		return "", fmt.Errorf("%s, and cannot become %s by itself", describe(v), w.goal)
	}
	return describe(v), nil
}

// describe says the state of a container, and why.
func describe(v *view.Container) string {
	s := v.Name + " is " + string(v.State)
	if v.Why != "" {
		s += " (" + v.Why + ")"
	}
	return s
}
