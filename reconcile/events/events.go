// Package events keeps the journal of this host: which actions were done, and why. The
// journal is durable and limited in size, with one JSON object a line. One process writes it
// and any process may read it.
//
// The package must not know containers: reconcile decides what is worth an event.
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

// Type is the type of an event. The values are stable: scripts may depend on them.
type Type string

const (
	Done     Type = "done"     // an action succeeded
	Failed   Type = "failed"   // an action failed; it is retried unless an admin asked for it
	Exited   Type = "exited"   // a command exited by itself
	OOM      Type = "oom"      // a process was killed for lack of memory, and the command went on
	Held     Type = "held"     // a removal waits for a confirmation, or an admin put a container on hold
	Unheld   Type = "unheld"   // no longer held
	Invalid  Type = "invalid"  // a manifest or a directory has an error
	Valid    Type = "valid"    // the error is gone
	Deleted  Type = "deleted"  // the data of a removed container was deleted
	Started  Type = "started"  // the daemon started
	Released Type = "released" // an admin ended a hold
)

// Event is an entry of the journal. It never holds values that may be secrets. Fields are
// only ever added.
type Event struct {
	Time      time.Time `json:"time"` // UTC
	Type      Type      `json:"type"`
	Container string    `json:"container,omitempty"`
	Image     string    `json:"image,omitempty"`    // instead of a container, of what was done to an image
	Action    string    `json:"action,omitempty"`   // of done, failed and held
	Cause     string    `json:"cause,omitempty"`    // one clause
	Changes   []Change  `json:"changes,omitempty"`  // fields
	Message   string    `json:"message,omitempty"`  // the error or other details
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
	// MaxSize is the maximum size of a file in bytes. There are two files, so at least this
	// much is always kept: about 20,000 events.
	MaxSize = 8 << 20
)

// Journal writes events. Only the process that holds the lock of the state directory may
// have one.
type Journal struct {
	dir string
	max int64

	mu   sync.Mutex
	file *os.File // nil until the first event, and after a failed rotation
	size int64
	torn bool // the last line is incomplete: a writer died, or the disk was full
}

// Open returns the journal of a directory for writing. It never fails: errors of the file
// are returned by Record, since a host must work without a journal too.
func Open(dir string) *Journal { return &Journal{dir: dir, max: MaxSize} }

// open opens the file unless it is open. It opens a new file if somebody has deleted the
// current one, since nobody would read that.
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

// Close closes the journal.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}

// Record appends events. They survive the end of the process; a crash of the host may lose
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

// rotate starts a new file and keeps one old file.
func (j *Journal) rotate() error {
	if err := os.Rename(filepath.Join(j.dir, fileName), filepath.Join(j.dir, oldName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("rotate events: %w", err)
	}
	j.file.Close()
	j.file = nil
	return j.open()
}

// LastExits returns the time of the last recorded exit of each container.
func LastExits(dir string) (map[string]time.Time, error) {
	last := map[string]time.Time{}
	err := Read(context.Background(), dir, Query{Tail: -1, Type: Exited}, func(e Event) error {
		last[e.Container] = e.Time
		return nil
	})
	return last, err
}

// decode calls each for the events of the lines that contain a text. It skips lines that
// are not events: incomplete ones, and those of a newer version.
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
