package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"stead/runtime/logs"
	"stead/runtime/status"
	"stead/spec"

	"github.com/spf13/cobra"
)

const timeHelp = " a duration ago (10m, 2h, 1d) or a time (19:46, yesterday, 2026-11-23T04:15:00Z)"

func (a *app) logsCommand() *cobra.Command {
	o := logs.Options{Tail: -1}
	var since, until, stream, selector string
	var stamps, previous bool
	cmd := &cobra.Command{
		Use:               "logs NAME…",
		Short:             "Print the output of containers",
		ValidArgsFunction: a.completeNames,
		Args:              needNames(&selector),
		RunE: func(cmd *cobra.Command, names []string) (err error) {
			if previous && o.Follow {
				return usage(cmd, errors.New("--previous shows a run that is over; leave out -f"))
			}
			if o.Since, err = parseTime("--since", since, time.Now()); err != nil {
				return err
			}
			if o.Until, err = parseTime("--until", until, time.Now()); err != nil {
				return err
			}
			if stream != "all" {
				o.Stream = stream
			}
			if until != "" && (o.Follow || previous) {
				return usage(cmd, errors.New("--until shows what is over; leave out -f and -p"))
			}
			if names, err = a.selectNames(cmd.Context(), names, selector); err != nil {
				return err
			}
			err = a.logs(cmd.Context(), names, o, stamps, previous)
			if errors.Is(err, status.ErrMissing) {
				if names, err = a.known(cmd.Context(), names); err == nil {
					err = a.logs(cmd.Context(), names, o, stamps, previous)
				}
			}
			if errors.Is(err, status.ErrMissing) {
				return a.missing(cmd.Context(), names[0])
			}
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.Follow, "follow", "f", false, "continue with new lines")
	f.IntVarP(&o.Tail, "tail", "n", -1, "only the last N lines of each container; -1 for all")
	f.StringVar(&since, "since", "", "only since"+timeHelp)
	f.StringVar(&until, "until", "", "only before"+timeHelp)
	choiceFlag(cmd, f, &stream, "stream", "", "only what was written to one: ", "all", "stdout", "stderr")
	f.BoolVarP(&previous, "previous", "p", false, "output of the run before the current or last one")
	f.BoolVarP(&stamps, "timestamps", "t", false, "print the time before each line")
	selectorFlag(cmd, &selector)
	return cmd
}

// parseTime parses a duration before now, or a time: of a clock (the last time that it showed
// that), "today" or "yesterday" (their beginning), or with a date. "" is the zero time.
func parseTime(flag, s string, now time.Time) (time.Time, error) {
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	switch s {
	case "":
		return time.Time{}, nil
	case "now":
		return now, nil
	case "today":
		return midnight, nil
	case "yesterday":
		return midnight.AddDate(0, 0, -1), nil
	}
	if d, err := spec.ParseDuration(s); err == nil {
		return now.Add(-time.Duration(d)), nil
	}
	for _, layout := range []string{"15:04", "15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil {
			at := time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, now.Location())
			if at.After(now) {
				at = at.AddDate(0, 0, -1)
			}
			return at, nil
		}
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, exitWith(exitUsage, "%s %s: want a duration such as 10m, a time such as 19:46 or 2026-11-23T04:15:00Z, today or yesterday", flag, s)
}

// logs prints the logs of containers.
func (a *app) logs(ctx context.Context, names []string, o logs.Options, stamps, previous bool) error {
	rt, err := a.openOnly(ctx, names...)
	if err != nil {
		return err
	}
	defer rt.Close()
	p := logPrinter{out: bufio.NewWriter(a.out), stamps: stamps, several: len(names) > 1, safe: isTerminal(a.out)}
	defer p.out.Flush()
	m := merger{follow: o.Follow, flush: p.out.Flush, emit: func(i int, r logs.Record) error { return p.print(names[i], r) }}
	m.removed = func(i int) { fmt.Fprintf(a.err, "stead: %s was removed; its log ends here\n", names[i]) }
	for _, name := range names {
		if _, ok := rt.Get(name); !ok {
			return fmt.Errorf("container %s: %w", name, status.ErrMissing)
		}
		p.width = max(p.width, len(name))
		of := &logSource{dir: rt.LogDir(name), options: o}
		if previous {
			from, until, err := rt.PreviousRun(name)
			if err != nil {
				return err
			}
			if of.options.Until = until; o.Since.Before(from) {
				of.options.Since = from
			}
		}
		m.sources = append(m.sources, of)
	}
	return m.run(ctx)
}

// logPrinter prints records as lines.
type logPrinter struct {
	out             *bufio.Writer
	stamps, several bool
	safe            bool   // show control characters as text, for a terminal
	width           int    // of the names
	open            string // the name and stream of an unfinished line
}

// print prints a record. It joins the parts of a long line, unless a record of another
// stream or container comes between them.
func (p *logPrinter) print(name string, r logs.Record) error {
	if p.safe {
		r.Text = clean(r.Text)
	}
	origin := name + " " + r.Stream
	if p.open != "" && p.open != origin {
		p.out.WriteByte('\n')
		p.open = ""
	}
	if p.open == "" {
		if p.several {
			fmt.Fprintf(p.out, "%-*s  ", p.width, name)
		}
		if p.stamps {
			p.out.WriteString(r.Time.UTC().Format("2006-01-02T15:04:05.000Z") + " ")
		}
	}
	_, err := p.out.WriteString(r.Text)
	if p.open = origin; !r.Part {
		p.open = ""
		err = p.out.WriteByte('\n')
	}
	return err
}
