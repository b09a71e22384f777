package logs

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"stead/runtime/hostpath"

	"golang.org/x/sys/unix"
)

// A disk may be slow, or take nothing for minutes. A slow one slows down its containers: the
// owner reads no more of a log's pipes while it is full. A log that has waited for too long has
// stalled: then its records are dropped and counted, so that its container does not wait as
// well. Each disk has goroutines and memory of its own, so that one that stalls costs the
// others nothing.

const (
	maxQueued    = 128 << 10 // bytes that wait for each log; a single Write may exceed it
	maxDiskQueue = 4 << 20   // bytes that wait for each disk
	maxWriters   = 2         // goroutines for each disk
	maxSpare     = 4         // buffers that are kept

	// StallAfter is how long a write may take until its log has stalled.
	StallAfter = time.Second
)

// disk is a mount with logs.
type disk struct {
	ready    []*Log // have something to write, and no goroutine writes it
	writers  int
	queued   int       // bytes
	progress time.Time // the last time that a write ended, or that the first one began
}

// Lost says how many records a log has dropped, because its disk was full or did not answer.
type Lost struct {
	Records int64
	Since   time.Time // the first of them
	Reason  string
}

// diskOf returns the disk of a directory. It touches no file system that may hang.
func (s *Set) diskOf(dir string) *disk {
	point := ""
	if m := hostpath.Remote(dir); m != nil {
		point = m.Point
	} else {
		var st unix.Stat_t
		for at := dir; ; at = filepath.Dir(at) {
			if err := unix.Stat(at, &st); err == nil || at == filepath.Dir(at) {
				break
			}
		}
		point = fmt.Sprint(st.Dev)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.disks == nil {
		s.disks = map[string]*disk{}
	}
	if s.disks[point] == nil {
		s.disks[point] = &disk{}
	}
	return s.disks[point]
}

// isFull reports whether nothing more should be queued for the log; the caller holds set.mu.
func (l *Log) isFull() bool {
	return l.queued >= maxQueued || l.disk.queued >= maxDiskQueue && l.queued > 0
}

// isStalled reports whether the log waits for a write that takes too long, its own or those
// before it; the caller holds set.mu.
func (l *Log) isStalled(now time.Time) bool {
	switch {
	case l.queued == 0:
		return false
	case !l.began.IsZero():
		return now.Sub(l.began) >= StallAfter
	}
	return l.disk.writers > 0 && now.Sub(l.disk.progress) >= StallAfter
}

// IsFull reports whether the owner should read no more of this log's pipes now. It reports
// false for a log that has stalled: what it gets is dropped.
func (l *Log) IsFull(now time.Time) bool {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	return l.isFull() && !l.isStalled(now)
}

// IsIdle reports whether all records are written, or dropped.
func (l *Log) IsIdle() bool {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	return l.queued == 0
}

// Lost returns what the log has dropped and not noted in its file yet.
func (l *Log) Lost() Lost {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	return l.lost
}

// Settle waits until everything is written, and reports whether it is. It does not wait for a
// disk that has stalled.
func (s *Set) Settle(patience time.Duration) bool {
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		idle, stalled := true, false
		s.mu.Lock()
		for _, d := range s.disks {
			idle = idle && d.queued == 0 && d.writers == 0
			stalled = stalled || d.writers > 0 && time.Since(d.progress) >= StallAfter
		}
		s.mu.Unlock()
		if idle || stalled || time.Now().After(end) {
			return idle
		}
	}
}

// drop counts records that are lost; the caller holds set.mu.
func (l *Log) drop(records []byte, reason string) {
	n := int64(bytes.Count(records, []byte{'\n'}))
	l.dropped += n
	l.noteLost(n, reason)
}

// noteLost counts lost records, or with a negative n those that the file tells of; the caller
// holds set.mu.
func (l *Log) noteLost(n int64, reason string) {
	if l.lost.Records == 0 {
		l.lost = Lost{Since: time.Now(), Reason: reason}
	}
	if l.lost.Records += n; l.lost.Records <= 0 {
		l.lost = Lost{}
	}
}

// makeReady gives the log to a goroutine; the caller holds set.mu.
func (l *Log) makeReady() {
	d := l.disk
	if l.ready || !l.began.IsZero() {
		return // the goroutine looks again
	}
	l.ready = true
	d.ready = append(d.ready, l)
	if d.writers < maxWriters {
		if d.writers == 0 {
			d.progress = time.Now()
		}
		d.writers++
		go l.set.write(d)
	}
}

// write writes logs of one disk until none is ready.
func (s *Set) write(d *disk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(d.ready) > 0 {
		l := d.ready[0]
		d.ready = d.ready[1:]
		t := l.beginTurn()
		s.mu.Unlock()
		t.run()
		s.mu.Lock()
		l.endTurn(t)
	}
	d.ready = nil
	d.writers--
}

// chunk is a number of records, and how many were dropped before them.
type chunk struct {
	records []byte
	lost    int64
}

// turn is what a goroutine does with a log at once.
type turn struct {
	*Log
	chunks  []chunk
	maxSize int64
	keep    int
	reason  string
	lost    int64 // before the next chunk
	failed  int64 // records that the disk did not take
	noted   int64 // lost ones that the file tells of
	end     bool  // close the file afterwards
}

// beginTurn returns what there is to do; the caller holds set.mu.
func (l *Log) beginTurn() *turn {
	l.ready, l.began = false, time.Now()
	t := &turn{Log: l, chunks: l.queue, maxSize: l.maxSize, keep: l.keep, reason: l.lost.Reason, lost: l.unnoted, end: l.ended}
	if l.queue = nil; len(t.chunks) == 0 {
		t.chunks, l.dropped = []chunk{{lost: l.dropped}}, 0
	}
	return t
}

// endTurn notes what was done; the caller holds set.mu.
func (l *Log) endTurn(t *turn) {
	s := l.set
	l.began, l.disk.progress = time.Time{}, time.Now()
	for _, c := range t.chunks {
		l.queued -= len(c.records)
		l.disk.queued -= len(c.records)
		if n := cap(c.records); len(s.spare) < maxSpare && n > 0 && n <= 16*maxRecord { // not a very large one, as a flood of empty lines makes
			s.spare = append(s.spare, c.records[:0])
		}
	}
	l.unnoted = t.lost
	l.noteLost(t.failed-t.noted, t.reason)
	if len(l.queue) > 0 || l.dropped > 0 || l.ended && !t.end {
		l.makeReady()
	}
	if s.Changed != nil {
		s.Changed()
	}
}

// whyLost says why lines could not be written.
func whyLost(err error) string {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return "the disk was full"
	}
	return "they could not be written: " + err.Error()
}

func (t *turn) run() {
	for _, c := range t.chunks {
		t.lost += c.lost
		t.record(c.records)
	}
	if t.end {
		t.close()
	}
}

// record writes one chunk, either all of its records or none, after a note of what was lost
// before.
func (t *turn) record(records []byte) {
	data := records
	if t.lost > 0 {
		note := time.Now().UTC().AppendFormat(nil, timeFormat)
		note = fmt.Appendf(note, " stderr F stead: %d lines were dropped here: %s\n", t.lost, t.reason)
		data = append(note, records...)
	}
	if len(data) == 0 {
		return
	}
	if err := t.append(data); err != nil {
		n := int64(bytes.Count(records, []byte{'\n'}))
		if t.lost == 0 {
			t.reason = whyLost(err)
		}
		t.failed += n
		t.lost += n
		return
	}
	t.noted += t.lost
	t.lost = 0
	if t.size >= t.maxSize {
		t.rotate(t.keep)
	}
}
