package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"stead/reconcile"

	"github.com/spf13/cobra"
)

func (a *app) holdCommand() *cobra.Command {
	var o reconcile.HoldOptions
	cmd := &cobra.Command{
		Use:               "hold [NAME…]",
		Short:             "Pause reconciliation of containers, or of the whole host",
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, names []string) error {
			if strings.ContainsFunc(o.Reason, func(r rune) bool { return r == '\t' || isControl(r) }) {
				return exitWith(exitUsage, "--reason %q: want one line of plain text", o.Reason)
			}
			o.Names = names
			return a.change(cmd, names, func(ctx context.Context, h *host) error {
				err := h.Hold(ctx, o)
				if err == nil {
					fmt.Fprintln(a.out, orHost(names), "on hold")
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&o.Reason, "reason", "", "why; ps and status show it")
	return cmd
}

func (a *app) releaseCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "release [NAME…]",
		Short:             "Resume reconciliation after a hold",
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.change(cmd, names, func(ctx context.Context, h *host) error {
				err := h.Release(ctx, names)
				if err == nil {
					fmt.Fprintln(a.out, orHost(names), "released")
				}
				return err
			})
		},
	}
}

// change calls do with a host that may be changed. names are the containers that do
// acts on, for its errors.
func (a *app) change(cmd *cobra.Command, names []string, do func(context.Context, *host) error) error {
	ctx := cmd.Context()
	h, err := a.forChange(ctx)
	if err != nil {
		return err
	}
	return errors.Join(h.explain(ctx, do(ctx, h), names), h.close(ctx))
}

// explain says what to do about an error of the host.
func (h *host) explain(ctx context.Context, err error, names []string) error {
	switch {
	case errors.Is(err, context.Canceled) && h.daemon:
		return exitWith(exitFailure, "interrupted; the daemon continues: %s", strings.Join(append([]string{"stead status"}, names...), " "))
	case errors.Is(err, reconcile.ErrNoContainer):
		if r, e := h.Status(ctx); e == nil {
			return missing(names, r.Containers)
		}
	}
	return err
}

// orHost joins names for a message.
func orHost(names []string) string {
	if len(names) == 0 {
		return "this host"
	}
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(names))), ", ")
}
