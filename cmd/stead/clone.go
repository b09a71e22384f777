package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"stead/runtime"
	"stead/runtime/backup"
	"stead/runtime/status"
	"stead/spec"

	"github.com/spf13/cobra"
)

func (a *app) cloneCommand() *cobra.Command {
	var o runtime.CloneOptions
	var dir string
	cmd := &cobra.Command{
		Use:               "clone NAME NEW",
		Short:             "Make a container like another, with a copy of its data",
		Args:              args(2, 2, "clone needs the name of a container and a new name"),
		ValidArgsFunction: a.completeNames,
	}
	f := cmd.Flags()
	f.BoolVar(&o.KeepIdentity, "keep-identity", false, "keep the machine-id and the host keys of an SSH server")
	f.StringVar(&dir, "manifests-dir", "", "directory for the manifest")
	f.DurationVar(&o.MaxFreeze, "max-freeze", 5*time.Second, "how long a running container may stand still; a clone that takes longer fails")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		o.Name, o.As = names[0], names[1]
		if err := spec.CheckName(o.As); err != nil {
			return usage(cmd, err)
		}
		if o.MaxFreeze < time.Millisecond {
			return usage(cmd, fmt.Errorf("--max-freeze %v: want a time such as 5s", o.MaxFreeze))
		}
		return a.clone(cmd, o, dir)
	}
	return cmd
}

// clone copies the data of a container, puts the copy in place, and writes a manifest for it.
func (a *app) clone(cmd *cobra.Command, o runtime.CloneOptions, dir string) error {
	ctx := cmd.Context()
	if err := a.isFree(ctx, o.As); err != nil {
		return err
	}
	rt, err := a.openOnly(ctx)
	if err != nil {
		return err
	}
	defer rt.Close()
	staging, err := backup.NewStaging(a.stateDir)
	if err != nil {
		return err
	}
	renewed, err := rt.Clone(ctx, staging, o)
	switch {
	case errors.Is(err, status.ErrMissing):
		err = a.missing(ctx, o.Name)
	case err != nil:
		err = fmt.Errorf("clone %s: %w", o.Name, err)
	default:
		err = a.placeRestored(cmd, staging, restoreOptions{as: o.As, manifestsDir: dir}, func(*backup.Staged, string) {
			fmt.Fprintf(a.out, "%s has a copy of the data of %s\n", o.As, o.Name)
			if len(renewed) > 0 {
				fmt.Fprintf(a.out, "  anew: %s\n", clean(strings.Join(renewed, ", ")))
			}
		})
	}
	return errors.Join(err, staging.Discard(context.WithoutCancel(ctx)))
}

// isFree returns an error if a name is in use.
func (a *app) isFree(ctx context.Context, name string) error {
	report, _, err := a.status(ctx)
	if err != nil {
		return err
	}
	for _, c := range report.Containers {
		if c.Name == name || c.Group == name {
			return fmt.Errorf("there is a container %s already", name)
		}
	}
	removed, err := a.removed()
	for _, r := range removed {
		if r.Name == name {
			return fmt.Errorf("there is data of a removed container %s, which this one would hide; run: stead purge %[1]s", name)
		}
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return err
}
