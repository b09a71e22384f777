package source

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"time"

	"stead/runtime/hostpath"
)

// Read rereads what may have changed. If nothing has, it returns the previous reading, at
// the cost of one fstatat for each file.
func (s *Source) Read() *Reading {
	s.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.roots) != len(s.Dirs) {
		s.roots, s.overlays, s.last = nil, nil, nil
		for range s.Dirs {
			s.roots = append(s.roots, &folder{})
		}
	}
	s.disk.Begin()
	s.refreshGuard(false)
	return s.walk(false)
}

// walk visits every file. changed says that the previous reading is out of date already.
func (s *Source) walk(changed bool) *Reading {
	now := time.Now()
	s.contents.round++
	changed = changed || s.last == nil
	dirs := make([]Dir, len(s.Dirs))
	renew := s.watch != nil && s.watch.beginRead()
	// Manifests are merged with the drop-ins of all directories, so drop-ins are read first.
	// Drop-ins in subfolders are only found while the manifests are read: if any of them
	// has changed, the manifests are visited again.
	led := false
	for range 3 {
		scans := s.newScans(now, renew)
		for i, c := range scans {
			c.readDropIns(s.roots[i])
		}
		over := s.overlay(scans, changed)
		for i, c := range scans {
			c.overlay = over
			c.readManifests(s.roots[i])
			dirs[i] = Dir{Path: c.root, Err: joinErrors(c.errs)}
			changed = changed || c.changed || !sameError(dirs[i].Err, s.last.Dirs[i].Err)
			led = led || c.linksChanged
		}
		if s.overlay(scans, changed) == over {
			break
		}
	}
	s.refreshContents(renew)
	if changed {
		s.dropContents()
	}
	if (led || s.contents.changed) && s.refreshGuard(true) || s.noteWritable(true) {
		return s.walk(true) // a container may have written what was just read
	}
	if s.guard.version != s.guardVersion || s.contents.version != s.contentsVersion {
		links := hostpath.Resolver{}
		for _, t := range s.roots {
			changed = s.checkFolder(t, links) || changed
		}
		s.guardVersion, s.contentsVersion = s.guard.version, s.contents.version
	}
	var unwatched error
	if s.watch != nil {
		unwatched = s.watch.endRead()
	}
	s.logWatching(unwatched)
	var r Reading
	if changed || !sameError(unwatched, s.last.Unwatched) {
		changed = true
		r = Reading{Host: s.Host, Dirs: dirs, Fragments: s.overlays.files, Unwatched: unwatched}
		r.collectFiles(s.roots)
		for i, t := range s.roots {
			r.Unread = t.appendUnread(r.Unread, dirs[i].Path)
		}
	} else {
		r = *s.last
	}
	r.Retry = shorterDelay(retryAfter(r.Files, now), retryAfter(r.Fragments, now)) // the delay grows with the time waited
	r.Retry = shorterDelay(r.Retry, s.contentRetry(now))
	if s.disk.End() || r.Unwatched != nil {
		r.Retry = shorterDelay(r.Retry, Poll)
	}
	if changed || r.Retry != s.last.Retry {
		s.last = &r // a copy, since a reading never changes
	}
	return s.last
}

// newScans returns a scan for each directory.
func (s *Source) newScans(now time.Time, renew bool) []*scan {
	scans := make([]*scan, len(s.Dirs))
	for i, dir := range s.Dirs {
		dir = absolutePath(dir)
		c := &scan{disk: &s.disk, parser: s.Parser, trust: s.Trust, watch: s.watch, guard: &s.guard, check: func(f *file) { s.checkFile(f, nil) }, renew: renew, dir: i, root: dir, now: now}
		if s.watch != nil && !s.disk.IsRemote(dir) {
			s.watch.watchPath(dir)
		}
		c.real, c.links, c.unreadable = s.disk.Resolve(dir)
		scans[i] = c
	}
	return scans
}

func absolutePath(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

// logWatching logs once when watching fails, and once when it works again.
func (s *Source) logWatching(unwatched error) {
	var before error
	if s.last != nil {
		before = s.last.Unwatched
	}
	switch {
	case sameError(unwatched, before):
	case unwatched == nil:
		s.log().Info("inotify is available again; changes of the manifests are noticed at once")
	default:
		s.log().Warn("inotify is unavailable for some manifest directories; polling them", "every", Poll, "error", unwatched)
	}
}

// joinErrors returns all errors as one, on one line; nil if there are none.
func joinErrors(errs []error) (all error) {
	for _, err := range errs {
		if all == nil {
			all = err
		} else {
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return all
}

func sameError(a, b error) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Error() == b.Error()
}

// Missing reports whether the directory does not exist.
func (d Dir) Missing() bool { return errors.Is(d.Err, fs.ErrNotExist) }

// Poll is the interval at which manifests are read that can't be watched, or lie on a file system
// where inotify does not notice all changes.
const Poll = 5 * time.Second

const (
	minRetry = 10 * time.Millisecond
	maxRetry = 5 * time.Second
)

// retryAfter returns when to read files again that a process is writing: after a quarter of
// the time waited so far, so that a short write costs little time and an endless one little
// work. There is no event to wait for: fsnotify does not offer IN_CLOSE_WRITE.
func retryAfter(files []*File, now time.Time) time.Duration {
	var soon time.Duration
	for _, f := range files {
		if !f.Waiting.IsZero() {
			soon = shorterDelay(soon, min(max(now.Sub(f.Waiting)/4, minRetry), maxRetry))
		}
	}
	return soon
}

// shorterDelay returns the shorter of two delays, where 0 means no delay.
func shorterDelay(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// collectFiles sets the files of the reading. Of several files with the same path below their
// directory, the one of the last directory is used.
func (r *Reading) collectFiles(trees []*folder) {
	r.Replaced = map[string]*File{}
	winner := map[string]*File{} // by path below the directory; nil for a masked path
	for i := len(trees) - 1; i >= 0; i-- {
		if len(trees[i].entries) == 0 {
			continue
		}
		files := make([]*File, 0, len(trees[i].entries))
		below := slices.ContainsFunc(trees[:i], func(t *folder) bool { return len(t.entries) > 0 }) // files that it may replace
		trees[i].eachFile("", func(rel string, f *file) {
			if by, taken := winner[rel]; taken {
				if f.result != nil {
					r.Replaced[f.result.Path] = by
				}
				return
			}
			if below {
				winner[rel] = f.result
			}
			if f.result != nil {
				files = append(files, f.result)
			}
		})
		if r.Files != nil {
			files = append(files, r.Files...)
		}
		r.Files = files
	}
}

// appendUnread appends the paths of the files in f, which is at dir, and below it that are not
// read and seem to be meant.
func (f *folder) appendUnread(paths []string, dir string) []string {
	for _, name := range f.unread {
		paths = append(paths, path.Join(dir, name))
	}
	for _, e := range f.entries {
		if e.folder != nil {
			paths = e.folder.appendUnread(paths, path.Join(dir, e.name))
		}
	}
	return paths
}

// eachFile calls visit for every file below f, in the order of names.
func (f *folder) eachFile(rel string, visit func(rel string, f *file)) {
	for _, e := range f.entries {
		if isDropIn(e.name) && (rel == "" || e.name == dropInForAll) {
			continue
		}
		at := path.Join(rel, e.name)
		if e.file != nil && (e.file.result != nil || e.file.isMask) {
			visit(at, e.file)
		}
		if e.folder != nil {
			e.folder.eachFile(at, visit)
		}
	}
}
