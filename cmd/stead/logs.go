package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"stead/runtime/logs"
	"stead/spec"

	"github.com/spf13/cobra"
)

func (a *app) logsCommand() *cobra.Command {
	o := logs.Options{Tail: -1}
	var since, selector string
	var stamps, previous bool
	cmd := &cobra.Command{
		Use:   "logs NAME…",
		Short: "Print what containers wrote to their output",
		Long: `logs prints what containers wrote to stdout and stderr, oldest first. Lines of
several containers are merged in the order of their times, each behind its name.
With -f it goes on, through restarts of the container, until it is interrupted.
With --previous it prints what the run before the current or last one wrote.`,
		ValidArgsFunction: a.completeNames,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 && selector == "" {
				return fmt.Errorf("want the names of containers, or -l with a selector")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if previous && o.Follow {
				return usage(cmd, errors.New("--previous: that run is over; leave -f out"))
			}
			if o.Since, err = sinceTime(since, time.Now()); err != nil {
				return err
			}
			if selector != "" {
				report, _, err := a.status(cmd.Context())
				if err != nil {
					return err
				}
				views, err := pick(report.Containers, nil, selector)
				if err != nil {
					return err
				}
				for _, v := range views {
					args = append(args, v.Name)
				}
				if len(args) == 0 {
					return exitWith(exitMissing, "no container has the labels %s; stead ps lists them", selector)
				}
			}
			return a.logs(cmd.Context(), args, o, stamps, previous)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.Follow, "follow", "f", false, "go on with what is written later")
	f.IntVar(&o.Tail, "tail", -1, "only the last N lines of each; -1 is all")
	f.StringVar(&since, "since", "", "only from then on: a span (10m, 2h, 1d) or a time (2026-11-23T04:15:00Z)")
	f.BoolVarP(&previous, "previous", "p", false, "of the run before the current or last one")
	f.BoolVarP(&stamps, "timestamps", "t", false, "each line behind its time")
	f.StringVarP(&selector, "selector", "l", "", selectorHelp)
	return cmd
}

// sinceTime reads a span before now, or a time.
func sinceTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := spec.ParseDuration(s); err == nil {
		return now.Add(-time.Duration(d)), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, exitWith(exitUsage, "--since %s: want a span such as 10m or a time such as 2026-11-23T04:15:00Z", s)
}

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
			return missing(name)
		}
		p.width = max(p.width, len(name))
		of := logSource{rt.LogDir(name), o}
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
	safe            bool // what a terminal would act on is shown as text
	width           int  // of the names
	open            string
}

// print joins the parts of a long line, unless another stream or container
// speaks in between.
func (p *logPrinter) print(name string, r logs.Record) error {
	if p.safe {
		r.Text = clean(r.Text)
	}
	speaker := name + " " + r.Stream
	if p.open != "" && p.open != speaker {
		p.out.WriteByte('\n')
		p.open = ""
	}
	if p.open == "" {
		if p.several {
			fmt.Fprintf(p.out, "%-*s  ", p.width, name)
		}
		if p.stamps {
			p.out.WriteString(r.Time.UTC().Format(time.RFC3339Nano) + " ")
		}
	}
	_, err := p.out.WriteString(r.Text)
	if p.open = speaker; !r.Part {
		p.open = ""
		err = p.out.WriteByte('\n')
	}
	return err
}
