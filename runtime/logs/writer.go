package logs

import (
	"bytes"
	"cmp"
	"container/list"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"stead/runtime/fault"

	"golang.org/x/sys/unix"
)

const (
	maxRecord = 16 << 10 // longer lines are split, as the CRI does
	// Hold is how long the beginning of a line waits for its end before it is
	// written as a part.
	Hold = 250 * time.Millisecond
	// Thousands of containers must not need an open file each.
	defaultMaxOpen = 256
)

// Set holds the logs of many containers, which share a limit of open files. It is not safe for
// concurrent use.
type Set struct {
	MaxOpen int       // limit of open files; 0 is defaultMaxOpen
	open    list.List // of *Log, the most recently used in front
	buf     []byte    // records to write; shared, because a burst makes it large

	at   time.Time // the time that text holds
	text []byte
}

// resetBuffer empties the buffer. It drops a very large one, as a flood of empty lines makes.
func (s *Set) resetBuffer() {
	if s.buf = s.buf[:0]; cap(s.buf) > 16*maxRecord {
		s.buf = nil
	}
}

// timestamp returns t as the beginning of a record. It caches the text, because a burst has
// many records of the same time.
func (s *Set) timestamp(t time.Time) []byte {
	if len(s.text) == 0 || t != s.at {
		s.at, s.text = t, t.UTC().AppendFormat(s.text[:0], "2006-01-02T15:04:05.000000000Z")
	}
	return s.text
}

// Log is one container's log.
type Log struct {
	set     *Set
	dir     string
	maxSize int64
	keep    int

	file    *os.File
	element *list.Element // in set.open; nil while file is nil
	size    int64
	partial [2]line // stdout, stderr
	dropped int64   // records lost because the disk was full
}

// line is the beginning of an incomplete line.
type line struct {
	text []byte
	at   time.Time
	part bool // an earlier part is already written
}

// Stream is stdout or stderr.
type Stream int

const (
	Stdout Stream = iota
	Stderr
)

func (s Stream) String() string { return [...]string{"stdout", "stderr"}[s] }

// Log returns the log in dir, which is created on the first write. Files are rotated at
// maxSize bytes; the last keep rotated files are kept.
func (s *Set) Log(dir string, maxSize int64, keep int) *Log {
	return &Log{set: s, dir: dir, maxSize: maxSize, keep: keep}
}

// Limit changes the size (bytes) and the number of files.
func (l *Log) Limit(maxSize int64, keep int) { l.maxSize, l.keep = maxSize, keep }

// Write logs output from a pipe. It writes complete lines at once. It never fails: lines that
// the disk does not take are dropped and counted, and the log gets a note as soon as there
// is room.
func (l *Log) Write(s Stream, data []byte, now time.Time) {
	p := &l.partial[s]
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		room := maxRecord - len(p.text)
		switch {
		case end >= 0 && end <= room:
			l.record(s, true, p.text, data[:end], now)
			*p = line{}
			data = data[end+1:]
		case len(data) >= room:
			l.record(s, false, p.text, data[:room], now)
			*p = line{part: true}
			data = data[room:]
		default:
			if len(p.text) == 0 {
				p.at = now
			}
			p.text = append(p.text, data...)
			data = nil
		}
	}
	l.flush()
}

// Pending reports whether an incomplete line waits, and until when at most.
func (l *Log) Pending() (until time.Time, ok bool) {
	for _, p := range l.partial {
		if len(p.text) > 0 && (!ok || p.at.Add(Hold).Before(until)) {
			until, ok = p.at.Add(Hold), true
		}
	}
	return until, ok
}

// Expire writes incomplete lines that have waited long enough.
func (l *Log) Expire(now time.Time) { l.expire(now, false) }

// End writes incomplete lines and closes the file, after the container has ended.
func (l *Log) End(now time.Time) {
	l.expire(now, true)
	if l.dropped > 0 {
		l.flush()
	}
	l.close()
}

