package source

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"stead/reconcile/source/disk"
	"stead/runtime/files"
	"stead/runtime/hostpath"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// Which says of which sources of files a Source looks at the content.
type Which int

const (
	NoContents       Which = iota // manifests alone are read
	RelativeContents              // those below the manifest directories
	AllContents
)

// contents caches what the sources of files hold. Their content itself is not kept.
type contents struct {
	by      map[contentKey]*content
	round   int  // of Read
	version int  // changes when one of them changes
	changed bool // the paths have changed since the guard last took them
}

// contentKey is a source and what it is read for.
type contentKey struct {
	path string
	kind spec.SourceKind
}

// content is the cache of one source.
type content struct {
	seen   []seenPath // the source, and what is in it if it is a directory
	remote bool       // it lies on a file system that may hang
	racy   bool       // a later write may leave the same stamps
	moved  bool       // it changed while it was read
	round  int        // it was last compared with the disk
	used   bool       // a document names it
	real   string     // without links
	links  []string

	writtenPaths *writtenPaths // the paths below which it did not lie when it was read

	dir           bool
	sum, modesSum string        // without and with the permissions
	err           string        // why it can't be read
	lines         []*spec.Error // what is wrong in an environment file
	waiting       time.Time     // since when a process has had it open for writing
}

// seenPath is a path as it was when the content was read.
type seenPath struct {
	path  string
	dir   bool
	stamp stamp
}

// paths returns the sources, as paths that no container may write.
func (all *contents) paths() *hostpath.ProtectedPaths {
	p := hostpath.FindProtected()
	for key, c := range all.by {
		p.Add(hostpath.Protected{What: "the source of files", Path: key.path}, c.real, c.links)
	}
	return p
}

// fill adds what is known of its sources to a document, and returns the errors of those that
// can't be read.
func (s *Source) fill(doc *spec.Document) (errs []*spec.Error) {
	doc.Sources = slices.Clone(doc.Sources)
	for i := range doc.Sources {
		src := &doc.Sources[i]
		if !s.looksAt(src.Path) {
			continue
		}
		c := s.content(contentKey{src.Path, src.Kind})
		if c.err != "" {
			e := src.Place
			e.Message = fmt.Sprintf("can't read %s: %s", src.Path, c.err)
			errs = append(errs, &e)
			continue
		}
		errs = append(errs, c.lines...)
		src.Dir, src.Sum = c.dir, c.sum
		if src.WithModes {
			src.Sum = c.modesSum
		}
	}
	return errs
}

// looksAt reports whether the content of a source is looked at.
func (s *Source) looksAt(path string) bool {
	switch s.Contents {
	case AllContents:
		return true
	case RelativeContents:
		return slices.ContainsFunc(s.Dirs, func(dir string) bool { return hostpath.Within(path, absolutePath(dir)) })
	}
	return false
}

// content returns what a source holds now.
func (s *Source) content(key contentKey) *content {
	all := &s.contents
	c := all.by[key]
	if c == nil {
		if all.by == nil {
			all.by = map[contentKey]*content{}
		}
		c = &content{}
		all.by[key] = c
	}
	if c.round != all.round {
		c.round = all.round
		s.refresh(key, c)
	}
	return c
}

// refreshContents compares all known sources with the disk, and reports whether one has
// changed.
func (s *Source) refreshContents(renew bool) (changed bool) {
	before := s.contents.version
	for key, c := range s.contents.by {
		if renew && s.watch != nil && !c.remote && !s.disk.LeadsBelow(key.path) {
			s.watchContent(key.path, c)
		}
		if c.round != s.contents.round {
			c.round = s.contents.round
			s.refresh(key, c)
		}
	}
	return s.contents.version != before
}

// dropContents forgets the sources that no document names any more.
func (s *Source) dropContents() {
	if len(s.contents.by) == 0 {
		return
	}
	for _, t := range s.roots {
		s.contents.markUsed(t)
	}
	for key, c := range s.contents.by {
		if !c.used {
			delete(s.contents.by, key)
			s.contents.changed = true
		}
		c.used = false
	}
}

func (all *contents) markUsed(f *folder) {
	for _, e := range f.entries {
		if e.folder != nil {
			all.markUsed(e.folder)
		}
		if e.file == nil {
			continue
		}
		for _, doc := range e.file.unguarded {
			for _, src := range doc.Sources {
				if c := all.by[contentKey{src.Path, src.Kind}]; c != nil {
					c.used = true
				}
			}
		}
	}
}

