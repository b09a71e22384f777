package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// isJournal reports whether a file is the connection to the system's journal that stream, the
// variable JOURNAL_STREAM, names as DEVICE:INODE (systemd.exec(5)). A file or a pipe that
// replaced it is none.
func isJournal(f *os.File, stream string) bool {
	var st unix.Stat_t
	return stream != "" && unix.Fstat(int(f.Fd()), &st) == nil && stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// forJournal leaves out the time of a record, which the journal has itself.
func forJournal(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// journalWriter puts the level of each line before it, as the journal reads it (sd-daemon(3)).
type journalWriter struct {
	mu  sync.Mutex
	out io.Writer
}

func (w *journalWriter) Write(line []byte) (int, error) {
	level := "<6>" // info
	switch {
	case hasLevel(line, "ERROR"):
		level = "<3>"
	case hasLevel(line, "WARN"):
		level = "<4>"
	case hasLevel(line, "DEBUG"):
		level = "<7>"
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.out.Write(append([]byte(level), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// hasLevel reports whether a line of slog begins with a level: the time is left out.
func hasLevel(line []byte, level string) bool {
	return bytes.HasPrefix(line, []byte("level="+level)) || bytes.HasPrefix(line, []byte(`{"level":"`+level))
}
