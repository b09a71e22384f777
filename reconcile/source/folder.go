package source

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"stead/reconcile/source/disk"
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

// walk brings f up to date with the directory of an entry in another one. rel is its path below the
// root, and real its path without links.
func (s *scan) walk(f *folder, in *disk.Dir, e *entry, rel, real string) {
	dir, err := in.Open(e.name, e.link, real, f.names)
	if !s.openFolder(f, dir, err, rel) {
		return
	}
	for _, e := range f.entries {
		s.visit(f, dir, e, rel)
	}
	s.closeFolder(dir)
}

// names returns the names in the folder.
func (f *folder) names() []string {
	names := make([]string, len(f.entries))
	for i, e := range f.entries {
		names[i] = e.name
	}
	return names
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

// refuseFor calls refuseFolder for a Refused, and returns any other error.
func (s *scan) refuseFor(err error) error {
	if refused := new(Refused); errors.As(err, &refused) {
		s.refuseFolder(refused.why)
		return nil
	}
	return err
}

func (s *scan) closeFolder(dir *disk.Dir) {
	s.ancestors = s.ancestors[:len(s.ancestors)-1]
	dir.Close()
}

// openFolder takes a folder that was opened, or could not be, and lists it if it has changed. It
// reports whether the folder can be read, and is to be closed.
func (s *scan) openFolder(f *folder, dir *disk.Dir, err error, rel string) bool {
	if err != nil {
		s.failFolder(f, rel, err)
		return false
	}
	if err := s.refreshListing(f, dir, rel); err != nil {
		s.failFolder(f, rel, err)
		dir.Close()
		return false
	}
	return true
}

// refreshListing lists an open folder if it has changed.
func (s *scan) refreshListing(f *folder, dir *disk.Dir, rel string) error {
	now := stampOf(&dir.Stat)
	if slices.ContainsFunc(s.ancestors, func(a stamp) bool { return a.dev == now.dev && a.ino == now.ino }) {
		return errors.New("a link to a folder that it stands in")
	}
	if why := s.guard.folderRefusal(dir); why != "" {
		return &Refused{why}
	}
	s.refuseFolder(s.trust.fault(&dir.Stat, s.path(rel)))
	if s.watch != nil && !dir.IsRemote() {
		s.watch.watchFolder(dir.Path(), now) // watch, then read
	}
	if !f.listed || f.racy || f.stamp != now {
		lost, err := f.readNames(dir, s.inDropIn)
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
func (f *folder) readNames(dir *disk.Dir, dropIn bool) (lost bool, err error) {
	found, err := dir.Entries()
	if err != nil {
		return false, err
	}
	known := make(map[string]*entry, len(f.entries))
	for _, e := range f.entries {
		known[e.name] = e
	}
	kept := 0
	entries := make([]*entry, 0, len(found))
	var unread []string
	for _, d := range found {
		name, kind := d.Name, d.Type
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
