package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"stead/reconcile"
	"stead/reconcile/plan"
	"stead/reconcile/view"
	"stead/spec"

	"github.com/spf13/cobra"
)

func (a *app) applyCommand() *cobra.Command {
	var o reconcile.ApplyOptions
	var output string
	var exitCode bool
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Make this host as declared now, and wait until it is",
		Long: `apply reads the manifests, does what has to be done, by the daemon where one
runs, and returns when all is as declared, failed, or held.

Removals that look like an accident are held until they are confirmed:
  stead apply --confirm-removal=web,db     these two
  stead apply --confirm-removal=all        all that no manifest declares now`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("output", output, "text", "json"); err != nil {
				return err
			}
			h, err := a.forChange(cmd.Context())
			if err != nil {
				return err
			}
			end := func() {}
			if output == "text" {
				p := newProgress(a.out)
				o.Progress, end = p.tell, p.end
			}
			r, err := h.Apply(cmd.Context(), o)
			end()
			if err := errors.Join(err, h.close(cmd.Context())); err != nil {
				return err
			}
			if output == "json" {
				return errors.Join(printJSON(a.out, resultJSON(r)), quietApply(applyCode(r, exitCode)))
			}
			return a.applied(r, applyCode(r, exitCode))
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.Confirm, "confirm-removal", nil, "containers whose removal is meant, or all")
	f.StringVarP(&output, "output", "o", "text", "text or json")
	f.BoolVar(&exitCode, "exit-code", false, "exit with 3 if anything was changed")
	return cmd
}

// applied says what an apply came to, besides what its progress said.
func (a *app) applied(r reconcile.Result, code int) error {
	for _, name := range r.Unneeded {
		fmt.Fprintf(a.err, "stead: --confirm-removal=%s: no removal of that name waits\n", name)
	}
	for _, c := range r.Containers {
		switch {
		case c.Sync == view.Held:
			fmt.Fprintf(a.err, "stead: %s: %s\n", c.Name, heldClause(c))
		case c.Error != "":
			fmt.Fprintf(a.err, "stead: %s: %s\n", c.Name, c.Error)
		}
	}
	if !r.Changed() && code == 0 {
		fmt.Fprintln(a.out, "all is as declared")
	}
	return quietApply(code)
}

// heldClause says what is held, and why: nobody should confirm what is not known.
func heldClause(c reconcile.ContainerResult) string {
	if c.Reason == view.ReasonRemovalHeld {
		return "removal held: " + c.Note
	}
	return c.Note
}

func quietApply(code int) error {
	if code == 0 {
		return nil
	}
	return quietly(code)
}

// applyCode is the gravest of what happened.
func applyCode(r reconcile.Result, exitCode bool) int {
	failed := false
	for _, c := range r.Containers {
		failed = failed || c.Error != "" && c.Reason != view.ReasonInvalidManifest
	}
	switch {
	case failed:
		return exitFailure
	case r.Invalid():
		return exitInvalid
	case r.Held():
		return exitHeld
	case exitCode && r.Changed():
		return exitDiffers
	}
	return 0
}

// resultView is a result as configuration management wants it.
type resultView struct {
	APIVersion string        `json:"apiVersion"`
	Changed    bool          `json:"changed"`
	Failed     bool          `json:"failed"`
	Msg        string        `json:"msg"`
	Containers []resultEntry `json:"containers"`
}

type resultEntry struct {
	Name    string      `json:"name"`
	Changed bool        `json:"changed"`
	Failed  bool        `json:"failed"`
	Msg     string      `json:"msg,omitempty"`
	Actions []plan.Verb `json:"actions"`
	Diff    textDiff    `json:"diff"`
	State   view.State  `json:"state,omitempty"`
	Sync    view.Sync   `json:"sync,omitempty"`
	Reason  string      `json:"reason,omitempty"`
}

// textDiff is what differs, a field a line; values that may be secrets are hidden.
type textDiff struct {
	Before string `json:"before"`
	After  string `json:"after"`
}

func diffOf(changes []plan.Change) textDiff {
	var before, after strings.Builder
	line := func(w io.Writer, path, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s: %s\n", path, value)
		}
	}
	for _, c := range changes {
		line(&before, c.Path, c.Before)
		line(&after, c.Path, c.After)
	}
	return textDiff{before.String(), after.String()}
}

func resultJSON(r reconcile.Result) resultView {
	v := resultView{APIVersion: spec.APIVersion, Changed: r.Changed(), Containers: []resultEntry{}}
	var notes []string
	for _, name := range r.Unneeded {
		notes = append(notes, "no removal of "+name+" waits for a confirmation")
	}
	for _, c := range r.Containers {
		e := resultEntry{
			Name: c.Name, Changed: len(c.Actions) > 0, Failed: c.Error != "", Actions: c.Actions, Diff: diffOf(c.Changes),
			State: c.State, Sync: c.Sync, Reason: c.Reason, Msg: c.Note,
		}
		if e.Actions == nil {
			e.Actions = []plan.Verb{}
		}
		switch {
		case c.Error != "":
			e.Msg = c.Error
			notes = append(notes, c.Name+": "+c.Error)
		case c.Sync == view.Held:
			e.Msg = heldClause(c)
			notes = append(notes, c.Name+": "+e.Msg)
		}
		v.Failed = v.Failed || e.Failed
		v.Containers = append(v.Containers, e)
	}
	v.Msg = strings.Join(notes, "; ")
	return v
}
