package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"stead/reconcile"
	"stead/reconcile/plan"
	"stead/reconcile/source"
	"stead/reconcile/view"
	"stead/runtime/logs"
	"stead/spec"

	"github.com/spf13/cobra"
)

func (a *app) statusCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:               "status [NAME…]",
		Short:             "Show the state of this host, and what is not as declared",
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, names []string) error {
			r, up, err := a.statusWith(cmd.Context(), (*reconcile.Engine).Examine)
			if err != nil {
				return err
			}
			v := statusView{APIVersion: spec.APIVersion, Daemon: up, Report: r}
			if len(names) > 0 {
				return a.statusOf(cmd.Context(), v, names, output)
			}
			if output == "json" {
				err = printJSON(a.out, v)
			} else {
				v.print(a.out, time.Now())
			}
			if err == nil && v.differs() {
				return quietly(exitDiffers)
			}
			return err
		},
	}
	outputFlag(cmd, &output, "text", "json")
	return cmd
}

// statusView is the report of a host, and whether its daemon is running.
type statusView struct {
	APIVersion string `json:"apiVersion"`
	Daemon     bool   `json:"daemon"`
	view.Report
}

// differs reports whether anything needs attention.
func (v *statusView) differs() bool {
	ill := func(s view.Source) bool { return !s.Healthy }
	return len(v.Faults)+len(v.Held)+len(v.Broken)+len(v.Differs)+len(v.Images) > 0 || slices.ContainsFunc(v.Sources, ill)
}

// print prints the report as text.
func (v *statusView) print(w io.Writer, now time.Time) {
	if v.Daemon {
		fmt.Fprintf(w, "daemon      running since %s (%s)\n", v.Since.UTC().Format(time.RFC3339), age(now.Sub(v.Since)))
	} else {
		fmt.Fprintln(w, "daemon      is not running: changes take effect at the next stead apply")
	}
	for _, f := range v.Faults {
		fmt.Fprintf(w, "fault       %s\n", f.Message)
	}
	fmt.Fprintf(w, "containers  %s\n", summary(v.Report))
	for i, s := range v.Sources {
		title := "manifests"
		if i > 0 {
			title = ""
		}
		state := count(s.Files, "file")
		switch {
		case s.Missing:
			state = "missing"
		case !s.Healthy:
			state = s.Error
		}
		fmt.Fprintf(w, "%-10s  %s: %s\n", title, s.Path, state)
	}
	if v.Watching != "" {
		fmt.Fprintf(w, "watching    inotify is unavailable, polling every %s: %s; see stead doctor\n", source.Poll, v.Watching)
	}
	if v.Hold != nil {
		fmt.Fprintf(w, "on hold     the whole host, %s; end it with stead release\n", strings.TrimPrefix(plan.HoldClause(v.Hold), "on hold "))
	}
	for _, note := range v.Notes {
		fmt.Fprintf(w, "note        %s\n", note)
	}
	for _, i := range v.Images {
		fmt.Fprintf(w, "image       %s: %s\n", i.Name, i.Why)
	}
	v.printWrong(w)
}

func (v *statusView) printWrong(w io.Writer) {
	v.printHeld(w, "removals held", view.ReasonRemovalHeld)
	v.printHeld(w, "on hold", view.ReasonOnHold)
	v.printHeld(w, "changes of images held", view.ReasonImageRefused)
	if len(v.Broken) > 0 {
		fmt.Fprintln(w, "\nbroken manifests (the containers stay as they were applied last):")
		for _, f := range v.Broken {
			for _, line := range f.Errors {
				fmt.Fprintln(w, "  "+line)
			}
		}
	}
	var rows [][]string
	for _, d := range v.Differs {
		if d.Sync != view.Held { // printed above
			rows = append(rows, []string{d.Name, string(d.State), string(d.Sync), d.Why})
		}
	}
	if len(rows) > 0 {
		fmt.Fprintln(w, "\nnot as declared:")
		_ = table(indented{w}, "NAME STATE SYNC WHY", rows)
	}
	if len(v.Failed) > 0 {
		fmt.Fprintln(w, "\njobs that failed (to run one again: stead restart NAME):")
		for _, d := range v.Failed {
			fmt.Fprintf(w, "  %s: %s\n", d.Name, d.Why)
		}
	}
	if !v.differs() {
		fmt.Fprintln(w, "\nall is as declared")
	}
}

// printHeld prints what is held for a reason, below a title.
func (v *statusView) printHeld(w io.Writer, title, reason string) {
	for _, h := range v.Held {
		if h.Reason != reason {
			continue
		}
		if title != "" {
			fmt.Fprintf(w, "\n%s:\n", title)
			title = ""
		}
		fmt.Fprintf(w, "  %s: %s\n", h.Name, h.Why)
	}
}

// How many events and lines of output status NAME shows.
const (
	lastEvents = 5
	lastLines  = 10
)

// statusOf prints the status of some containers.
func (a *app) statusOf(ctx context.Context, v statusView, names []string, output string) error {
	views, err := pick(v.Containers, names, "")
	if err != nil {
		return err
	}
	v.Containers = views
	listed := func(name string) bool {
		return slices.ContainsFunc(views, func(c view.Container) bool { return c.Name == name })
	}
	v.Held = slices.DeleteFunc(v.Held, func(h view.HeldAction) bool { return !listed(h.Name) })
	v.Differs = slices.DeleteFunc(v.Differs, func(d view.Difference) bool { return !listed(d.Name) })
	v.Failed = slices.DeleteFunc(v.Failed, func(d view.Difference) bool { return !listed(d.Name) })
	v.Broken = slices.DeleteFunc(v.Broken, func(b view.BrokenFile) bool {
		return !slices.ContainsFunc(views, func(c view.Container) bool { return c.Manifest == b.File })
	})
	if output == "json" {
		err = printJSON(a.out, v)
	} else {
		err = a.printEach(ctx, views)
	}
	if err == nil && len(v.Held)+len(v.Differs)+len(v.Broken) > 0 {
		return quietly(exitDiffers)
	}
	return err
}

func (a *app) printEach(ctx context.Context, views []view.Container) error {
	for i, c := range views {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		line := func(title, format string, args ...any) {
			fmt.Fprintf(a.out, "%-9s  %s\n", title, fmt.Sprintf(format, args...))
		}
		line("name", "%s", c.Name)
		line("state", "%s, %s", c.State, c.Sync)
		if c.Why != "" {
			line("why", "%s", c.Why)
		}
		if c.Message != "" && c.Message != c.Why {
			line("message", "%s", c.Message)
		}
		if !c.StartedAt.IsZero() {
			line("started", "%s", c.StartedAt.Format(time.RFC3339))
		}
		if !c.FinishedAt.IsZero() {
			line("ended", "%s, exit code %s", c.FinishedAt.Format(time.RFC3339), exitText(c))
		}
		if c.Pid != 0 {
			line("pid", "%d", c.Pid)
		}
		line("restarts", "%d", c.Restarts)
		line("manifest", "%s", c.Manifest)
		for _, file := range c.DropIns {
			line("drop-in", "%s", file)
		}
		fmt.Fprintf(a.out, "events     the last %d; stead events %s has all\n", lastEvents, c.Name)
		if err := a.printEvents(ctx, c.Name, lastEvents); err != nil {
			return err
		}
		if !c.CreatedAt.IsZero() {
			fmt.Fprintf(a.out, "output     the last %d lines; stead logs %s has all\n", lastLines, c.Name)
			if err := a.logs(ctx, []string{c.Name}, logs.Options{Tail: lastLines}, true, false); err != nil {
				return err
			}
		}
	}
	return nil
}
