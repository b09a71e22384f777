package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"stead/reconcile"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"
)

func (a *app) purgeCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "purge NAME…",
		Short:             "Delete the data of removed containers permanently",
		Args:              args(1, math.MaxInt, "purge needs the names of removed containers; stead ps --removed lists them"),
		ValidArgsFunction: a.completeRemoved,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.change(cmd, names, func(ctx context.Context, h *host) error {
				var failed *multierror.Error
				for _, name := range names {
					gone, err := h.Purge(ctx, name)
					for _, entry := range gone {
						fmt.Fprintln(a.out, entry, "deleted")
					}
					if errors.Is(err, reconcile.ErrNoContainer) {
						err = exitWith(exitMissing, "no removed container %s; stead ps --removed lists them", name)
					}
					failed = multierror.Append(failed, err)
				}
				return failed.ErrorOrNil()
			})
		},
	}
}

// completeRemoved completes the names and entries of removed containers.
func (a *app) completeRemoved(cmd *cobra.Command, _ []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	all, err := a.removed()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	for _, r := range all {
		names = append(names, r.Name, r.Entry)
	}
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
}
