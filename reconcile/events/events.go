// Package events keeps what was done on this host, and why: a durable and
// bounded list, one JSON object a line, that one process writes and any may read.
//
// It knows nothing of containers: what is worth an event is reconcile's to say.
package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Type of an event: stable codes that scripts may depend on.
type Type string

const (
	Done     Type = "done"     // an action
	Failed   Type = "failed"   // an action; it is tried again unless an admin asked for it
	Exited   Type = "exited"   // a command, by itself
	Held     Type = "held"     // a removal that waits for a confirmation, or what an admin put on hold
	Unheld   Type = "unheld"   // no longer held
	Invalid  Type = "invalid"  // a manifest or a directory can't be followed
	Valid    Type = "valid"    // it can be followed again
	Deleted  Type = "deleted"  // data of a removed container, for good
	Started  Type = "started"  // the daemon
	Released Type = "released" // an admin's hold
)

// Event is something that happened. Values that may be secrets are never in it.
// Fields are only ever added.
type Event struct {
	Time      time.Time `json:"time"` // UTC
	Type      Type      `json:"type"`
	Container string    `json:"container,omitempty"`
	Action    string    `json:"action,omitempty"`   // of done, failed and held
	Cause     string    `json:"cause,omitempty"`    // one clause
	Changes   []Change  `json:"changes,omitempty"`  // fields
	Message   string    `json:"message,omitempty"`  // the error, or what else is to be said
	ExitCode  *int      `json:"exitCode,omitempty"` // of exited; -1 unknown
	Reason    string    `json:"reason,omitempty"`   // of exited: its stable code
	File      string    `json:"file,omitempty"`     // of invalid and valid
}

// Change is a field that differs.
type Change struct {
	Path   string `json:"path"`
	Before string `json:"before"`
	After  string `json:"after"`
}

const (
	fileName = "events.log"
	oldName  = "events.log.1"
	// MaxSize is the most bytes of a file; there are two, so that at least this
	// much is always kept: some 20,000 events.
	MaxSize = 8 << 20
)

// Journal is the writing side. There is one at a time: whoever holds the state
// directory's lock.
type Journal struct {
	dir string
	max int64

	mu   sync.Mutex
	file *os.File // nil until the first event, and after a failed rotation
	size int64
	torn bool // the file does not end with a line: a writer died, or the disk was full
}

// Open returns the journal of a directory for writing. What is wrong with its file
// shows when something is recorded: a host goes on without a journal.
func Open(dir string) *Journal { return &Journal{dir: dir, max: MaxSize} }

// open opens the file where that is to be done, anew if somebody has deleted it:
// nobody would read what is written to that one.
func (j *Journal) open() error {
	if j.file != nil {
		var st unix.Stat_t
		if unix.Fstat(int(j.file.Fd()), &st) == nil && st.Nlink > 0 {
			return nil
		}
		j.file.Close()
		j.file = nil
	}
	f, err := os.OpenFile(filepath.Join(j.dir, fileName), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open events: %w", err)
	}
	info, err := f.Stat()
	last := []byte{'\n'}
	if err == nil && info.Size() > 0 {
		_, err = f.ReadAt(last, info.Size()-1)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("open events: %w", err)
	}
	j.file, j.size, j.torn = f, info.Size(), last[0] != '\n'
	return nil
}

// Close ends the writing.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}

// Record appends events. They survive the process; a host that dies may forget
// the last seconds.
func (j *Journal) Record(list ...Event) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.open(); err != nil {
		return err
	}
	var text bytes.Buffer
	if j.torn {
		text.WriteByte('\n')
	}
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(false)
	for _, e := range list {
		e.Time = e.Time.UTC()
		if err := out.Encode(e); err != nil {
			return fmt.Errorf("record an event: %w", err)
		}
	}
	if j.size > 0 && j.size+int64(text.Len()) > j.max {
		if err := j.rotate(); err != nil {
			return err
		}
	}
	n, err := j.file.Write(text.Bytes())
	j.size += int64(n)
	if err != nil {
		j.torn = j.torn && n == 0 || n > 0 && text.Bytes()[n-1] != '\n'
		return fmt.Errorf("record an event: %w", err)
	}
	j.torn = false
	return nil
}

// rotate goes on in a new file and keeps one of the old ones.
func (j *Journal) rotate() error {
	if err := os.Rename(filepath.Join(j.dir, fileName), filepath.Join(j.dir, oldName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("rotate events: %w", err)
	}
	j.file.Close()
	j.file = nil
	return j.open()
}

// LastExits are the times of the last recorded ends of commands, by container.
func LastExits(dir string) (map[string]time.Time, error) {
	last := map[string]time.Time{}
	err := Read(context.Background(), dir, Query{Tail: -1, Type: Exited}, func(e Event) error {
		last[e.Container] = e.Time
		return nil
	})
	return last, err
}

// decode reads the lines of a file that hold a text. One that is no event (a torn
// one, or one of a newer program) is left out.
func decode(lines *lineReader, text []byte, each func(Event) error) error {
	for {
		line, err := lines.next()
		if err == nil && bytes.Contains(line, text) {
			var e Event
			if json.Unmarshal(line, &e) == nil && e.Type != "" {
				err = each(e)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
