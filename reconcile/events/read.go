package events

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Query selects events.
type Query struct {
	Since  time.Time        // skip earlier events; zero means none
	Tail   int              // return at most this many existing events, the last ones; negative means all
	Follow bool             // continue with new events until ctx ends
	Type   Type             // return events of this type only; "" means all
	Match  func(Event) bool // return matching events only; nil means all. Called for events before Since too
}

// Read calls each for the events of a directory that a query selects, in the order in which
// they were recorded. It needs no running writer, and keeps following across rotations and
// restarts of the writer.
func Read(ctx context.Context, dir string, q Query, each func(Event) error) error {
	r := reader{dir: dir, query: q, each: each, tailing: q.Tail >= 0}
	if q.Type != "" {
		r.text = []byte(`"type":"` + string(q.Type) + `"`)
	}
	if q.Follow {
		watcher, err := fsnotify.NewWatcher() // before reading, so that no event is missed
		if err == nil {
			err = watcher.Add(dir)
		}
		if err != nil {
			return fmt.Errorf("follow events: %w", err)
		}
		defer watcher.Close()
		r.watcher = watcher
	}
	defer func() { r.file.Close() }() // of nil is an error, which does not matter
	if err := r.past(); err != nil || !q.Follow {
		return err
	}
	return r.follow(ctx)
}

// reader holds the state of one Read.
type reader struct {
	dir     string
	query   Query
	each    func(Event) error
	watcher *fsnotify.Watcher
	text    []byte // contained in every selected line; decoding the other lines would cost time

	file    *os.File // the current file; nil while there is none
	lines   *lineReader
	tailing bool // collect events in tail until the end is reached
	tail    []Event
}

// past reads the existing events.
func (r *reader) past() error {
	// Open the current file before reading the old one, so that a rotation does not hide it.
	if err := r.open(); err != nil {
		return err
	}
	if err := r.old(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read events: %w", err)
	}
	if err := r.present(); err != nil {
		return err
	}
	r.tailing = false
	if r.query.Tail >= 0 {
		r.cutTail()
	}
	for _, e := range r.tail {
		if err := r.each(e); err != nil {
			return err
		}
	}
	r.tail = nil
	return nil
}

// old reads the rotated file.
func (r *reader) old() error {
	f, err := os.Open(filepath.Join(r.dir, oldName))
	if err != nil {
		return err
	}
	defer f.Close()
	if r.file != nil {
		own, ownErr := r.file.Stat()
		if old, err := f.Stat(); err == nil && ownErr == nil && os.SameFile(old, own) {
			return nil // the current file was rotated a moment ago
		}
	}
	return decode(newLineReader(f), r.text, r.take)
}

// open opens the current file if it exists and is not open.
func (r *reader) open() error {
	if r.file != nil {
		return nil
	}
	f, err := os.Open(filepath.Join(r.dir, fileName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	r.file, r.lines = f, newLineReader(f)
	return nil
}

// present reads the rest of the current file and of the files that have replaced it.
func (r *reader) present() error {
	for {
		if err := r.open(); err != nil || r.file == nil {
			return err
		}
		// Check before reading, so that everything written before a rotation is read.
		replaced := r.replaced()
		if err := decode(r.lines, r.text, r.take); err != nil {
			return err
		}
		if !replaced {
			return nil
		}
		r.file.Close()
		r.file = nil
	}
}

// replaced reports whether the writer uses another file than the current one.
func (r *reader) replaced() bool {
	now, err := os.Stat(filepath.Join(r.dir, fileName))
	own, ownErr := r.file.Stat()
	return err == nil && ownErr == nil && !os.SameFile(now, own)
}

func (r *reader) follow(ctx context.Context) error {
	for {
		if err := r.present(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case _, open := <-r.watcher.Events:
			if !open {
				return errors.New("follow events: the watch ended")
			}
		case err := <-r.watcher.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) { // an overflow only means that there is something to read
				return fmt.Errorf("follow events: %w", err)
			}
		}
	}
}

// take passes on an event if the query selects it.
func (r *reader) take(e Event) error {
	if r.query.Type != "" && e.Type != r.query.Type {
		return nil // the line contained the text elsewhere
	}
	if r.query.Match != nil && !r.query.Match(e) || e.Time.Before(r.query.Since) {
		return nil
	}
	if !r.tailing {
		return r.each(e)
	}
	r.tail = append(r.tail, e)
	if len(r.tail) > 2*r.query.Tail+64 { // not for each event
		r.cutTail()
	}
	return nil
}

func (r *reader) cutTail() {
	if extra := len(r.tail) - r.query.Tail; extra > 0 {
		r.tail = append(r.tail[:0], r.tail[extra:]...)
	}
}

// lineReader reads whole lines. It keeps the beginning of an incomplete line until the rest
// is written.
type lineReader struct {
	in      *bufio.Reader
	partial []byte
}

func newLineReader(in io.Reader) *lineReader {
	return &lineReader{in: bufio.NewReaderSize(in, 64<<10)}
}

// next returns the next whole line, or io.EOF if there is none yet.
func (l *lineReader) next() ([]byte, error) {
	rest, err := l.in.ReadBytes('\n')
	l.partial = append(l.partial, rest...)
	if err != nil {
		return nil, err
	}
	line := l.partial
	l.partial = nil
	return line, nil
}
