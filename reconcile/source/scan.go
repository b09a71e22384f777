package source

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"time"

	"stead/reconcile/source/disk"

	"golang.org/x/sys/unix"
)

// scan is one walk through a manifest directory.
type scan struct {
	disk         *disk.Disk
	parser       Parser
	trust        *Trust
	refusal      string // why nothing in the folder of the walk may be used; "" if it may
	guard        *guard
	check        func(*file) // checks the documents of a file that was read
	watch        *watch      // nil without watching
	renew        bool        // request all watches again
	dir          int
	root         string   // the manifest directory as configured
	real         string   // root without links
	links        []string // the links on the way to root
	now          time.Time
	unreadable   error     // why root can't be looked at
	open         *disk.Dir // root; nil if it can't be read
	overlay      *overlay  // the drop-ins of all directories; nil until they are known
	container    string    // in a drop-in folder: the container that it is for
	parentFolder string    // in a drop-in folder: its parent folder
	inDropIn     bool      // in a drop-in folder
	changed      bool
	linksChanged bool // a link has another target than before
	errs         []error
	ancestors    []stamp // the folders above the current one, to find loops of links
}

// visit reads one entry if it has changed. An unchanged entry costs one fstatat.
func (s *scan) visit(in *folder, dir *disk.Dir, e *entry, above string) {
	if e.name == dropInForAll && above != "" && !s.inDropIn {
		s.inDropIn, s.container, s.parentFolder = true, "", above
		s.visitDropInFolder(in, dir, e, above+"/"+e.name)
		s.inDropIn, s.parentFolder = false, ""
		return
	}
	st, err := dir.StatName(e.name, e.link)
	if err != nil {
		s.handleMissing(in, dir, e, above, err)
		return
	}
	if e.file != nil && s.refusal == "" && (!s.renew || !e.link) && e.file.isCurrent(&st, s.overlay, s.guard.writtenPaths) {
		return
	}
	rel := path.Join(above, e.name)
	s.watchLink(dir, e, rel)
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		s.visitFolder(e, dir, rel)
		return
	}
	e.folder = nil
	if !manifestName(e.name) {
		return // a link to a file that is no manifest
	}
	if e.link {
		err = cmp.Or(s.linkTarget(e, rel), s.parentsFault(s.path(rel)))
	} else {
		err = refusedFor(s.guard.writtenPaths.refusalFor(dir.Path() + "/" + e.name))
	}
	if err != nil {
		s.setBroken(e, rel, unreachableReason(err))
		return
	}
	if e.file == nil {
		e.file = &file{}
	}
	if s.updateFile(e.file, dir, e, &st, s.newFile(rel)) {
		s.changed = true
	}
}

// newFile returns the File of a path in this scan, without content.
func (s *scan) newFile(rel string) File {
	return File{Path: s.path(rel), Rel: rel, Dir: s.dir, DropIn: s.inDropIn, Of: s.container, In: s.parentFolder}
}

// visitFolder walks a subfolder, whatever its name.
func (s *scan) visitFolder(e *entry, dir *disk.Dir, rel string) {
	if s.inDropIn || isDropIn(e.name) {
		message := "the drop-in folder of one container stands directly in a manifest directory: move it up, or call it container.d for all whose manifests lie here"
		if s.inDropIn {
			message = "drop-in folders hold files only: move what is in it up"
		}
		e.folder = nil
		s.setBroken(e, rel, message)
		return
	}
	if e.file != nil {
		e.file, s.changed = nil, true
	}
	if e.folder == nil {
		e.folder, s.changed = &folder{}, true
	}
	before := s.refusal
	if e.link {
		err := s.linkTarget(e, rel)
		if err == nil {
			err = s.refuseFor(s.parentsFault(s.path(rel)))
		}
		if err != nil {
			s.failFolder(e.folder, rel, err)
			return
		}
	}
	s.walk(e.folder, dir, e, rel, e.realPath(dir))
	s.refusal = before
}

// watchLink watches where a link leads.
func (s *scan) watchLink(in *disk.Dir, e *entry, rel string) {
	if e.link && s.watch != nil && !in.Leads(e.name, true) {
		s.watch.watchPath(s.path(rel))
	}
}

// parentsFault returns Trust.parentsFault as Refused, or why the path can't be looked at.
func (s *scan) parentsFault(path string) error {
	if s.trust == nil {
		return nil
	}
	steps, err := s.disk.Steps(path)
	if err != nil {
		return err
	}
	return refusedFor(s.trust.parentsFault(steps))
}

// realPath returns the path without links of a folder entry in a folder.
func (e *entry) realPath(in *disk.Dir) string {
	if e.link {
		return e.target.real
	}
	return in.Path() + "/" + e.name
}

// handleMissing handles an entry for which fstatat failed. A dangling link is a broken
// manifest; an entry that was deleted since the listing is not.
func (s *scan) handleMissing(in *folder, dir *disk.Dir, e *entry, above string, err error) {
	rel := path.Join(above, e.name)
	if s.wasDeleted(in, dir, e, err) {
		return
	}
	if !manifestName(e.name) && e.folder != nil {
		// It was a folder. Its content is unknown now, but not removed.
		s.failFolder(e.folder, rel, err)
		return
	}
	if !manifestName(e.name) {
		return
	}
	s.watchLink(dir, e, rel)
	e.folder = nil
	s.setBroken(e, rel, unreachableReason(err))
}

// wasDeleted reports whether an entry was deleted since the listing, by the error of
// looking at it. It then forgets what the entry held and has the folder listed again.
func (s *scan) wasDeleted(in *folder, dir *disk.Dir, e *entry, err error) bool {
	if err != unix.ENOENT {
		return false
	}
	if _, err := dir.Lstat(e.name); err != unix.ENOENT {
		return false
	}
	in.racy = true
	if e.file != nil || e.folder != nil {
		e.file, e.folder, s.changed = nil, nil, true
	}
	return true
}

// unreachableReason returns why an existing entry can't be read.
func unreachableReason(err error) string {
	if err == unix.ENOENT {
		return "a link that leads nowhere"
	}
	if errors.As(err, new(*Refused)) {
		return err.Error()
	}
	return fmt.Sprintf("can't be read: %v", err)
}

// setBroken turns an entry into a file that can't be read.
func (s *scan) setBroken(e *entry, rel, message string) {
	if e.file == nil {
		e.file = &file{}
	}
	if e.file.setError(s.newFile(rel), message) {
		s.changed = true
	}
}
