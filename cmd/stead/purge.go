package main

import (
	"errors"
	"fmt"
	"slices"

	"stead/reconcile"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"
)

func (a *app) purgeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "purge NAME…",
		Short: "Delete for good what is kept of removed containers",
		Long: `purge deletes what is kept of removed containers, at once and for good: all that
was removed under a name, or one entry as stead ps --removed lists it. A name that
is declared again starts afresh then. A container that is there is never touched.`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeRemoved,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.change(cmd, func(h *host) error {
				var failed *multierror.Error
				for _, name := range names {
					gone, err := h.Purge(cmd.Context(), name)
					for _, entry := range gone {
						fmt.Fprintln(a.out, entry, "deleted")
					}
					if errors.Is(err, reconcile.ErrNoContainer) {
						err = exitWith(exitMissing, "%s: nothing was removed by that name; stead ps --removed lists what is kept", name)
					}
					failed = multierror.Append(failed, err)
				}
				return failed.ErrorOrNil()
			})
		},
	}
}

// completeRemoved completes the names and entries of what purge can delete.
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
