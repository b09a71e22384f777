package main

import (
	"context"
	"errors"
	"fmt"

	"stead/reconcile/plan"

	"github.com/spf13/cobra"
)

// actCommand returns the command for a verb that acts on containers by name; past is
// the verb's past tense.
func (a *app) actCommand(verb plan.Verb, past, short string) *cobra.Command {
	var selector string
	cmd := &cobra.Command{
		Use: string(verb) + " NAME…", Short: short,
		ValidArgsFunction: a.completeNames,
		Args:              needNames(&selector),
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.act(cmd, verb, past, names, selector)
		},
	}
	selectorFlag(cmd, &selector)
	return cmd
}

// act does a verb to containers and prints which of them it was done to.
func (a *app) act(cmd *cobra.Command, verb plan.Verb, past string, names []string, selector string) error {
	names, err := a.selectNames(cmd.Context(), names, selector)
	if err != nil {
		return err
	}
	return a.change(cmd, names, func(ctx context.Context, h *host) error {
		r, err := h.Do(ctx, verb, names)
		if err != nil {
			return err
		}
		for _, c := range r.Containers {
			if c.Error != "" {
				continue
			}
			fmt.Fprintln(a.out, c.Name, past)
			if c.Note != "" {
				fmt.Fprintf(a.err, "stead: %s %s %s\n", c.Name, past, c.Note)
			}
		}
		return r.Err()
	})
}

// reloadCommand returns the verb of two things: with names it reloads containers, without any
// the daemon.
func (a *app) reloadCommand() *cobra.Command {
	var selector string
	cmd := &cobra.Command{
		Use: "reload [NAME…]", Short: "Reload containers, or the daemon itself",
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, names []string) error {
			if len(names) > 0 || selector != "" {
				return a.act(cmd, plan.Reload, "reloaded", names, selector)
			}
			h, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			if h == nil {
				return errors.New("no daemon is running; start it, or use stead apply")
			}
			return h.Reload(cmd.Context())
		},
	}
	selectorFlag(cmd, &selector)
	return cmd
}
