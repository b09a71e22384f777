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
		Use:               "inspect NAME",
		Short:             "Print everything about a container",
		ValidArgsFunction: a.completeNames,
		Args:              args(1, 1, "inspect takes one name"),
		RunE: func(cmd *cobra.Command, args []string) error {
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
			if err := onlyOne(args[0], views); err != nil {
				return err
			}
			v := inspectView{APIVersion: spec.APIVersion, Status: views[0]}
			if d, err := rt.Inspect(args[0]); err == nil { // else a manifest without a container
				v.fill(a, d, showEnv)
			}
			if output == "yaml" {
				return printYAML(a.out, v)
			}
			return printJSON(a.out, v)
		},
	}
	outputFlag(cmd, &output, "json", "yaml")
	cmd.Flags().BoolVar(&showEnv, "show-env", false, "show the values of environment variables and the content of files")
	return cmd
}

// inspectView is the JSON of a container. New versions only add fields.
type inspectView struct {
	APIVersion string             `json:"apiVersion"`
	Status     view.Container     `json:"status"`
	Manifest   *spec.Container    `json:"manifest"`        // as applied; null before the first time
	Image      *imageView         `json:"image,omitempty"` // of its root
	Unapplied  []status.Unapplied `json:"unapplied,omitempty"`
	Drift      status.Differences `json:"drift,omitempty"`
	Paths      *pathsView         `json:"paths,omitempty"`
	Cgroups    []string           `json:"cgroups"`
	Usage      *cgroup.Usage      `json:"usage,omitempty"` // of a running container; sizes in bytes, times in seconds
	IDs        *idsView           `json:"ids,omitempty"`
}

// imageView is the image of a container, and what comes of the manifest with what the image says.
type imageView struct {
	*status.ImageUse
	Runs runsView `json:"runs"`
}

type runsView struct {
	Command    []string             `json:"command"` // with its arguments
	Env        map[string]spec.Text `json:"env,omitempty"`
	User       spec.Text            `json:"user"`
	WorkingDir string               `json:"workingDir"`
	StopSignal string               `json:"stopSignal"`
}

type pathsView struct {
	State string `json:"state"` // the container's directory
	Root  string `json:"root"`
	Log   string `json:"log"`
}

// idsView says which ids of the host the ids inside are mapped to.
type idsView struct {
	Host  uint32 `json:"host"` // of its root; 0 without a user namespace
	Count int    `json:"count"`
	Nonce string `json:"nonce,omitempty"` // of the current or last start
}

// hidden returns env without its values.
func hidden(env map[string]spec.Text) map[string]spec.Text {
	env = maps.Clone(env)
	for key := range env {
		env[key] = "(hidden)"
	}
	return env
}

// fill adds the details of a container.
func (v *inspectView) fill(a *app, d runtime.Details, showEnv bool) {
	m := *d.Status.Applied
	if s := d.Filled.Spec; d.Status.Image != nil && s.Rootfs.Image != "" {
		v.Image = &imageView{d.Status.Image, runsView{append(slices.Clone(s.Command), s.Args...), s.Env, s.User, s.WorkingDir, s.Stop.Signal}}
	}
	if !showEnv {
		m.Spec.Env = hidden(m.Spec.Env)
		if v.Image != nil {
			v.Image.Runs.Env = hidden(v.Image.Runs.Env)
		}
		m.Spec.Files = maps.Clone(m.Spec.Files)
		for path, f := range m.Spec.Files {
			if f.Content != nil {
				f.Content = new("(hidden)")
				m.Spec.Files[path] = f
			}
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
