// Package source reads the manifest directories: it watches them, rereads what
// may have changed, and keeps what each file gave before.
//
// A file in a later directory replaces the file of the same name in an earlier one. The
// drop-ins of all directories are merged into the manifests. Files that others than a
// trusted owner can write are refused, above all files that a container can write.
//
// An event only causes another reading; it never says what has changed. The package knows
// files and documents. It must not know what they mean for the containers of this host,
// which reconcile decides.
package source

import (
	"log/slog"
	"sync"
	"time"

	"stead/reconcile/source/disk"
	"stead/runtime/files"
	"stead/runtime/hostpath"
	"stead/spec"
)

// Parser turns the bytes of a file into documents, each with the drop-in
// fragments for its container's name merged over it.
type Parser interface {
	ParseWith(file string, data []byte, fragments func(name string) []*spec.Fragment) []spec.Document
}

// Source reads the manifest directories of this host, in the order of the search path. Set
// the fields, call Watch to be notified of changes, then call Read after each wake-up.
type Source struct {
	Dirs   []string
	Parser Parser
	Host   string // the name of this host, as the parser has it
	Trust  *Trust // nil trusts every owner
	// Writable returns the files and directories of this host that containers can write, or
	// ever could: paths without links and identities (hostpath), in a list that only grows
	// at its end. Nothing below them is read. nil means that there are none.
	Writable func() []string
	// Protected are the paths that no container may write, in addition to the manifests.
	Protected []hostpath.Protected
	// Contents says which sources of files are read, and Key is the key of their sums.
	Contents Which
	Key      files.Key
	Log      *slog.Logger

	wake  chan struct{} // holds at most one wake-up
	once  sync.Once
	watch *watch // nil unless watching

	mu           sync.Mutex // one Read at a time
	disk         disk.Disk
	roots        []*folder // the cache of each directory
	overlays     *overlay  // the drop-ins in effect
	last         *Reading
	guard        guard
	guardVersion int // version of the guard that has checked all files

	contents        contents
	contentsVersion int // version of the contents that all files have
}

// Reading holds the content of the directories at one moment. It never changes. If nothing
// has changed, Read returns the same pointer again.
type Reading struct {
	Host string // the name of this host
	Dirs []Dir
	// Files are the manifest files in effect, by directory and name, without those that a
	// later directory replaces or masks.
	Files []*File
	// Fragments are the drop-in files in effect, in the order of their paths.
	Fragments []*File
	// Unread are the paths of files that are not read, for their names, and probably meant.
	Unread []string
	// Replaced maps the path of each file that is not in effect to the file that replaces
	// it, or to nil if it is masked.
	Replaced map[string]*File
	// Retry is when to read again without an event, because a file is being written or
	// something can't be watched; 0 if there is no such reason.
	Retry time.Duration
	// Unwatched is why some directories are polled instead of watched; nil if none are.
	Unwatched error
}

// Dir is one manifest directory.
type Dir struct {
	Path string
	// Err is why the directory could not be read completely. A manifest that is missing in
	// such a directory does not count as removed.
	Err error
}

// File is one file of the manifest directories.
type File struct {
	Path string // the path of the directory as configured, followed by Rel
	Rel  string // below the directory
	Dir  int    // index in Reading.Dirs
	// DropIn is set for a drop-in. Of is then the container that it is for, or "" for all
	// containers whose manifests lie in the folder In or below it. Fragment is its content,
	// nil if a process has been writing the drop-in ever since it was found.
	DropIn   bool
	Of       string
	In       string // below the directory, "" for the directory itself
	Fragment *spec.Fragment
	// Foreign is set for a file that has not held a manifest since this Source first read
	// it, such as the configuration of an application.
	Foreign bool
	// Documents are the documents in the file; while Waiting is set, the previous ones.
	Documents []spec.Document
	// Err is why the file as a whole can't be read. Errors of a document are not in it.
	Err *spec.Error
	// Waiting is since when reading has waited for a process that has a file open for
	// writing; zero if there is none. Writer is that file: this one, or a drop-in for one of
	// its containers that was never read.
	Waiting time.Time
	Writer  string
}

// Wake returns a channel that receives when the directories may have changed since the
// last reading. It holds at most one wake-up.
func (s *Source) Wake() <-chan struct{} {
	s.init()
	return s.wake
}

func (s *Source) init() {
	s.once.Do(func() {
		s.wake = make(chan struct{}, 1)
		s.disk.Answered = s.signal
	})
}

func (s *Source) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// log returns the logger, or one that discards everything.
func (s *Source) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// Change calls alter to change the exported fields while other goroutines may call Read.
// It drops all caches.
func (s *Source) Change(alter func(s *Source)) {
	s.init()
	s.mu.Lock()
	alter(s)
	s.roots, s.overlays, s.last, s.contents.by = nil, nil, nil, nil
	s.guard.names = nil
	if s.watch != nil {
		s.watch.invalidate()
	}
	s.mu.Unlock()
	s.signal()
}

// Renew drops the caches of watches and listings, so that the next Read builds them again.
// Called on each resync tick, it corrects what lost events or wrong time stamps of a file
// system have hidden.
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
