package keeper

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The keeper's own messages, and what Go prints when it crashes, go to keeper.log in the run
// directory: in memory, for months. A full file is renamed, and the one before it is lost.

const (
	logName    = "keeper.log"
	oldLogName = "keeper.log.1"
	maxLogSize = 256 << 10 // bytes of each of the two
)

// openLog opens the log of a run directory, a new one if it is full.
func openLog(run string, max int64) (*os.File, error) {
	path := filepath.Join(run, logName)
	if st, err := os.Lstat(path); err == nil && st.Size() >= max {
		if err := os.Rename(path, filepath.Join(run, oldLogName)); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
}

// ownLog writes the keeper's messages to the log, which is open as its descriptors out.
type ownLog struct {
	run string
	out []int // stdout and stderr
	max int64
}

// Write writes a message. slog calls it for one message at a time.
func (l *ownLog) Write(message []byte) (int, error) {
	var st unix.Stat_t
	fd := l.out[len(l.out)-1]
	if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size >= l.max {
		if f, err := openLog(l.run, l.max); err == nil { // else it goes on where it was
			for _, fd := range l.out {
				_ = unix.Dup3(int(f.Fd()), fd, 0)
			}
			f.Close()
		}
	}
	return unix.Write(fd, message)
}
