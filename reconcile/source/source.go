// Package source reads the manifest directories: it watches them, rereads what
// may have changed, and keeps what each file gave before.
//
// Of several directories the later ones' files stand for the earlier ones', the
// drop-ins of all are merged into the manifests, and what others than a trusted
// owner can write is refused, above all what a container can.
//
// An event never says what to do, only that it is time to look again. The
// package knows files and documents; what they mean for the containers of this
// host is reconcile's to decide.
package source

import (
	"log/slog"
	"sync"
	"time"

	"stead/runtime/hostpath"
	"stead/spec"
)

// Parser turns the bytes of a file into documents, each with the drop-in
// fragments for its container's name merged over it.
type Parser interface {
	ParseWith(file string, data []byte, fragments func(name string) []*spec.Fragment) []spec.Document
}

// Source is the manifest directories of this host, in the order of the search
// path. Set the fields, call Watch if changes should be noticed, then Read as
// often as there is a reason to.
type Source struct {
	Dirs   []string
	Parser Parser
	Host   string // the name of this host, as the parser has it
	Trust  *Trust // nil: whoever wrote them
	// Writable are the files and directories of this host that containers can write,
	// or ever could: paths without links and identities (hostpath), in a list that only
	// grows at its end. Nothing is read below these. nil: there are none.
	Writable func() []string
	// Protected are paths that no container may write, besides the manifests.
	Protected []hostpath.Protected
	Log       *slog.Logger

	wake  chan struct{} // holds at most one wake-up
	once  sync.Once
	watch *watch // nil unless watching

	mu           sync.Mutex // one Read at a time
	roots        []*folder  // what Dirs held when last read
	overlays     *overlay   // the drop-ins among it
	last         *Reading
	guard        guard
	guardVersion int // number of the guard by which all files were
}

// Reading is what the directories held at one moment. It is never changed
// afterwards: two readings that find the same are the same pointer.
type Reading struct {
	Host string // the name of this host
	Dirs []Dir
	// Files that count, by directory and name: those that a later directory
	// replaces or masks are not among them.
	Files []*File
	// Fragments are the drop-in files that count, in the order of their paths.
	Fragments []*File
	// Replaced says, by path, which file stands in for one that is there too but
	// does not count. A masked file is there with nil.
	Replaced map[string]*File
	// Retry is how soon to look again without any event, since a file's writer is
	// still at it or something can't be watched; 0 if there is no such reason.
	Retry time.Duration
	// Unwatched says why changes of some are noticed by looking only.
	Unwatched error
}

// Dir is one manifest directory.
type Dir struct {
	Path string
	// Err is why not all of it could be read. What is not seen in such a
	// directory is not known to be gone.
	Err error
}

// File is one file of the manifest directories.
type File struct {
	Path string // the directory's path as given, and Rel
	Rel  string // below the directory
	Dir  int    // index in Reading.Dirs
	// DropIn tells a fragment from a manifest; Of is then the container that it is
	// for, "" for all whose manifests lie in the folder In or below it, and Fragment
	// what it holds: nil only if nobody has read it yet because its writer is still at
	// it.
	DropIn   bool
	Of       string
	In       string // below the directory, "" for the directory itself
	Fragment *spec.Fragment
	// Foreign is set for a file that never held a manifest as long as this Source has
	// read it: an application's own configuration, say.
	Foreign bool
	// Documents in the file; while it is waited for, those that it held before.
	Documents []spec.Document
	// Err is what keeps the file as a whole from being read; nil for errors of a
	// document.
	Err *spec.Error
	// Waiting is since when somebody has had the file open for writing, so that
	// it is not read yet; zero if nobody has. Writer is the file: this one, or a
	// drop-in for a container in it that was never read.
	Waiting time.Time
	Writer  string
}

// Wake receives when the directories may hold something else than the last
// reading. It holds at most one wake-up.
func (s *Source) Wake() <-chan struct{} {
	s.init()
	return s.wake
}

func (s *Source) init() {
	s.once.Do(func() { s.wake = make(chan struct{}, 1) })
}

func (s *Source) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// log is the logger, or one that says nothing.
func (s *Source) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// Change alters the exported fields while others may read. The next Read begins
// afresh.
func (s *Source) Change(alter func(s *Source)) {
	s.init()
	s.mu.Lock()
	alter(s)
	s.roots, s.overlays, s.last = nil, nil, nil
	s.guard.names = nil
	if s.watch != nil {
		s.watch.invalidate()
	}
	s.mu.Unlock()
	s.signal()
}

// Renew forgets what is only a saving of work (which directories are watched,
// what they listed), so that the next Read builds it again. Called on each
// resync tick, it heals whatever an event or a file system's odd time stamps
// may have hidden.
func (s *Source) Renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guard.names = nil
	for _, t := range s.roots {
		t.invalidate()
	}
	if s.watch != nil {
		s.watch.invalidate()
	}
}
