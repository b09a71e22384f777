package source

import (
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Follow rereads what events have named since the last reading: one manifest
// that changes among thousands costs no more than one alone. Where names don't
// tell all (folders, links and drop-ins that change, lost events), where a writer
// is waited for, and without a watch, it is Read.
//
// What no event tells, such as a write through a mapping or on another host's
// file system, is left to the next Read.
func (s *Source) Follow() *Reading {
	s.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watch == nil || s.last == nil || s.last.Retry != 0 || len(s.trees) != len(s.Dirs) {
		return s.read(false)
	}
	events, all := s.watch.take()
	if !all {
		return s.read(false)
	}
	now := time.Now()
	var changes []Change
	for dir, in := range events {
		c := &scan{parser: s.Parser, trust: s.Trust, watch: s.watch, dir: in.tree, root: s.last.Dirs[in.tree].Path, now: now, over: s.over}
		all := s.last.Dirs[in.tree].Err == nil && c.follow(s.trees[in.tree], dir, in)
		changes = append(changes, c.changes...)
		if !all {
			return s.read(c.changed || len(changes) > 0)
		}
	}
	if len(changes) == 0 {
		return s.last
	}
	filled := 0
	for _, t := range s.trees {
		if len(t.entries) > 0 {
			filled++
		}
	}
	// Among several directories a file that is gone may bring another's back.
	return s.conclude(true, Reading{Dirs: s.last.Dirs, Unwatched: s.last.Unwatched, Followed: filled <= 1, Changes: changes}, now)
}

// follow looks at names in one folder; false if that does not tell all.
func (s *scan) follow(f *folder, dir string, in *named) bool {
	for _, name := range names(in.rel) {
		e := f.entry(name)
		if e == nil || e.link || e.folder == nil {
			return false
		}
		f = e.folder
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || uint64(st.Dev) != f.stamp.dev || st.Ino != f.stamp.ino || s.trust.fault(&st, dir) != "" {
		return false
	}
	for name := range in.names {
		if !s.named(f, fd, name, in.rel, dir) {
			return false
		}
	}
	return true
}

// named looks at one name in a folder, which may be new or gone; false if it is
// more than a file of its own.
func (s *scan) named(f *folder, dirfd int, name, rel, real string) bool {
	e := f.entry(name)
	if isDropIn(name) || e != nil && (e.link || e.folder != nil) {
		return false
	}
	var st unix.Stat_t
	err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == unix.ENOENT && e == nil:
		return true // come and gone
	case err == unix.ENOENT:
		f.entries = slices.DeleteFunc(f.entries, func(other *entry) bool { return other == e })
		s.note(f, e, e.out())
		return true
	case err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR || st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return false
	case !manifestName(name):
		return true
	}
	if e == nil {
		e = &entry{name: name}
		i, _ := f.place(name)
		f.entries = slices.Insert(f.entries, i, e)
	}
	before := e.out()
	s.visit(f, dirfd, e, rel, real)
	s.note(f, e, before)
	return true
}

// note keeps what a file was before, if it is not that any more.
func (s *scan) note(f *folder, e *entry, before *File) {
	var after *File
	if f.entry(e.name) == e {
		after = e.out()
	}
	if before != after {
		s.changes = append(s.changes, Change{before, after})
	}
}

// out is what a file held when it was last read, nil if there is none.
func (e *entry) out() *File {
	if e.file == nil {
		return nil
	}
	return e.file.out
}

// entry is what is remembered of a name, nil if there is nothing.
func (f *folder) entry(name string) *entry {
	if i, there := f.place(name); there {
		return f.entries[i]
	}
	return nil
}

func (f *folder) place(name string) (int, bool) {
	return slices.BinarySearchFunc(f.entries, name, func(e *entry, name string) int { return strings.Compare(e.name, name) })
}
