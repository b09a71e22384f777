package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"stead/reconcile/events"
	"stead/spec"

	"github.com/spf13/cobra"
)

func (a *app) eventsCommand() *cobra.Command {
	q := events.Query{Tail: -1}
	var since, output string
	cmd := &cobra.Command{
		Use:               "events [NAME…]",
		Short:             "Print what stead did on this host, and why",
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, names []string) (err error) {
			if q.Since, err = parseTime("--since", since, time.Now()); err != nil {
				return err
			}
			if all, err := a.known(cmd.Context(), names); err == nil {
				names = all
			}
			silent := slices.Clone(names) // containers without an event
			if len(names) > 0 {
				q.Match = func(e events.Event) bool {
					silent = slices.DeleteFunc(silent, func(name string) bool { return name == e.Container })
					return slices.Contains(names, e.Container)
				}
			}
			err = a.events(cmd.Context(), q, func(e events.Event) error {
				if output == "json" {
					e.Time = e.Time.UTC().Truncate(time.Millisecond)
					return json.NewEncoder(a.out).Encode(e)
				}
				_, err := fmt.Fprintln(a.out, eventLine(e))
				return err
			})
			if errors.Is(err, context.Canceled) {
				return nil // ^C is the way to end -f
			}
			if err == nil {
				_, err = a.known(cmd.Context(), silent)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&q.Follow, "follow", "f", false, "continue with new events")
	f.IntVar(&q.Tail, "tail", -1, "only the last N events before now; -1 for all")
	f.StringVar(&since, "since", "", "only since"+timeHelp)
	outputFlag(cmd, &output, "text", "json")
	return cmd
}

// events reads the events of this host.
func (a *app) events(ctx context.Context, q events.Query, each func(events.Event) error) error {
	err := events.Read(ctx, a.stateDir, q, each)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: no container has run with this state directory yet", err)
	}
	return err
}

// known returns the names of containers, with those of its replicas for the name of a
// manifest. It fails if a name is neither.
func (a *app) known(ctx context.Context, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	r, _, err := a.status(ctx)
	if err != nil {
		return nil, err
	}
	_, err = pick(r.Containers, names, "")
	return namesOf(names, r.Containers), err
}

// eventLine formats an event as text.
func eventLine(e events.Event) string {
	subject := cmp.Or(e.Container, e.File)
	if e.Container == "" && strings.HasPrefix(e.Message, e.File+":") {
		subject = "" // the message begins with the file
	}
	if e.Image != "" {
		subject = "image " + e.Image
	}
	if e.Container+e.File == "" && (e.Type == events.Held || e.Type == events.Released) {
		subject = "this host"
	}
	what := string(e.Type)
	if e.Action != "" {
		what = e.Action
		if e.Type != events.Done {
			what += " " + string(e.Type)
		}
	}
	line := fmt.Sprintf("%s  %s", e.Time.UTC().Format(time.RFC3339), strings.TrimSpace(what+" "+subject))
	var changes []string
	for _, c := range e.Changes {
		changes = append(changes, spec.Change{Path: c.Path, Before: c.Before, After: c.After}.String())
	}
	if len(changes) > 0 {
		line += "  " + strings.Join(changes, ", ")
	}
	if e.Cause != "" {
		line += "  (" + e.Cause + ")"
	}
	if e.Message != "" && e.Message != e.Cause {
		line += ": " + e.Message
	}
	return clean(line)
}

// printEvents prints the last n events of a container.
func (a *app) printEvents(ctx context.Context, name string, n int) error {
	q := events.Query{Tail: n, Match: func(e events.Event) bool { return e.Container == name }}
	return a.events(ctx, q, func(e events.Event) error {
		_, err := fmt.Fprintln(a.out, "  "+eventLine(e))
		return err
	})
}