func (l *Log) expire(now time.Time, end bool) {
	for s := range l.partial {
		p := &l.partial[s]
		if end && (len(p.text) > 0 || p.part) {
			l.record(Stream(s), true, p.text, nil, now)
			*p = line{}
		} else if len(p.text) > 0 && now.Sub(p.at) >= Hold {
			l.record(Stream(s), false, p.text, nil, now)
			*p = line{part: true}
		}
	}
	l.flush()
}

func (l *Log) record(s Stream, full bool, head, tail []byte, now time.Time) {
	l.set.buf = append(l.set.buf, l.set.timestamp(now)...)
	l.set.buf = append(l.set.buf, ' ')
	l.set.buf = append(l.set.buf, s.String()...)
	if full {
		l.set.buf = append(l.set.buf, " F "...)
	} else {
		l.set.buf = append(l.set.buf, " P "...)
	}
	l.set.buf = append(l.set.buf, head...)
	l.set.buf = append(l.set.buf, tail...)
	l.set.buf = append(l.set.buf, '\n')
}

// flush writes the buffer, either all of its records or none.
func (l *Log) flush() {
	if len(l.set.buf) == 0 && l.dropped == 0 {
		return
	}
	defer l.set.resetBuffer()
	records := int64(bytes.Count(l.set.buf, []byte{'\n'}))
	if l.dropped > 0 {
		note := fmt.Sprintf("%s stderr F stead: %d lines were dropped here: the disk was full\n", l.set.timestamp(time.Now()), l.dropped)
		l.set.buf = append([]byte(note), l.set.buf...)
	}
	if err := l.append(l.set.buf); err != nil {
		l.dropped += records
		return
	}
	l.dropped = 0
	if l.size >= l.maxSize {
		l.rotate()
	}
}

func (l *Log) append(data []byte) error {
	if err := l.openFile(); err != nil {
		return err
	}
	n, err := l.file.Write(data)
	if err != nil {
		if n > 0 { // a partial record would join the next one
			err = errors.Join(err, l.file.Truncate(l.size))
		}
		return err
	}
	l.size += int64(n)
	return nil
}

func (l *Log) openFile() error {
	if l.file != nil {
		l.set.open.MoveToFront(l.element)
		return nil
	}
	path := filepath.Join(l.dir, File)
	const flags = os.O_WRONLY | os.O_APPEND | os.O_CREATE | unix.O_NOFOLLOW
	f, err := os.OpenFile(path, flags, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		if err = os.MkdirAll(l.dir, 0o700); err == nil {
			f, err = os.OpenFile(path, flags, 0o600)
		}
	}
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.file, l.size = f, st.Size()
	l.element = l.set.open.PushFront(l)
	if l.set.open.Len() > cmp.Or(l.set.MaxOpen, defaultMaxOpen) {
		l.set.open.Back().Value.(*Log).close()
	}
	return nil
}

func (l *Log) close() {
	if l.file == nil {
		return
	}
	l.file.Close()
	l.set.open.Remove(l.element)
	l.file, l.element = nil, nil
}

// rotate renames the file to the next number and removes surplus files. Each number is used
// once, so a name never means another file.
func (l *Log) rotate() {
	l.close()
	path := filepath.Join(l.dir, File)
	old := rotatedNumbers(l.dir)
	next := 1
	if len(old) > 0 {
		next = old[len(old)-1] + 1
	}
	fault.Point("rotate-begun")
	if l.keep == 0 {
		os.Remove(path)
	} else if err := os.Rename(path, rotatedPath(l.dir, next)); err != nil && !errors.Is(err, os.ErrNotExist) {
		os.Truncate(path, 0) // can't be kept, but the size must stay limited
	}
	fault.Point("rotate-renamed")
	for _, n := range old {
		if n <= next-l.keep {
			os.Remove(rotatedPath(l.dir, n))
		}
	}
}
