package main

import (
	"errors"
	"fmt"
	"slices"
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
		Short: "Apply the manifests now, and wait for the result",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.noFilesOrNames(cmd, args); err != nil {
				return err
			}
			h, err := a.forChange(cmd.Context())
			if err != nil {
				return err
			}
			end := func() {}
			if output == "text" {
				p := newProgress(a.out)
				o.Progress, end = p.update, p.end
			}
			r, err := h.Apply(cmd.Context(), o)
			end()
			if err := errors.Join(h.explain(cmd.Context(), err, nil), h.close(cmd.Context())); err != nil {
				return err
			}
			if output == "json" {
				return errors.Join(printJSON(a.out, resultJSON(r)), quietly(applyCode(r, exitCode)))
			}
			return a.printApplied(r, applyCode(r, exitCode))
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.Confirm, "confirm-removal", nil, "containers whose removal you confirm, or all")
	outputFlag(cmd, &output, "text", "json")
	f.BoolVar(&exitCode, "exit-code", false, "exit with 3 if anything changed")
	return cmd
}

// printApplied prints the result of an apply, except for what its progress printed.
func (a *app) printApplied(r reconcile.Result, code int) error {
	for _, name := range r.Unneeded {
		fmt.Fprintf(a.err, "stead: --confirm-removal=%s: no removal of %[1]s is held\n", name)
	}
	for _, line := range r.Errors {
		fmt.Fprintln(a.err, "stead: "+line)
	}
	for _, c := range r.Containers {
		switch {
		case c.Sync == view.Held:
			fmt.Fprintf(a.err, "stead: %s: %s\n", c.Name, heldClause(c))
		case c.Error != "" && c.Reason != view.ReasonInvalidManifest: // its errors are printed above
			fmt.Fprintf(a.err, "stead: %s: %s\n", c.Name, c.Error)
		}
	}
	if !r.Changed() && code == 0 {
		fmt.Fprintln(a.out, "all is as declared")
	}
	return quietly(code)
}

// heldClause says what is held, and why.
func heldClause(c reconcile.ContainerResult) string {
	if c.Reason == view.ReasonRemovalHeld {
		return "removal held: " + c.Note
	}
	return c.Note
}

// applyCode returns the exit code for the most serious thing that happened.
func applyCode(r reconcile.Result, exitCode bool) int {
	switch {
	case r.Invalid():
		return exitInvalid
	case slices.ContainsFunc(r.Containers, func(c reconcile.ContainerResult) bool { return c.Error != "" }):
		return exitFailure
	case r.Held():
		return exitHeld
	case exitCode && r.Changed():
		return exitDiffers
	}
	return 0
}

// resultView is the JSON of an apply, for configuration management.
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

// textDiff is the difference of a container, one field on each line. Values that may be
// secrets are hidden.
type textDiff struct {
	Before string `json:"before"`
	After  string `json:"after"`
}

func diffOf(changes []plan.Change) textDiff {
	var d textDiff
	for _, c := range changes {
		if c.Before != "" {
			d.Before += c.Path + ": " + c.Before + "\n"
		}
		if c.After != "" {
			d.After += c.Path + ": " + c.After + "\n"
		}
	}
	return d
}

func resultJSON(r reconcile.Result) resultView {
	v := resultView{APIVersion: spec.APIVersion, Changed: r.Changed(), Failed: r.Invalid(), Containers: []resultEntry{}}
	notes := slices.Clone(r.Errors)
	for _, name := range r.Unneeded {
		notes = append(notes, "no removal of "+name+" is held")
	}
	for _, c := range r.Containers {
		e := resultEntry{
			Name: c.Name, Changed: len(c.Actions) > 0, Failed: c.Error != "", Actions: append([]plan.Verb{}, c.Actions...),
			Diff: diffOf(c.Changes), State: c.State, Sync: c.Sync, Reason: c.Reason, Msg: c.Note,
		}
		switch {
		case c.Error != "":
			e.Msg = c.Error
			if c.Reason != view.ReasonInvalidManifest {
				notes = append(notes, c.Name+": "+c.Error)
			}
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
