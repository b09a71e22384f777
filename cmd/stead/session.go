package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"stead/runtime/record"
)

// currentRun returns the id of a container's current run, "" if there is none.
func currentRun(runDir, name string) string {
	id, _ := os.Readlink(filepath.Join(runDir, record.CurrentDir, name))
	return id
}

// endNoted is how long the end of a run may take to be recorded after its processes are gone.
const endNoted = time.Second

// runEnd says how a run came to its end; "" if it goes on.
func runEnd(runDir, name, run string) string {
	for end := time.Now().Add(endNoted); ; time.Sleep(5 * time.Millisecond) {
		const byAdmin = "was stopped, restarted or removed"
		if currentRun(runDir, name) != run { // a restart has no run for a moment
			return byAdmin
		}
		if r, err := record.Read(runDir, run); err == nil && r.State == record.Exited {
			switch e := r.Ending; {
			case r.Stopping:
				return byAdmin
			case e != nil && e.Signal == 0 && !e.Unknown:
				return fmt.Sprintf("ended with exit code %d", e.Code)
			}
			return "ended"
		}
		if time.Now().After(end) {
			return ""
		}
	}
}

// screen passes the output of a session on, and notes what the session has changed of the screen:
// a command that is killed can't change it back.
type screen struct {
	out       io.Writer
	mu        sync.Mutex // guards what follows
	last      []byte     // the end of the output so far
	alternate bool
}

var toAlternate, fromAlternate = []byte("\x1b[?1049h"), []byte("\x1b[?1049l")

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := append(s.last, b...)
	if on, off := bytes.LastIndex(seen, toAlternate), bytes.LastIndex(seen, fromAlternate); on != off {
		s.alternate = on > off
	}
	s.last = bytes.Clone(seen[max(0, len(seen)-len(toAlternate)+1):])
	return s.out.Write(b)
}

// leave leaves the alternate screen, and undoes what goes with it: a hidden cursor, colours,
// reports of the mouse and of pastes.
func (s *screen) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.alternate {
		fmt.Fprint(s.out, "\x1b[?1049l\x1b[?25h\x1b[0m\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?2004l")
	}
}
