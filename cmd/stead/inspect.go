package main

import (
	"maps"
	"path/filepath"
	"slices"

	"stead/reconcile/view"
	"stead/runtime"
	"stead/runtime/cgroup"
	"stead/runtime/status"
	"stead/spec"

	"github.com/spf13/cobra"
)

func (a *app) inspectCommand() *cobra.Command {
	var output string
	var showEnv bool
	cmd := &cobra.Command{
		Use:   "inspect NAME",
		Short: "Print all that is known about a container",
		Long: `inspect prints all that is known about a container: how it stands, the manifest
that was last applied, its directories, cgroups and ids, and what a running one
uses (sizes in bytes, times in seconds) and waits for (pressure, in percent). The
values of its environment are hidden, as they may be secrets.`,
		ValidArgsFunction: a.completeNames,
		Args:              cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("output", output, "json", "yaml"); err != nil {
				return err
			}
			report, _, err := a.status(cmd.Context())
			if err != nil {
				return err
			}
			rt, err := a.openOnly(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer rt.Close()
			views, err := pick(report.Containers, args, "")
			if err != nil {
				return err
			}
			v := inspectView{APIVersion: spec.APIVersion, Status: views[0]}
			if d, err := rt.Inspect(args[0]); err == nil { // else a manifest that gave no container
				v.fill(a, d, showEnv)
			}
			if output == "yaml" {
				return printYAML(a.out, v)
			}
			return printJSON(a.out, v)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "json", "json or yaml")
	cmd.Flags().BoolVar(&showEnv, "show-env", false, "show the values of the environment")
	return cmd
}

// inspectView is a container in full. It only ever grows fields.
type inspectView struct {
	APIVersion string             `json:"apiVersion"`
	Status     view.Container     `json:"status"`
	Manifest   *spec.Container    `json:"manifest"` // as applied; null before the first time
	Unapplied  []status.Unapplied `json:"unapplied,omitempty"`
	Drift      status.Differences `json:"drift,omitempty"`
	Paths      *pathsView         `json:"paths,omitempty"`
	Cgroups    []string           `json:"cgroups"`
	Usage      *cgroup.Usage      `json:"usage,omitempty"` // of a running container; sizes in bytes, times in seconds
	IDs        *idsView           `json:"ids,omitempty"`
}

type pathsView struct {
	State string `json:"state"` // the container's directory
	Root  string `json:"root"`
	Log   string `json:"log"`
}

// idsView says which ids of the host stand for those inside.
type idsView struct {
	Host  uint32 `json:"host"` // of its root; 0 without a user namespace
	Count int    `json:"count"`
	Nonce string `json:"nonce,omitempty"` // of the current or last start
}

func (v *inspectView) fill(a *app, d runtime.Details, showEnv bool) {
	m := *d.Status.Applied
	if !showEnv {
		m.Spec.Env = maps.Clone(m.Spec.Env)
		for key := range m.Spec.Env {
			m.Spec.Env[key] = "(hidden)"
		}
	}
	v.Manifest, v.Unapplied, v.Drift = &m, d.Status.Unapplied, d.Status.Drift
	v.Paths = &pathsView{State: filepath.Join(a.stateDir, "containers", d.Status.Name), Root: d.Root, Log: d.LogDir}
	v.Cgroups = slices.DeleteFunc(d.Cgroups, func(dir string) bool { return dir == "" })
	slices.Sort(v.Cgroups)
	v.Usage = d.Usage
	v.IDs = &idsView{Host: d.IDBase, Count: 65536, Nonce: d.Nonce}
	if d.IDBase == 0 {
		v.IDs.Count = 0
	}
}
