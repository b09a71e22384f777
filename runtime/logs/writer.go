package logs

import (
	"bytes"
	"container/list"
	"os"
	"sync"
	"time"
)

const (
	maxRecord = 16 << 10 // longer lines are split, as the CRI does
	// Hold is how long the beginning of a line waits for its end before it is
	// written as a part.
	Hold = 250 * time.Millisecond
	// Thousands of containers must not need an open file each.
	defaultMaxOpen = 256
)

// Set holds the logs of many containers. Its owner formats records (Write, Expire, End) from
// one goroutine at a time and never waits for a disk: goroutines of the set write the files.
type Set struct {
	MaxOpen int // limit of open files; 0 is defaultMaxOpen
	// Changed is called when a log has room again or has written all; it must not block.
	Changed func()

	buf  []byte    // records of the current call of Write, Expire or End
	at   time.Time // the time that text holds
	text []byte

	mu    sync.Mutex       // guards what follows, and what it guards of each Log
	disks map[string]*disk // by device, or mount point if that may hang
	open  list.List        // of *Log, the most recently used in front
	spare [][]byte         // empty buffers for buf
}

// timestamp returns t as the beginning of a record. It caches the text, because a burst has
// many records of the same time.
func (s *Set) timestamp(t time.Time) []byte {
	if len(s.text) == 0 || t != s.at {
		s.at, s.text = t, t.UTC().AppendFormat(s.text[:0], timeFormat)
	}
	return s.text
}

const timeFormat = "2006-01-02T15:04:05.000000000Z"

// Log is one container's log.
type Log struct {
	set     *Set
	dir     string
	disk    *disk
	partial [2]line // stdout, stderr

	// Guarded by set.mu:
	maxSize int64
	keep    int
	queue   []chunk
	queued  int           // bytes of records that are not written yet
	ready   bool          // in disk.ready
	began   time.Time     // of the write under way; zero if there is none
	ended   bool          // the file can be closed
	dropped int64         // records lost after those in queue
	unnoted int64         // records lost before those in queue, of which the file does not tell
	lost    Lost          // all lost records of which the file does not tell
	element *list.Element // in set.open; nil while file is nil

	// Of the goroutine that writes, or guarded by set.mu while none does:
	file *os.File
	size int64
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
	return &Log{set: s, dir: dir, disk: s.diskOf(dir), maxSize: maxSize, keep: keep}
}

// Limit changes the size (bytes) and the number of files.
func (l *Log) Limit(maxSize int64, keep int) {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	l.maxSize, l.keep = maxSize, keep
}

// Write logs output from a pipe. It queues complete lines at once. It never fails and never
// waits: lines that the disk does not take are dropped and counted, and the log gets a note as
// soon as there is room.
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

// Expire queues incomplete lines that have waited long enough.
func (l *Log) Expire(now time.Time) { l.expire(now, false) }

// End queues incomplete lines, after the container has ended; then the file is closed.
func (l *Log) End(now time.Time) {
	l.expire(now, true)
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	l.ended = true
	if l.file != nil || l.dropped+l.unnoted > 0 {
		l.makeReady()
	}
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

// flush queues the buffer, or drops it if the disk has stalled.
func (l *Log) flush() {
	s := l.set
	if len(s.buf) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.isFull() && l.isStalled(time.Now()) {
		l.drop(s.buf, "the disk did not take them in time")
		s.buf = s.buf[:0]
		return
	}
	l.queue = append(l.queue, chunk{s.buf, l.dropped})
	l.dropped = 0
	l.queued += len(s.buf)
	l.disk.queued += len(s.buf)
	s.buf = nil
	if n := len(s.spare); n > 0 {
		s.buf, s.spare = s.spare[n-1], s.spare[:n-1]
	}
	l.makeReady()
}
