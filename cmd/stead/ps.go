package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"stead/reconcile/view"
	"stead/spec"

	"github.com/spf13/cobra"
)

func (a *app) psCommand() *cobra.Command {
	var output, selector string
	var removed bool
	cmd := &cobra.Command{
		Use:               "ps [NAME…]",
		Short:             "List containers, and manifests that created none",
		Args:              notBoth(&selector),
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if removed {
				if selector != "" {
					return usage(cmd, errors.New("removed containers have no labels; leave out --removed or -l"))
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
	outputFlag(cmd, &output, "table", "wide", "json", "yaml", "name")
	cmd.Flags().BoolVar(&removed, "removed", false, "list removed containers, and how long their data is kept")
	selectorFlag(cmd, &selector)
	return cmd
}

// noteSources prints which manifest directories are missing or unreadable, beside the
// table of containers.
func (a *app) noteSources(sources []view.Source) {
	for _, s := range sources {
		switch {
		case s.Healthy:
		case s.Missing:
			fmt.Fprintf(a.err, "stead: manifest directory %s is missing\n", s.Path)
		default:
			fmt.Fprintf(a.err, "stead: manifest directory %s: %s\n", s.Path, s.Error)
		}
	}
}

// printViews prints containers in one of the forms of --output.
func (a *app) printViews(views []view.Container, output string) error {
	if output != "table" && output != "wide" {
		return printList(a.out, views, output, func(v view.Container) string { return v.Name })
	}
	painted := func(word string) string { return word }
	if a.colour() {
		painted = paint
	}
	return viewTable(a.out, views, output == "wide", time.Now(), painted)
}

// viewTable prints containers as a table, with the words of STATE and SYNC painted.
func viewTable(w io.Writer, views []view.Container, wide bool, now time.Time, paint func(string) string) error {
	headings := "NAME " + paint("STATE") + " READY " + paint("SYNC") + " RESTARTS AGE "
	if wide {
		headings += "PID STARTED EXIT MANIFEST "
	}
	var rows [][]string
	for _, v := range views {
		row := []string{v.Name, paint(string(v.State)), map[bool]string{true: "yes", false: "no"}[v.Ready], paint(string(v.Sync)), strconv.Itoa(v.Restarts), since(v.CreatedAt, now)}
		if wide {
			pid := "-"
			if v.Pid != 0 {
				pid = strconv.Itoa(v.Pid)
			}
			row = append(row, pid, since(v.StartedAt, now), exitText(v), v.Manifest)
		}
		rows = append(rows, append(row, v.Why))
	}
	return table(w, headings+"WHY", rows)
}

// exitText returns the exit code of a container, or "-" if there is none.
func exitText(v view.Container) string {
	if v.ExitCode == nil {
		return "-"
	}
	return strconv.Itoa(*v.ExitCode)
}

// pick returns the containers with these names, or without names those that the selector
// selects. The name of a manifest stands for all its replicas. It fails if a name does not
// exist.
func pick(views []view.Container, names []string, selector string) ([]view.Container, error) {
	selects, err := parseSelector(selector)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !slices.ContainsFunc(views, func(v view.Container) bool { return v.Name == name || v.Group == name }) {
			return nil, missing(names, views)
		}
	}
	picked := []view.Container{}
	for _, v := range views {
		if (len(names) == 0 || slices.Contains(names, v.Name) || v.Group != "" && slices.Contains(names, v.Group)) && selects(v.Labels) {
			picked = append(picked, v)
		}
	}
	return picked, nil
}

// missing returns the error for the first name that no container has, and suggests a
// similar name. Some views may be manifests that created no container.
func missing(names []string, views []view.Container) error {
	var known []string
	for _, v := range views {
		known = append(known, v.Name)
		if v.Group != "" {
			known = append(known, v.Group)
		}
	}
	for _, name := range names {
		if slices.Contains(known, name) {
			continue
		}
		if like := spec.Suggest(name, known); like != "" {
			return exitWith(exitMissing, "no container %s; did you mean %s?", name, like)
		}
		return exitWith(exitMissing, "no container %s; stead ps lists them", name)
	}
	for _, v := range views {
		if slices.Contains(names, v.Name) && v.CreatedAt.IsZero() {
			return exitWith(exitMissing, "%s has no container yet; see stead status %[1]s", v.Name)
		}
	}
	return exitWith(exitMissing, "no container %s", strings.Join(names, ", "))
}

// namesOf returns the names of containers, with those of its replicas for the name of a
// manifest. A name that nothing has stays.
func namesOf(names []string, views []view.Container) (all []string) {
	for _, name := range names {
		replicas := len(all)
		for _, v := range views {
			if v.Group == name {
				all = append(all, v.Name)
			}
		}
		if len(all) == replicas || slices.ContainsFunc(views, func(v view.Container) bool { return v.Name == name }) {
			all = append(all, name)
		}
	}
	return all
}

// onlyOne fails if a name stands for replicas, where a single container is wanted.
func onlyOne(name string, views []view.Container) error {
	var names []string
	for _, v := range views {
		if v.Name == name {
			return nil
		}
		if v.Group == name {
			names = append(names, v.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return exitWith(exitMissing, "%s has replicas; name one of them: %s", name, strings.Join(names, ", "))
}

// missing asks the host about a container that was not found.
func (a *app) missing(ctx context.Context, name string) error {
	r, _, err := a.status(ctx)
	if err != nil {
		return err
	}
	if err := onlyOne(name, r.Containers); err != nil {
		return err
	}
	return missing([]string{name}, r.Containers)
}

// conditionForm matches one condition of a selector: KEY, !KEY, KEY=VALUE, KEY==VALUE or
// KEY!=VALUE. Selectors of other tools, such as "app in (web)", do not match.
var conditionForm = regexp.MustCompile(`^(!?)([^\s!=(),]+)$|^([^\s!=(),]+)(!=|==?)([^\s!=(),]*)$`)

// parseSelector parses conditions on labels, which must all hold.
func parseSelector(s string) (func(labels map[string]string) bool, error) {
	var conditions [][]string
	for part := range strings.SplitSeq(s, ",") {
		c := conditionForm.FindStringSubmatch(strings.TrimSpace(part))
		if c == nil && s != "" {
			return nil, exitWith(exitUsage, "--selector %q: want conditions such as app=web,tier!=db", s)
		}
		conditions = append(conditions, c)
	}
	return func(labels map[string]string) bool {
		return s == "" || !slices.ContainsFunc(conditions, func(c []string) bool { return !holds(c, labels) })
	}, nil
}

// holds reports whether a condition holds; c has the groups of conditionForm.
func holds(c []string, labels map[string]string) bool {
	if key := c[2]; key != "" {
		_, there := labels[key]
		return there == (c[1] == "")
	}
	value, there := labels[c[3]]
	if c[4] == "!=" {
		return value != c[5]
	}
	return there && value == c[5]
}
