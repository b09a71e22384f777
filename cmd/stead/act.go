package main

import (
	"context"
	"errors"
	"fmt"

	"stead/reconcile"
	"stead/reconcile/plan"

	"github.com/spf13/cobra"
)

func (a *app) restartCommand() *cobra.Command {
	return a.actCommand(plan.Restart, "Stop containers and start them again, with their manifests as they are now",
		`restart stops containers and starts them again; a manifest that changed is applied.`)
}

func (a *app) stopCommand() *cobra.Command {
	return a.actCommand(plan.Stop, "Stop containers until they are started again",
		`stop ends the processes of containers. They stay stopped, through restarts of the
daemon and of the host, until stead start. Their manifests are not touched.`)
}

func (a *app) startCommand() *cobra.Command {
	return a.actCommand(plan.Start, "Start containers that were stopped",
		`start starts containers that stead stop has stopped, or that have ended.`)
}

func (a *app) actCommand(verb plan.Verb, short, long string) *cobra.Command {
	var selector string
	cmd := &cobra.Command{
		Use: string(verb) + " NAME…", Short: short, Long: long,
		ValidArgsFunction: a.completeNames,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 && selector == "" {
				return errors.New("want the names of containers, or -l with a selector")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.act(cmd.Context(), verb, args, selector)
		},
	}
	cmd.Flags().StringVarP(&selector, "selector", "l", "", selectorHelp)
	return cmd
}

func (a *app) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reload", Short: "Make the daemon look at everything again, now", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			if h == nil {
				return errors.New("no daemon runs; start it, or use stead apply")
			}
			return h.Reload(cmd.Context())
		},
	}
}

// completeNames completes the names of containers.
func (a *app) completeNames(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	r, _, err := a.status(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, c := range r.Containers {
		names = append(names, c.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// act carries out a verb for containers by name.
func (a *app) act(ctx context.Context, verb plan.Verb, names []string, selector string) error {
	h, err := a.forChange(ctx)
	if err != nil {
		return err
	}
	var r reconcile.Result
	if names, err = named(ctx, h, names, selector); err == nil {
		r, err = h.Do(ctx, verb, names)
	}
	if err := errors.Join(err, h.close(ctx)); err != nil {
		return err
	}
	done := map[plan.Verb]string{plan.Restart: "restarted", plan.Stop: "stopped", plan.Start: "started"}
	for _, c := range r.Containers {
		if c.Error == "" {
			fmt.Fprintln(a.out, c.Name, done[verb])
			if c.Note != "" {
				fmt.Fprintf(a.err, "stead: %s %s %s\n", c.Name, done[verb], c.Note)
			}
		}
	}
	return r.Err()
}

// named are the names that were given, and those that a selector selects.
func named(ctx context.Context, h *host, names []string, selector string) ([]string, error) {
	if selector == "" {
		return names, nil
	}
	report, err := h.Status(ctx)
	if err != nil {
		return nil, err
	}
	views, err := pick(report.Containers, nil, selector)
	if err != nil {
		return nil, err
	}
	for _, v := range views {
		if !v.CreatedAt.IsZero() { // a manifest that gave no container has nothing to stop
			names = append(names, v.Name)
		}
	}
	if len(names) == 0 {
		return nil, exitWith(exitMissing, "no container has the labels %s; stead ps lists them", selector)
	}
	return names, nil
}
