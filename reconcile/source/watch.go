package source

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"stead/reconcile/source/disk"
)

// watch keeps an inotify watch on every directory in which a change may matter. A renewing
// Read requests all of them again; watches that it does not request are removed.
type watch struct {
	notify *fsnotify.Watcher // nil if inotify is unavailable
	err    error             // why inotify is unavailable
	start  func(*watch) (*fsnotify.Watcher, error)

	mu          sync.Mutex
	watchedDirs map[string]*watchedDir // by the path of the directory without links
	failure     error                  // a watch that failed in this Read
	renew       bool                   // this Read requests all watches again
}

// watchedDir is one watched directory.
type watchedDir struct {
	stamp stamp
	all   bool                // every event in it matters; otherwise only those of names
	names map[string]struct{} // entries that a manifest directory's path leads through
	used  bool                // requested by this Read
}

// Watch sends changes of the directories to Wake until ctx ends. If inotify is unavailable
// for some of them, the Reading says so and has a short Retry. Each Renew tries again.
func (s *Source) Watch(ctx context.Context) {
	s.init()
	w := &watch{watchedDirs: map[string]*watchedDir{}, renew: true}
	w.start = func(w *watch) (*fsnotify.Watcher, error) {
		notify, err := fsnotify.NewWatcher()
		if err == nil {
			go s.forwardEvents(ctx, w, notify)
		}
		return notify, err
	}
	s.mu.Lock()
	s.watch = w
	s.mu.Unlock()
	s.signal()
}

// explainLimit adds the name of the kernel limit to an error, which lacks it.
func explainLimit(err error) error {
	switch {
	case strings.Contains(err.Error(), unix.EMFILE.Error()):
		return fmt.Errorf("%w (raise fs.inotify.max_user_instances)", err)
	case strings.Contains(err.Error(), unix.ENOSPC.Error()):
		return fmt.Errorf("no inotify watch is left: %w (raise fs.inotify.max_user_watches)", err)
	}
	return err
}

// forwardEvents turns events into wake-ups.
func (s *Source) forwardEvents(ctx context.Context, w *watch, notify *fsnotify.Watcher) {
	defer notify.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case e, open := <-notify.Events:
			if !open {
				return
			}
			if w.isRelevant(e) {
				s.signal()
			}
		case _, open := <-notify.Errors:
			if !open {
				return
			}
			w.invalidate() // events were lost, perhaps of removed watches too: request all again
			s.signal()
		}
	}
}

// isRelevant reports whether an event may concern the manifests.
func (w *watch) isRelevant(e fsnotify.Event) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if self := w.watchedDirs[e.Name]; self != nil {
		if e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
			delete(w.watchedDirs, e.Name) // the watch went with it
		}
		return true
	}
	in := w.watchedDirs[filepath.Dir(e.Name)]
	if in == nil {
		return true // a directory that is no longer watched: one more reading does no harm
	}
	name := filepath.Base(e.Name)
	if _, leads := in.names[name]; leads {
		return true
	}
	written := e.Op == fsnotify.Write && !manifestName(name) // such as a log
	return in.all && !written && !ignored(name)
}

func (w *watch) invalidate() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.renew = true
	for _, d := range w.watchedDirs {
		d.stamp, d.used, d.all = stamp{}, false, false
	}
}

// beginRead starts a Read and reports whether it must request all watches again.
func (w *watch) beginRead() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.renew {
		return false
	}
	w.failure = nil
	if w.notify == nil && w.start != nil {
		if w.notify, w.err = w.start(w); w.err != nil {
			w.notify, w.err = nil, fmt.Errorf("watch the manifest directories: %w", explainLimit(w.err))
		}
	}
	return true
}

// endRead removes the watches that were not requested and returns an error if one failed.
func (w *watch) endRead() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for path, d := range w.watchedDirs {
		if w.renew && !d.used {
			_ = w.notify.Remove(path)
			delete(w.watchedDirs, path)
		}
	}
	w.renew = false
	if w.err != nil {
		return w.err
	}
	return w.failure
}

// watchFolder requests all events of a manifest folder, by its path without links. inotify has
// one watch for each inode, so a directory must always have the same path.
func (w *watch) watchFolder(path string, now stamp) {
	if w.notify != nil {
		w.addWatch(path, now, "")
	}
}

// watchPath requests the directories in which dir, or a link on the way to it, can be
// replaced or appear: the parent of each link and of dir itself, or the nearest existing
// directory if dir is missing.
func (w *watch) watchPath(dir string) {
	if w.notify == nil {
		return
	}
	for _, s := range disk.Steps(dir) {
		if s.Entry == nil || s.Entry.Mode&unix.S_IFMT == unix.S_IFLNK || s.Last {
			w.watchName(s.Dir, s.Name)
		}
	}
}

// watchName requests the events of one name in a directory.
func (w *watch) watchName(dir, name string) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) == nil {
		w.addWatch(dir, stampOf(&st), name)
	}
}

// addWatch watches a directory, unless that very directory is watched already.
func (w *watch) addWatch(path string, now stamp, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.watchedDirs[path]
	if d == nil || d.stamp.dev != now.dev || d.stamp.ino != now.ino {
		if d != nil {
			_ = w.notify.Remove(path) // another directory of that name, or dropped by invalidate
		}
		if err := w.notify.Add(path); err != nil {
			if !os.IsNotExist(err) {
				w.failure = fmt.Errorf("watch %s: %w", path, explainLimit(err))
			}
			delete(w.watchedDirs, path)
			return
		}
		d = &watchedDir{names: map[string]struct{}{}}
		w.watchedDirs[path] = d
	}
	d.stamp, d.used = now, true
	if name == "" {
		d.all = true
	} else {
		d.names[name] = struct{}{}
	}
}
