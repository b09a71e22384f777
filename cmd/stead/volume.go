package main

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"stead/runtime"
	"stead/runtime/volume"
	"stead/spec"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"
)

func (a *app) volumeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "volume",
		Short: "List and delete volumes",
		Args:  unknownVerb,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.volumeListCommand(), a.volumeInspectCommand(), a.volumeRemoveCommand())
	return cmd
}

// volumeView is the JSON of a volume. New versions only add fields.
type volumeView struct {
	Name   string   `json:"name"`
	Path   string   `json:"path"`
	Size   int64    `json:"size"`   // bytes of the disk
	UsedBy []string `json:"usedBy"` // containers
}

// volumes returns the named volumes, or all.
func (a *app) volumes(cmd *cobra.Command, names ...string) ([]volumeView, error) {
	store := runtime.Volumes(a.stateDir)
	all, err := store.List()
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	users, err := runtime.VolumeUsers(a.stateDir)
	if err != nil {
		return nil, err
	}
	views := []volumeView{}
	for _, name := range all {
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		bytes, err := store.Size(cmd.Context(), name)
		if err != nil {
			return nil, fmt.Errorf("measure volume %s: %w", name, err)
		}
		views = append(views, volumeView{name, store.Path(name), bytes, append([]string{}, users[name]...)})
	}
	return views, nil
}

func (a *app) volumeListCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "list", Short: "List the volumes of this host", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			views, err := a.volumes(cmd)
			if err != nil {
				return err
			}
			if output != "table" {
				return printList(a.out, views, output, func(v volumeView) string { return v.Name })
			}
			var rows [][]string
			for _, v := range views {
				rows = append(rows, []string{v.Name, size(v.Size), strings.Join(v.UsedBy, ", ")})
			}
			return table(a.out, "NAME SIZE USED-BY", rows)
		},
	}
	outputFlag(cmd, &output, "table", "json", "yaml", "name")
	return cmd
}

func (a *app) volumeInspectCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "inspect NAME", Short: "Print everything about a volume",
		Args: args(1, 1, "volume inspect takes one name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			views, err := a.volumes(cmd, args[0])
			if err != nil {
				return err
			}
			if len(views) == 0 {
				return fmt.Errorf("volume %s: %w", args[0], volume.ErrMissing)
			}
			v := struct {
				APIVersion string `json:"apiVersion"`
				volumeView
			}{spec.APIVersion, views[0]}
			if output == "yaml" {
				return printYAML(a.out, v)
			}
			return printJSON(a.out, v)
		},
	}
	outputFlag(cmd, &output, "json", "yaml")
	return cmd
}

func (a *app) volumeRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME…", Short: "Delete volumes that no container uses, with all that is in them",
		Args: args(1, math.MaxInt, "volume remove needs names"),
		RunE: func(cmd *cobra.Command, names []string) error {
			var failed *multierror.Error
			for _, name := range names {
				if err := runtime.RemoveVolume(cmd.Context(), a.stateDir, name); err != nil {
					failed = multierror.Append(failed, err)
					continue
				}
				fmt.Fprintln(a.out, name, "removed")
			}
			return failed.ErrorOrNil()
		},
	}
}