// refresh brings the cache of one source up to date. An unchanged one costs a stat for each
// file.
func (s *Source) refresh(key contentKey, c *content) {
	path := key.path
	known := !c.racy && !c.moved && c.writtenPaths == s.guard.writtenPaths
	remote := s.disk.LeadsBelow(path)
	if known && !remote && !c.remote && c.isCurrent() {
		return
	}
	now := content{round: c.round, waiting: c.waiting, writtenPaths: s.guard.writtenPaths, remote: remote}
	err := now.look(&s.disk, path)
	if now.real != c.real || !slices.Equal(now.links, c.links) {
		s.contents.changed = true
	} else if known && err == nil && slices.Equal(now.seen, c.seen) {
		return
	}
	if s.watch != nil && !remote {
		s.watchContent(path, &now) // watch, then read
	}
	if err == nil {
		err = s.readContent(key, &now)
	}
	if errors.Is(err, files.ErrWriting) || errors.Is(err, disk.ErrWriting) {
		if now.waiting.IsZero() {
			now.waiting = time.Now()
		}
		now.racy = true
		if c.sum != "" { // it is what it was until its writer has closed it
			now.dir, now.sum, now.modesSum, now.lines, err = c.dir, c.sum, c.modesSum, c.lines, nil
		}
	} else {
		now.waiting = time.Time{}
	}
	if err != nil {
		now.err, now.racy = err.Error(), true // an error says nothing about the content
	}
	if now.dir != c.dir || now.sum != c.sum || now.modesSum != c.modesSum || now.err != c.err {
		s.contents.version++
	}
	now.moved = now.err == "" && !now.remote && !now.isCurrent()
	*c = now
}

// isCurrent reports whether nothing has changed since the content was read.
func (c *content) isCurrent() bool {
	if len(c.seen) == 0 {
		return false
	}
	var st unix.Stat_t
	for i, seen := range c.seen {
		flags := 0
		if i > 0 { // the links on the way to a source are followed, in it there are none
			flags = unix.AT_SYMLINK_NOFOLLOW
		}
		if unix.Fstatat(unix.AT_FDCWD, seen.path, &st, flags) != nil || stampOf(&st) != seen.stamp {
			return false
		}
	}
	return true
}

// look notes what is there before it is read.
func (c *content) look(d *disk.Disk, path string) error {
	at := time.Now()
	found, err := d.Look(path)
	c.real, c.links = found.Real, found.Links
	for _, f := range found.Seen {
		stamp := stampOf(&f.Stat)
		c.seen = append(c.seen, seenPath{f.Path, f.Stat.Mode&unix.S_IFMT == unix.S_IFDIR, stamp})
		c.racy = c.racy || stamp.isRacy(at)
	}
	return err
}

// readContent reads a source to sum it up.
func (s *Source) readContent(key contentKey, c *content) error {
	if why := s.guard.writtenPaths.refusalFor(append(c.links, c.real)...); why != "" {
		return errors.New(why)
	}
	var owners []uint32
	if s.Trust != nil {
		owners = s.Trust.Owners
	}
	read, inode, identity, err := s.disk.Content(key.path, slices.Collect(maps.Keys(s.guard.writtenPaths.paths)), owners)
	if s.guard.inodes[inode] && s.guard.ids[identity] {
		return errors.New(writtenReason(c.real))
	}
	if err != nil {
		if p := new(os.PathError); errors.As(err, &p) {
			err = p.Err
		}
		return err
	}
	switch key.kind {
	case spec.ForEnv:
		if _, c.lines, err = read.Env(key.path); err != nil {
			return err
		}
	case spec.ForSecret:
		if _, err := read.Secret(); err != nil {
			return err
		}
	}
	c.dir, c.sum, c.modesSum = read.Dir, read.Sum(s.Key, false), read.Sum(s.Key, true)
	return nil
}

// watchContent requests the events of a source: of each name on its path that may come to lead
// elsewhere, of the source, and of all that is in it.
func (s *Source) watchContent(path string, c *content) {
	s.watch.watchPath(path)
	for i, seen := range c.seen {
		name := seen.path
		if i == 0 {
			name = c.real
		}
		if seen.dir {
			s.watch.watchFolder(name, seen.stamp)
		}
		if i > 0 {
			s.watch.watchName(filepath.Dir(name), filepath.Base(name))
		}
	}
}

// contentRetry is when to read sources again that a process is writing, or has changed while
// they were read; 0 if there are none.
func (s *Source) contentRetry(now time.Time) (soon time.Duration) {
	for _, c := range s.contents.by {
		if !c.waiting.IsZero() {
			soon = shorterDelay(soon, min(max(now.Sub(c.waiting)/4, minRetry), maxRetry))
		}
		if c.moved {
			soon = shorterDelay(soon, minRetry)
		}
	}
	return soon
}
