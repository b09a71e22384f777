package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Record is one line of output, or a part of a line.
type Record struct {
	Time   time.Time
	Stream string // "stdout" or "stderr"
	Part   bool   // the line continues in the next record of this stream
	Text   string // without the newline
}

// Options selects the records that Read emits.
type Options struct {
	Tail   int       // the last N lines; negative: all
	Since  time.Time // records at or after it; zero: all
	Until  time.Time // records before it; zero: all
	Stream string    // only "stdout" or "stderr"; "" for both
	Follow bool      // also emit later records, across rotations, until ctx ends
}

// Read calls emit with the records in dir, the oldest first. A missing log is empty. Read
// returns the first error of emit. When ctx ends, a Follow returns nil.
func Read(ctx context.Context, dir string, o Options, emit func(Record) error) error {
	r := &reader{dir: dir, o: o, emit: emit}
	var watch *watcher
	if o.Follow { // watch, then read
		var err error
		if watch, err = newWatcher(ctx, dir); err != nil {
			return err
		}
		defer watch.close()
	}
	if err := r.readExisting(); err != nil || !o.Follow {
		r.close()
		return err
	}
	defer r.close()
	for {
		if err := r.follow(); err != nil {
			return err
		}
		if err := watch.wait(); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

type reader struct {
	dir  string
	o    Options
	emit func(Record) error

	file   *os.File // the current file; Follow continues in it
	number int      // the number of file or, while it has none, of the one before it
	rest   []byte   // beginning of an incomplete record
}

func (r *reader) close() {
	if r.file != nil {
		r.file.Close()
	}
}

// readExisting reads all existing files. The newest stays open.
func (r *reader) readExisting() (err error) {
	// The current file is opened before the others are listed. Later rotations are found by
	// follow.
	if r.file, err = open(filepath.Join(r.dir, File)); err != nil {
		return err
	}
	old := r.olderThanOurs(rotatedNumbers(r.dir))
	var files []*os.File // the newest first
	defer func() {
		for _, f := range files {
			if f != r.file {
				f.Close()
			}
		}
	}()
	if r.file != nil {
		files = append(files, r.file)
	}
	for i := len(old) - 1; i >= 0; i-- {
		f, err := open(rotatedPath(r.dir, old[i]))
		if err != nil {
			return err
		}
		if f == nil {
			continue // removed meanwhile
		}
		if files = append(files, f); r.file == nil {
			r.file, r.number = f, old[i]
		}
	}
	if r.o.Tail >= 0 {
		return r.tail(files)
	}
	for i := len(files) - 1; i >= 0; i-- {
		if err := r.scan(files[i], files[i] == r.file, r.emit); err != nil {
			return err
		}
	}
	return nil
}

// olderThanOurs returns the listed files that were rotated before the current file.
func (r *reader) olderThanOurs(listed []int) []int {
	for i, n := range listed {
		if is, _ := r.isOurs(n); is {
			r.number = n
			return listed[:i]
		}
	}
	return listed
}

// isOurs reports whether the rotated file n is the current file, and whether it exists.
func (r *reader) isOurs(n int) (is, there bool) {
	if r.file == nil {
		return false, false
	}
	mine, err := r.file.Stat()
	st, err2 := os.Stat(rotatedPath(r.dir, n))
	return err == nil && err2 == nil && os.SameFile(st, mine), err2 == nil
}

// open opens a file; nil if it does not exist.
func open(name string) (*os.File, error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

// scan emits the complete records from the position of f on. If f is the current file, it
// keeps the beginning of an incomplete record for the next scan.
func (r *reader) scan(f *os.File, current bool, emit func(Record) error) error {
	in := bufio.NewReaderSize(f, 64<<10)
	for {
		b, err := in.ReadBytes('\n')
		if err == io.EOF {
			if current {
				r.rest = append(r.rest, b...)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		if current && len(r.rest) > 0 {
			b = append(r.rest, b...)
			r.rest = nil
		}
		x, ok := parse(b[:len(b)-1])
		if !ok || r.o.Stream != "" && x.Stream != r.o.Stream || x.Time.Before(r.o.Since) || (!r.o.Until.IsZero() && !x.Time.Before(r.o.Until)) {
			continue
		}
		if err := emit(x); err != nil {
			return err
		}
	}
}

// follow reads to the end of the current file and of all files that followed it by rotation.
func (r *reader) follow() error {
	for {
		if r.file != nil {
			if err := r.noticeTruncation(); err != nil {
				return err
			}
			if err := r.scan(r.file, true, r.emit); err != nil {
				return err
			}
		}
		next, err := r.nextFile()
		if err != nil || next == nil {
			return err
		}
		if r.file != nil { // records written after the scan and before the rotation
			err := r.scan(r.file, true, r.emit)
			r.file.Close()
			if err != nil {
				next.Close()
				return err
			}
		}
		r.file, r.rest = next, nil
	}
}

// noticeTruncation goes back to the beginning of the current file if it is shorter than what was
// read of it: somebody has emptied it.
func (r *reader) noticeTruncation() error {
	at, err := r.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	st, err := r.file.Stat()
	if err != nil || st.Size() >= at {
		return err
	}
	r.rest = nil
	_, err = r.file.Seek(0, io.SeekStart)
	return err
}

// nextFile returns the file that follows the current file; nil if there is none. Several
// rotations may happen between two calls or during a call.
func (r *reader) nextFile() (*os.File, error) {
	for {
		current, err := open(filepath.Join(r.dir, File))
		if err != nil {
			return nil, err
		}
		if current != nil && r.file != nil && sameFile(current, r.file) {
			return nil, current.Close()
		}
		n := r.nextNumber(rotatedNumbers(r.dir)) // without a current file, the first
		if n == 0 {
			return current, nil // nil: rotated, and no new file exists yet
		}
		if current != nil {
			current.Close()
		}
		f, err := open(rotatedPath(r.dir, n))
		if r.number = n; f != nil || err != nil { // else removed as too old meanwhile
			return f, err
		}
	}
}

func sameFile(a, b *os.File) bool {
	x, err := a.Stat()
	y, err2 := b.Stat()
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// nextNumber returns the number of the file that was rotated after the current file; 0 if
// there is none. A listing during rotations may contain a later file and lack an earlier
// one (readdir(3)). Numbers are consecutive, so a missing lower number is looked up by
// its name.
func (r *reader) nextNumber(listed []int) int {
	next := 0
	for _, n := range listed {
		if n <= r.number {
			continue
		}
		if is, _ := r.isOurs(n); is {
			r.number, next = n, 0
		} else if next == 0 {
			next = n
		}
	}
	for next-1 > r.number {
		is, there := r.isOurs(next - 1)
		if is {
			r.number = next - 1
		}
		if is || !there { // removed as too old, like all before it
			break
		}
		next--
	}
	return next
}

// parse parses `TIME STREAM TAG TEXT` and reports whether the line is a record.
func parse(b []byte) (Record, bool) {
	f := bytes.SplitN(b, []byte{' '}, 4)
	if len(f) < 4 || len(f[2]) == 0 {
		return Record{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, string(f[0]))
	if err != nil {
		return Record{}, false
	}
	return Record{Time: t, Stream: string(f[1]), Part: f[2][0] == 'P', Text: string(f[3])}, true
}

// rotatedPath returns the path of the rotated file n.
func rotatedPath(dir string, n int) string { return filepath.Join(dir, File+"."+strconv.Itoa(n)) }

// rotatedNumbers returns the numbers of the rotated files, the oldest first.
func rotatedNumbers(dir string) []int {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	var all []int
	for _, name := range names {
		if s, ok := strings.CutPrefix(name, File+"."); ok {
			if n, err := strconv.Atoi(s); err == nil && n > 0 {
				all = append(all, n)
			}
		}
	}
	sort.Ints(all)
	return all
}
