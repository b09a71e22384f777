package logs

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"

	"stead/runtime/fault"

	"golang.org/x/sys/unix"
)

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
	if l.file != nil && l.isInPlace() {
		l.set.mu.Lock()
		defer l.set.mu.Unlock()
		l.set.open.MoveToFront(l.element)
		return nil
	}
	l.close() // somebody removed it, or put another in its place: go on where readers look
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
	l.noteOpen(f, st.Size())
	return nil
}

// isInPlace reports whether the open file still is the one that readers find. It notes the size:
// somebody may have emptied it.
func (l *Log) isInPlace() bool {
	var open, found unix.Stat_t
	if err := unix.Fstat(int(l.file.Fd()), &open); err != nil {
		return false
	}
	l.size = open.Size
	err := unix.Lstat(filepath.Join(l.dir, File), &found)
	return err == nil && open.Ino == found.Ino && open.Dev == found.Dev
}

// noteOpen adds a file to the open ones and closes the least recently used one if there are too
// many: one that nobody writes now.
func (l *Log) noteOpen(f *os.File, size int64) {
	s := l.set
	s.mu.Lock()
	l.file, l.size = f, size
	l.element = s.open.PushFront(l)
	var surplus *os.File
	if s.open.Len() > cmp.Or(s.MaxOpen, defaultMaxOpen) {
		for e := s.open.Back(); e != nil && surplus == nil; e = e.Prev() {
			if other := e.Value.(*Log); other.began.IsZero() {
				surplus = other.takeFile()
			}
		}
	}
	s.mu.Unlock()
	if surplus != nil {
		surplus.Close()
	}
}

// takeFile returns the open file, which is no longer the log's; the caller holds set.mu.
func (l *Log) takeFile() *os.File {
	f := l.file
	if f != nil {
		l.set.open.Remove(l.element)
		l.file, l.element = nil, nil
	}
	return f
}

func (l *Log) close() {
	l.set.mu.Lock()
	f := l.takeFile()
	l.set.mu.Unlock()
	if f != nil {
		f.Close()
	}
}

// rotate renames the file to the next number and removes surplus files. Each number is used
// once, so a name never means another file.
func (l *Log) rotate(keep int) {
	l.close()
	path := filepath.Join(l.dir, File)
	old := rotatedNumbers(l.dir)
	next := 1
	if len(old) > 0 {
		next = old[len(old)-1] + 1
	}
	fault.Point("rotate-begun")
	if keep == 0 {
		os.Remove(path)
	} else if err := os.Rename(path, rotatedPath(l.dir, next)); err != nil && !errors.Is(err, os.ErrNotExist) {
		os.Truncate(path, 0) // can't be kept, but the size must stay limited
	}
	fault.Point("rotate-renamed")
	for _, n := range old {
		if n <= next-keep {
			os.Remove(rotatedPath(l.dir, n))
		}
	}
}
