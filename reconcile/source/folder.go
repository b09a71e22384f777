package source

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// folder is the cache of a directory between readings.
type folder struct {
	stamp   stamp
	racy    bool
	listed  bool
	entries []*entry // sorted by name
	unread  []string // names of files that are not read though they seem to be meant
	err     error    // why the folder could not be read completely
}

// entry is one name in a folder: a file, a folder or neither.
type entry struct {
	name           string
	pathFromParent string // its path from the parent of the drop-in folder that holds it
	link           bool
	target         *linkTarget // where a link leads
	file           *file
	folder         *folder
}

// invalidate makes the next walk list the folder again.
func (f *folder) invalidate() {
	f.listed = false
	for _, e := range f.entries {
		if e.folder != nil {
			e.folder.invalidate()
		}
	}
}

// walk brings f up to date with the directory at dirfd/name. rel is its path below the
// root, "" for the root itself, and real its path without links.
func (s *scan) walk(f *folder, dirfd int, name, rel, real string) {
	fd := s.openFolder(f, dirfd, name, rel, real)
	if fd < 0 {
		return
	}
	for _, e := range f.entries {
		s.visit(f, fd, e, rel, real)
	}
	s.closeFolder(fd)
}

// refuseFolder records why nothing in the folder of the walk may be used.
func (s *scan) refuseFolder(why string) {
	if why == "" || s.refusal != "" {
		return
	}
	s.refusal = why
	if !s.inDropIn {
		s.errs = append(s.errs, &Refused{why}) // a missing file may have been deleted by a user who may not do so
	}
}

func (s *scan) closeFolder(fd int) {
	s.ancestors = s.ancestors[:len(s.ancestors)-1]
	unix.Close(fd)
}

// openFolder opens a folder and lists it if it has changed. It returns -1 if the folder
// can't be read.
func (s *scan) openFolder(f *folder, dirfd int, name, rel, real string) int {
	var fd int
	err := retryEINTR(func() (err error) {
		fd, err = unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		s.failFolder(f, rel, err)
		return -1
	}
	if err := s.refreshListing(f, fd, rel, real); err != nil {
		s.failFolder(f, rel, err)
		unix.Close(fd)
		return -1
	}
	return fd
}

// refreshListing lists an open folder if it has changed.
func (s *scan) refreshListing(f *folder, fd int, rel, real string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	now := stampOf(&st)
	if slices.ContainsFunc(s.ancestors, func(a stamp) bool { return a.dev == now.dev && a.ino == now.ino }) {
		return errors.New("a link to a folder that it stands in")
	}
	if why := s.guard.folderRefusal(fd, st.Ino, real); why != "" {
		return &Refused{why}
	}
	s.refuseFolder(s.trust.fault(&st, s.path(rel)))
	if s.watch != nil {
		s.watch.watchFolder(real, now) // watch, then read
	}
	if !f.listed || f.racy || f.stamp != now {
		lost, err := f.readNames(fd, s.inDropIn)
		if err != nil {
			return err
		}
		f.stamp, f.racy, f.listed = now, now.isRacy(s.now), true
		s.changed = s.changed || lost // visit finds new entries
	}
	if f.err != nil {
		f.err, s.changed = nil, true
	}
	s.ancestors = append(s.ancestors, now)
	return nil
}

// path returns the path of rel, below the manifest directory as configured.
func (s *scan) path(rel string) string { return path.Join(s.root, rel) }

// failFolder records that a folder can't be read and drops its previous content. A container
// of a directory with errors does not count as removed.
func (s *scan) failFolder(f *folder, rel string, err error) {
	if f.err == nil || f.err.Error() != err.Error() || f.entries != nil {
		s.changed = true
	}
	*f = folder{err: err}
	if s.inDropIn {
		return // the caller makes it a broken drop-in; no manifest is missing
	}
	if rel != "" {
		err = fmt.Errorf("%s: %w", rel, err)
	}
	s.errs = append(s.errs, err)
}

// readNames reads the names in a folder, which may be a drop-in folder. It keeps the cache of
// known entries, and reports whether one is gone or another file is not read.
func (f *folder) readNames(fd int, dropIn bool) (lost bool, err error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	d := os.NewFile(uintptr(dup), "")
	defer d.Close()
	found, err := d.ReadDir(-1)
	if err != nil {
		return false, errors.Unwrap(err)
	}
	known := make(map[string]*entry, len(f.entries))
	for _, e := range f.entries {
		known[e.name] = e
	}
	kept := 0
	entries := make([]*entry, 0, len(found))
	var unread []string
	for _, d := range found {
		name, kind := d.Name(), d.Type()
		link := kind&os.ModeSymlink != 0
		maybeFolder := kind.IsDir() || link || kind&os.ModeIrregular != 0
		if ignored(name) || !manifestName(name) && !isDropIn(name) && !maybeFolder {
			if seemsMeant(name, dropIn) {
				unread = append(unread, name)
			}
			continue
		}
		if e := known[name]; e != nil && e.link == link {
			entries = append(entries, e)
			kept++
		} else {
			entries = append(entries, &entry{name: name, link: link})
		}
	}
	slices.SortFunc(entries, func(a, b *entry) int { return cmp.Compare(a.name, b.name) })
	slices.Sort(unread)
	lost = kept < len(f.entries) || !slices.Equal(unread, f.unread)
	f.entries, f.unread = entries, unread
	return lost, nil
}
