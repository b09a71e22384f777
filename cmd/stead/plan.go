package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"

	"stead/reconcile"
	"stead/reconcile/plan"
	"stead/reconcile/source"
	"stead/runtime"
	"stead/runtime/status"
	"stead/spec"

	"github.com/spf13/cobra"
)

func (a *app) planCommand() *cobra.Command {
	var output string
	var from []string
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what an apply would do, and change nothing",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.noFilesOrNames(cmd, args); err != nil {
				return err
			}
			if from != nil {
				return a.planOffline(from, output)
			}
			p, err := a.plan(cmd.Context())
			if err != nil {
				return err
			}
			return a.printPlan(p, output)
		},
	}
	outputFlag(cmd, &output, "text", "json")
	cmd.Flags().StringArrayVar(&from, "from", nil, "manifest directory to compare --manifests with; repeatable")
	return cmd
}

// planOffline prints the plan for a change between directories.
func (a *app) planOffline(from []string, output string) error {
	if len(a.flags.manifests) == 0 {
		return exitWith(exitUsage, "--from needs --manifests too: the directory with the new manifests")
	}
	for i := range from {
		if err := absolute(&from[i]); err != nil {
			return err
		}
	}
	for _, dir := range slices.Concat(from, a.manifests) {
		if info, err := os.Stat(dir); err != nil {
			return exitWith(exitUsage, "%w", err)
		} else if !info.IsDir() {
			return exitWith(exitUsage, "%s is not a directory", dir)
		}
	}
	read := func(dirs []string) *source.Reading {
		return (&source.Source{Dirs: dirs, Parser: a.parser(), Host: a.host}).Read()
	}
	p, notes, uncompared := reconcile.Offline(read(from), read(a.manifests))
	for _, note := range notes {
		fmt.Fprintf(a.err, "note: %s; its containers count as absent\n", note)
	}
	if output != "json" {
		for _, line := range uncompared {
			fmt.Fprintln(a.out, line)
		}
	}
	return a.printPlan(p, output)
}

// plan returns the plan for this host, as far as the caller may read its state.
func (a *app) plan(ctx context.Context) (plan.Plan, error) {
	h, err := a.dial(ctx)
	if h != nil {
		return h.Plan(ctx)
	}
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return plan.Plan{}, err
	}
	e := &reconcile.Engine{Source: a.source(nil, nil), Observer: nothing{}}
	rt, err := a.open(ctx, runtime.Options{ReadOnly: true, Log: a.log(slog.LevelWarn)})
	if err != nil {
		fmt.Fprintf(a.err, "stead: cannot read the state of this host (%s): all containers count as new\n", strings.Join(errorLines(err), "; "))
	} else {
		defer rt.Close()
		e = a.engine(rt)
	}
	return e.Plan(ctx)
}

// printPlan prints a plan and returns its exit code.
func (a *app) printPlan(p plan.Plan, output string) error {
	if output == "json" {
		if err := printJSON(a.out, planJSON(p)); err != nil {
			return err
		}
	} else {
		fmt.Fprint(a.out, p)
		for _, line := range p.Errors {
			fmt.Fprintln(a.err, "stead: "+line)
		}
		for _, file := range p.Writing {
			fmt.Fprintf(a.err, "stead: %s is not read yet: another process has it open for writing\n", file)
		}
		for _, d := range p.Differs {
			fmt.Fprintf(a.out, "no action for %s: %s\n", d.Name, d.Why)
		}
		if p.Empty() && len(p.Errors)+len(p.Writing)+len(p.Differs) == 0 {
			fmt.Fprintln(a.out, "all is as declared")
		}
	}
	switch {
	case len(p.Errors) > 0:
		return quietly(exitInvalid)
	case !p.Empty() || len(p.Writing)+len(p.Differs) > 0:
		return quietly(exitDiffers)
	}
	return nil
}

// planView is the JSON of a plan, for configuration management.
type planView struct {
	APIVersion string      `json:"apiVersion"`
	Changed    bool        `json:"changed"`
	Failed     bool        `json:"failed"`
	Msg        string      `json:"msg"`
	Containers []planEntry `json:"containers"`
	Errors     []string    `json:"errors"`
	Waits      []plan.Wait `json:"waits"`
	// Differs are containers that are not as declared, though there is nothing to do now.
	Differs []plan.Differs `json:"differs"`
}

type planEntry struct {
	Name   string    `json:"name"`
	Action plan.Verb `json:"action"`
	Cause  string    `json:"cause"`
	Diff   textDiff  `json:"diff"`
}

func planJSON(p plan.Plan) planView {
	v := planView{APIVersion: spec.APIVersion, Changed: len(p.Actions) > 0, Failed: len(p.Errors) > 0,
		Containers: []planEntry{}, Errors: append([]string{}, p.Errors...), Waits: append([]plan.Wait{}, p.Waits...), Differs: append([]plan.Differs{}, p.Differs...)}
	for _, list := range [][]plan.Action{p.Actions, p.Held} {
		for _, action := range list {
			v.Containers = append(v.Containers, planEntry{action.Name, action.Verb, action.Cause, diffOf(action.Changes)})
		}
	}
	v.Msg = fmt.Sprintf("%d to do, %d held, %d errors", len(p.Actions), len(p.Held), len(p.Errors))
	return v
}

// nothing is an Observer without containers, for plans only.
type nothing struct{ reconcile.Observer }

func (nothing) List() []*status.Status { return nil }
