package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"stead/runtime/logs"
)

const (
	ahead = 256                   // records that are read ahead of each log
	quiet = 50 * time.Millisecond // following: no earlier record is expected after this time

	removalPoll = 500 * time.Millisecond // following: how often to check that the container exists
)

// merger reads several logs at once and emits their records in the order of their times. It
// holds a record back until every other log has a later one.
type merger struct {
	sources []*logSource
	follow  bool
	emit    func(log int, r logs.Record) error
	flush   func() error  // called before a wait, so that the reader sees all records
	removed func(log int) // following: called when a container was removed
}

// logSource is a log, and which of its records are wanted.
type logSource struct {
	dir     string
	options logs.Options

	records chan logs.Record // closed at the end; the fields below are set by then
	err     error
	removed bool

	next *logs.Record // the record to emit next; nil if none is here yet
	at   time.Time    // the time of next, but not before the time of the record before it
	over bool
}

// run reads the logs to their end, or until ctx ends.
func (m *merger) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	arrived := make(chan struct{}, 1)
	for _, s := range m.sources {
		s.records = make(chan logs.Record, ahead)
		readers.Go(func() { s.read(ctx, m.follow, arrived) })
	}
	err := m.merge(ctx, arrived)
	cancel()
	readers.Wait()
	for _, s := range m.sources {
		if err == nil {
			err = s.err
		}
	}
	return err
}

// merge emits records until all logs are over or ctx ends.
func (m *merger) merge(ctx context.Context, arrived <-chan struct{}) error {
	overdue := 0 // records that have waited long enough
	for {
		first, waiting := m.first()
		switch {
		case first >= 0 && (!waiting || overdue > 0 || ctx.Err() != nil):
			overdue--
			r := *m.sources[first].next
			m.sources[first].next = nil
			if err := m.emit(first, r); err != nil {
				return err
			}
			continue
		case !waiting || ctx.Err() != nil:
			return nil
		}
		overdue = 0
		var timeout <-chan time.Time
		if m.follow && first >= 0 {
			timeout = time.After(quiet)
		} else if m.follow {
			_ = m.flush()
		}
		select {
		case <-arrived:
		case <-timeout:
			for _, s := range m.sources {
				overdue += len(s.records) + 1
			}
		case <-ctx.Done():
		}
	}
}

// first returns the log with the earliest next record, -1 if there is none, and reports
// whether a log that is not over has no record here. The earlier log wins a tie.
func (m *merger) first() (first int, waiting bool) {
	first = -1
	for i, s := range m.sources {
		if s.next == nil && !s.over {
			select {
			case r, ok := <-s.records:
				if !ok {
					s.over = true
					if s.removed {
						_ = m.flush()
						m.removed(i)
					}
				} else if s.next = &r; s.at.Before(r.Time) { // else the clock was set back: keep the log's own order
					s.at = r.Time
				}
			default:
				waiting = true
			}
		}
		if s.next != nil && (first < 0 || s.at.Before(m.sources[first].at)) {
			first = i
		}
	}
	return first, waiting
}

// read reads a log to its end and notifies arrived of each record.
func (s *logSource) read(ctx context.Context, follow bool, arrived chan<- struct{}) {
	notify := func() {
		select {
		case arrived <- struct{}{}:
		default:
		}
	}
	defer notify()
	defer close(s.records)
	reading := ctx
	if follow {
		reading = untilRemoved(ctx, filepath.Dir(s.dir))
	}
	err := readLog(reading, s.dir, s.options, func(r logs.Record) error {
		select {
		case s.records <- r:
			notify()
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if s.removed = errors.Is(context.Cause(reading), errRemoved); reading.Err() == nil {
		s.err = err
	}
}

var errRemoved = errors.New("the container was removed")

// untilRemoved returns a context that ends with the cause errRemoved when a container's
// directory is gone or replaced, or with ctx.
func untilRemoved(ctx context.Context, dir string) context.Context {
	before, err := os.Stat(dir)
	own, cancel := context.WithCancelCause(ctx)
	go func() {
		defer cancel(nil)
		tick := time.NewTicker(removalPoll)
		defer tick.Stop()
		for {
			now, e := os.Stat(dir)
			if err != nil || errors.Is(e, fs.ErrNotExist) || e == nil && !os.SameFile(before, now) {
				cancel(errRemoved)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return own
}

// readLog reads one log. Following, it waits for the log of a container that never ran.
func readLog(ctx context.Context, dir string, o logs.Options, emit func(logs.Record) error) error {
	for o.Follow {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
	return logs.Read(ctx, dir, o, emit)
}
