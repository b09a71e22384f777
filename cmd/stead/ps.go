package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"stead/reconcile"
	"stead/reconcile/view"

	"github.com/spf13/cobra"
)

const selectorHelp = "only those with these labels: app=web,tier!=db,canary,!old"

func (a *app) psCommand() *cobra.Command {
	var output, selector string
	var removed bool
	cmd := &cobra.Command{
		Use:   "ps [NAME…]",
		Short: "List containers, and manifests that gave none",
		Long: `ps lists the containers of this host, and the manifests that gave none.

STATE  what the processes do: Pending, Running, Completed, Failed, BackOff,
       Stopping, Stopped, Removing, or Invalid for a manifest with errors
SYNC   whether it is as declared: synced, pending, held (its removal waits for a
       confirmation) or error (what runs is what was last applied)
WHY    the reason, in a clause`,
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("output", output, "table", "wide", "json", "yaml", "name"); err != nil {
				return err
			}
			if removed {
				if selector != "" {
					return usage(cmd, errors.New("--removed: what was removed has no labels; leave -l out"))
				}
				return a.psRemoved(args, output)
			}
			report, _, err := a.status(cmd.Context())
			if err != nil {
				return err
			}
			a.noteSources(report.Sources)
			views, err := pick(report.Containers, args, selector)
			if err != nil {
				return err
			}
			return a.printViews(views, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, wide, json, yaml or name")
	cmd.Flags().BoolVar(&removed, "removed", false, "what is kept of removed containers, and until when")
	cmd.Flags().StringVarP(&selector, "selector", "l", "", selectorHelp)
	return cmd
}

// noteSources says which manifest directories can't be read, beside the table: a
// host without one has no line of its own to say it on.
func (a *app) noteSources(sources []view.Source) {
	for _, s := range sources {
		switch {
		case s.Healthy:
		case s.Missing:
			fmt.Fprintf(a.err, "stead: manifest directory %s is not there\n", s.Path)
		default:
			fmt.Fprintf(a.err, "stead: manifest directory %s: %s\n", s.Path, s.Error)
		}
	}
}

func (a *app) printViews(views []view.Container, output string) error {
	if output != "table" && output != "wide" {
		return printList(a.out, views, output, func(v view.Container) string { return v.Name })
	}
	var text strings.Builder
	if err := viewTable(&text, views, output == "wide", time.Now()); err != nil {
		return err
	}
	if a.colour() {
		_, err := io.WriteString(a.out, paint(text.String(), "STATE", "SYNC"))
		return err
	}
	_, err := io.WriteString(a.out, text.String())
	return err
}

func viewTable(w io.Writer, views []view.Container, wide bool, now time.Time) error {
	headings := "NAME STATE READY SYNC RESTARTS AGE WHY"
	if wide {
		headings = "NAME STATE READY SYNC RESTARTS AGE PID STARTED EXIT MANIFEST WHY"
	}
	var rows [][]string
	for _, v := range views {
		row := []string{v.Name, string(v.State), yesNo(v.Ready), string(v.Sync), strconv.Itoa(v.Restarts), since(v.CreatedAt, now)}
		if wide {
			row = append(row, dash(v.Pid != 0, strconv.Itoa(v.Pid)), since(v.StartedAt, now), exitText(v), v.Manifest)
		}
		rows = append(rows, append(row, v.Why))
	}
	return table(w, headings, rows)
}

func dash(there bool, s string) string {
	if there {
		return s
	}
	return "-"
}

func exitText(v view.Container) string {
	if v.ExitCode == nil {
		return "-"
	}
	return strconv.Itoa(*v.ExitCode)
}

// pick are the views of these names, all without any, that the selector selects.
func pick(views []view.Container, names []string, selector string) ([]view.Container, error) {
	matches, err := parseSelector(selector)
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	found := []view.Container{}
	for _, v := range views {
		if (len(names) == 0 || wanted[v.Name]) && matches(v.Labels) {
			found = append(found, v)
		}
	}
	for _, v := range views {
		delete(wanted, v.Name)
	}
	for _, name := range names {
		if wanted[name] {
			return nil, missing(name)
		}
	}
	return found, nil
}

func missing(name string) error {
	return fmt.Errorf("%s: %w", name, reconcile.ErrNoContainer)
}

// conditionForm tells a condition from what selects in other tools, such as
// "app in (web)": as a key, that would match nothing, and negated everything.
var conditionForm = regexp.MustCompile(`^!?[^\s!=(),]+$|^[^\s!=(),]+(!=|==?)[^\s!=(),]*$`)

// parseSelector reads label conditions, all of which must hold.
func parseSelector(s string) (func(map[string]string) bool, error) {
	var conditions []func(map[string]string) bool
	for _, part := range strings.Split(s, ",") {
		part = strings.TrimSpace(part)
		if !conditionForm.MatchString(part) {
			if s != "" {
				return nil, exitWith(exitUsage, "--selector %q: want conditions such as app=web,tier!=db", s)
			}
			continue
		}
		conditions = append(conditions, condition(part))
	}
	return func(labels map[string]string) bool {
		for _, holds := range conditions {
			if !holds(labels) {
				return false
			}
		}
		return true
	}, nil
}

func condition(s string) func(map[string]string) bool {
	if key, value, ok := strings.Cut(s, "!="); ok {
		return func(l map[string]string) bool { return l[key] != value }
	}
	if key, value, ok := strings.Cut(s, "="); ok {
		value = strings.TrimPrefix(value, "=") // == is = elsewhere
		return func(l map[string]string) bool { v, there := l[key]; return there && v == value }
	}
	if key, ok := strings.CutPrefix(s, "!"); ok {
		return func(l map[string]string) bool { _, there := l[key]; return !there }
	}
	return func(l map[string]string) bool { _, there := l[s]; return there }
}
