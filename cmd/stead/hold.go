package main

import (
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
		Use:   "hold [NAME…]",
		Short: "Let containers be as they are until they are released",
		Long: `hold has the manifests of containers, or without names of the whole host, not
followed for a while: nothing is changed, created or removed, and what was changed
by hand stays. What was applied is kept up, by its restart policy too; stop, start
and restart work as ever. A hold outlasts restarts of the daemon and the host.`,
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := printable("--reason", o.Reason); err != nil {
				return err
			}
			o.Names = names
			return a.change(cmd, func(h *host) error {
				if err := h.Hold(cmd.Context(), o); err != nil {
					return err
				}
				fmt.Fprintln(a.out, orHost(names), "on hold")
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&o.Reason, "reason", "", "why, for whoever finds it on hold")
	return cmd
}

func (a *app) releaseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "release [NAME…]",
		Short: "Follow manifests again that were on hold",
		Long: `release ends the hold of containers, or without names that of the whole host. A
container's own hold outlasts the host's.`,
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.change(cmd, func(h *host) error {
				if err := h.Release(cmd.Context(), names); err != nil {
					return err
				}
				fmt.Fprintln(a.out, orHost(names), "released")
				return nil
			})
		},
	}
}

// change does something with whoever changes this host.
func (a *app) change(cmd *cobra.Command, do func(*host) error) error {
	h, err := a.forChange(cmd.Context())
	if err != nil {
		return err
	}
	return errors.Join(do(h), h.close(cmd.Context()))
}

func orHost(names []string) string {
	if len(names) == 0 {
		return "this host"
	}
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(names))), ", ")
}

// printable refuses what would not be one line in a table.
func printable(flag, text string) error {
	if strings.ContainsFunc(text, isControl) || strings.Contains(text, "\t") {
		return exitWith(exitUsage, "%s %q: want one line of plain text", flag, text)
	}
	return nil
}
