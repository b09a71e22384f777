package main

import (
	"cmp"
	"container/heap"
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
	ahead = 256                   // records that one log may be ahead of the others
	quiet = 50 * time.Millisecond // following: nothing earlier comes after so long

	removalLook = 500 * time.Millisecond // following: how often it is looked whether the container is still there
)

// merger reads several logs at once and hands out their records in the order of
// their times: it holds each back until no earlier one can come.
type merger struct {
	sources []logSource
	follow  bool
	emit    func(log int, r logs.Record) error
	flush   func() error  // before a wait, so that what is out is seen
	removed func(log int) // following: its container was, and it ends

	records chan tagged
	errs    chan error
	room    []chan struct{} // of each log: full while it is far ahead
	held    []int           // records of each that are held back
	ended   []bool
	heap    byTime
}

// logSource is one log, and what of it is wanted.
type logSource struct {
	dir     string
	options logs.Options
}

// tagged is a record and whose it is; end says that no more come, removed that its
// container is gone.
type tagged struct {
	log     int
	number  int       // in its log
	at      time.Time // the record's time, but never before that of the one before it
	record  logs.Record
	end     bool
	removed bool
}

func (m *merger) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	n := len(m.sources)
	m.records, m.errs = make(chan tagged), make(chan error, n)
	m.room, m.held, m.ended = make([]chan struct{}, n), make([]int, n), make([]bool, n)
	var readers sync.WaitGroup
	for i := range m.sources {
		m.room[i] = make(chan struct{}, ahead)
		readers.Go(func() { m.read(ctx, i) })
	}
	err := m.collect(ctx)
	cancel()
	readers.Wait()
	if err == nil && len(m.errs) > 0 {
		err = <-m.errs
	}
	return err
}

func (m *merger) read(ctx context.Context, i int) {
	var number int
	var at time.Time
	reading := ctx
	if m.follow {
		reading = untilRemoved(ctx, filepath.Dir(m.sources[i].dir))
	}
	err := readLog(reading, m.sources[i].dir, m.sources[i].options, func(r logs.Record) error {
		number++
		if at.Before(r.Time) { // else the clock was set back: the log's own order holds
			at = r.Time
		}
		if !put(ctx, m.room[i], struct{}{}) || !put(ctx, m.records, tagged{log: i, number: number, at: at, record: r}) {
			return ctx.Err()
		}
		return nil
	})
	if err != nil && reading.Err() == nil {
		m.errs <- err
	}
	put(ctx, m.records, tagged{log: i, end: true, removed: errors.Is(context.Cause(reading), errRemoved)})
}

var errRemoved = errors.New("the container was removed")

// untilRemoved ends when a container's directory is not where it was any more, by
// errRemoved, or with ctx.
func untilRemoved(ctx context.Context, dir string) context.Context {
	before, err := os.Stat(dir)
	own, cancel := context.WithCancelCause(ctx)
	go func() {
		tick := time.NewTicker(removalLook)
		defer tick.Stop()
		for {
			now, e := os.Stat(dir)
			if err != nil || errors.Is(e, fs.ErrNotExist) || e == nil && !os.SameFile(before, now) {
				cancel(errRemoved)
				return
			}
			select {
			case <-ctx.Done():
				cancel(nil)
				return
			case <-tick.C:
			}
		}
	}()
	return own
}

func put[T any](ctx context.Context, c chan<- T, v T) bool {
	select {
	case c <- v:
		return true
	case <-ctx.Done():
		return false
	}
}

// readLog reads one log. A container that never ran has none yet.
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

func (m *merger) collect(ctx context.Context) error {
	for live := len(m.sources); live > 0; {
		t, ok := m.next(ctx)
		switch {
		case !ok: // a quiet moment, or the end
			if err := m.drain(true); err != nil || ctx.Err() != nil {
				return err
			}
		case t.end:
			m.ended[t.log] = true
			live--
			if t.removed {
				if err := errors.Join(m.drain(false), m.flush()); err != nil {
					return err
				}
				m.removed(t.log)
			}
		default:
			m.held[t.log]++
			heap.Push(&m.heap, t)
		}
		if err := m.drain(false); err != nil {
			return err
		}
	}
	return m.drain(true)
}

// next waits for a record; not for long if it follows and some are held back.
func (m *merger) next(ctx context.Context) (tagged, bool) {
	var patience <-chan time.Time
	if m.follow && len(m.heap) > 0 {
		timer := time.NewTimer(quiet)
		defer timer.Stop()
		patience = timer.C
	} else if m.follow {
		_ = m.flush()
	}
	select {
	case t := <-m.records:
		return t, true
	case <-patience:
	case <-ctx.Done():
	}
	return tagged{}, false
}

// drain hands out what is held back: all, or what nothing earlier can precede,
// as every log that goes on has a later record here.
func (m *merger) drain(all bool) error {
	for len(m.heap) > 0 && (all || m.settled()) {
		t := heap.Pop(&m.heap).(tagged)
		m.held[t.log]--
		<-m.room[t.log]
		if err := m.emit(t.log, t.record); err != nil {
			return err
		}
	}
	return nil
}

func (m *merger) settled() bool {
	for i, n := range m.held {
		if n == 0 && !m.ended[i] {
			return false
		}
	}
	return true
}

// byTime is a heap of records; the order of the command line breaks ties.
type byTime []tagged

func (h byTime) Len() int      { return len(h) }
func (h byTime) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h byTime) Less(i, j int) bool {
	a, b := h[i], h[j]
	return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.log, b.log), cmp.Compare(a.number, b.number)) < 0
}

func (h *byTime) Push(x any) { *h = append(*h, x.(tagged)) }
func (h *byTime) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
