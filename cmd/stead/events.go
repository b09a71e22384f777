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
		Use:   "events [NAME…]",
		Short: "Say what was done on this host, and why",
		Long: `events prints what was done to containers and why, what ended, failed or is held,
and which manifests could not be followed; of some containers only with their
names. At least the last 8 MiB are kept. With -f it goes on, through restarts of
the daemon, until it is interrupted. With -o json each line is an object.`,
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, names []string) (err error) {
			if err := oneOf("output", output, "text", "json"); err != nil {
				return err
			}
			if q.Since, err = sinceTime(since, time.Now()); err != nil {
				return err
			}
			unheard := slices.Clone(names)
			if len(names) > 0 {
				q.Match = func(e events.Event) bool {
					unheard = slices.DeleteFunc(unheard, func(name string) bool { return name == e.Container })
					return slices.Contains(names, e.Container)
				}
			}
			err = a.events(cmd.Context(), q, func(e events.Event) error {
				if output == "json" {
					return json.NewEncoder(a.out).Encode(e)
				}
				_, err := fmt.Fprintln(a.out, eventLine(e))
				return err
			})
			if errors.Is(err, context.Canceled) {
				return nil // ^C is how a person ends -f
			}
			return cmp.Or(err, a.known(cmd.Context(), unheard))
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&q.Follow, "follow", "f", false, "go on with what happens later")
	f.IntVar(&q.Tail, "tail", -1, "only the last N before now; -1 is all")
	f.StringVar(&since, "since", "", "only from then on: a span (10m, 2h, 1d) or a time (2026-11-23T04:15:00Z)")
	f.StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// events reads this host's events. A host without any has no state directory yet.
func (a *app) events(ctx context.Context, q events.Query, each func(events.Event) error) error {
	err := events.Read(ctx, a.stateDir, q, each)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: nothing has run with this state directory yet", err)
	}
	return err
}

// known fails for a name that no container has.
func (a *app) known(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	r, _, err := a.status(ctx)
	if err != nil {
		return err
	}
	_, err = pick(r.Containers, names, "")
	return err
}

// eventLine is an event as a person reads it.
func eventLine(e events.Event) string {
	subject := cmp.Or(e.Container, e.File)
	if subject == "" && (e.Type == events.Held || e.Type == events.Released) {
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

// printEvents prints the last events of a container.
func (a *app) printEvents(ctx context.Context, name string, n int) error {
	q := events.Query{Tail: n, Match: func(e events.Event) bool { return e.Container == name }}
	return a.events(ctx, q, func(e events.Event) error {
		_, err := fmt.Fprintln(a.out, "  "+eventLine(e))
		return err
	})
}
