package source

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"stead/spec"
)

// overlay is what the drop-in folders hold. It is never changed: as long as
// nothing of them is new, Read goes on with the same one.
type overlay struct {
	files   []*File          // that count
	all     layer            // for every container
	folders map[string]layer // for those whose manifests lie in a folder or below it
	by      map[string]layer // for one by its name
}

// layer is what is merged over one manifest.
type layer struct {
	fragments []*spec.Fragment
	unread    *File // one that belongs to it and was never read; nil if there is none
}

// of returns what is merged over the manifest of a container in a file: what is for
// all, for its folder from the outermost on, and for itself. A nil overlay has nothing.
func (o *overlay) of(name, file string) layer {
	if o == nil {
		return layer{}
	}
	l := o.all
	if len(o.folders) > 0 {
		for _, folder := range Folders(file) {
			l = l.with(o.folders[folder])
		}
	}
	return l.with(o.by[name])
}

// Folders are those below the manifest directory that a file lies in, the outermost first.
func Folders(file string) (all []string) {
	for i, c := range file {
		if c == '/' {
			all = append(all, file[:i])
		}
	}
	return all
}

// with returns l and then more; neither is changed.
func (l layer) with(more layer) layer {
	if len(more.fragments) > 0 {
		l.fragments = append(l.fragments[:len(l.fragments):len(l.fragments)], more.fragments...)
	}
	if more.unread != nil {
		l.unread = more.unread
	}
	return l
}

func (l layer) same(other layer) bool {
	return slices.Equal(l.fragments, other.fragments) && l.unread == other.unread
}

func (l *layer) add(f *File) {
	if f.Fragment == nil {
		l.unread = f
		return
	}
	l.fragments = append(l.fragments, f.Fragment)
}

// dropIns opens the directory and reads its drop-in folders.
func (s *scan) dropIns(f *folder) {
	if why := s.guard.writtenPaths.refusal(s.links...); why != "" {
		s.fail(f, "", &Refused{why})
		s.fd = -1
		return
	}
	s.refuse(s.trust.way(s.root))
	s.fd = s.enter(f, unix.AT_FDCWD, s.root, "", s.real)
	if s.fd < 0 {
		return
	}
	for _, e := range f.entries {
		if of, ok := DropInFor(e.name); ok {
			s.dropIn, s.of = true, of
			s.dropInFolder(f, s.fd, e, e.name, s.real)
		}
	}
	s.dropIn, s.of = false, ""
}

// dropInFolder reads one. What is wrong with it as a whole is a broken fragment:
// it says nothing about the manifests, but theirs can't be completed.
func (s *scan) dropInFolder(in *folder, dirfd int, e *entry, rel, above string) {
	var st unix.Stat_t
	err := unix.Fstatat(dirfd, e.name, &st, 0)
	if err == nil && s.sameFolder(dirfd, e, &st) {
		return
	}
	if e.link && s.watch != nil {
		s.watch.leadTo(s.path(rel))
	}
	switch {
	case s.wasDeleted(in, dirfd, e, err):
		return
	case err != nil:
		e.folder = nil
		s.broken(e, rel, unreachable(err))
		return
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		e.folder = nil
		s.broken(e, rel, "not a folder: drop-ins are files in a folder of such a name")
		return
	case s.of == "" && e.name != forAll || s.of != "" && spec.CheckName(s.of) != nil:
		e.folder = nil
		s.broken(e, rel, "no container can have that name")
		return
	}
	if e.folder == nil {
		e.folder, s.changed = &folder{}, true
	}
	before := s.refused
	if e.link {
		s.refuse(cmp.Or(s.linkTarget(e, rel), s.trust.way(s.path(rel))))
	}
	s.walk(e.folder, dirfd, e.name, rel, e.below(above))
	refused := s.refused
	s.refused = before
	if err := e.folder.err; err != nil {
		s.broken(e, rel, unreachable(err))
	} else if refused != "" {
		s.broken(e, rel, refused) // one that others may have emptied
	} else if e.file != nil {
		e.file, s.changed = nil, true
	}
}

// sameFolder tells whether nothing is new in a drop-in folder, without opening it:
// of ten thousand containers each may have one.
func (s *scan) sameFolder(dirfd int, e *entry, now *unix.Stat_t) bool {
	f := e.folder
	if f == nil || e.file != nil || s.renew || s.refused != "" || !f.listed || f.racy || f.stamp != stampOf(now) {
		return false
	}
	var st unix.Stat_t
	for _, in := range f.entries {
		if in.inside == "" {
			in.inside = e.name + "/" + in.name
		}
		if in.file == nil || unix.Fstatat(dirfd, in.inside, &st, 0) != nil || !in.file.current(&st, nil, s.guard.writtenPaths) {
			return false
		}
	}
	return true
}

// manifests reads all but the drop-in folders, and closes the directory.
func (s *scan) manifests(f *folder) {
	if s.fd < 0 {
		return
	}
	for _, e := range f.entries {
		if !isDropIn(e.name) {
			s.visit(f, s.fd, e, "", s.real)
		}
	}
	s.leave(s.fd)
}

// overlay puts the drop-ins of all directories together: of one path below
// them, the last directory's counts. The drop-ins of a directory or folder that can't be
// read now stay as they were: a manifest does not fall back to what it would be
// without them.
func (s *Source) overlay(scans []*scan, changed bool) *overlay {
	changed = changed || s.over == nil
	for _, c := range scans {
		changed = changed || c.changed
	}
	if !changed {
		return s.over
	}
	g := gathering{before: s.over, settled: map[string]bool{}}
	for i := len(scans) - 1; i >= 0; i-- {
		if g.dir = i; scans[i].fd < 0 {
			g.asBefore("")
		} else {
			g.folder(s.trees[i], "")
		}
	}
	slices.SortFunc(g.files, func(a, b *File) int { return cmp.Compare(a.Path, b.Path) })
	if s.over == nil || !slices.Equal(g.files, s.over.files) {
		s.over = newOverlay(g.files)
	}
	return s.over
}

// gathering goes through the drop-ins of directories, the last one first.
type gathering struct {
	before  *overlay
	dir     int
	files   []*File
	settled map[string]bool // paths below a directory
}

// asBefore keeps the drop-ins of a folder that can't be read.
func (g *gathering) asBefore(folder string) {
	if g.before == nil {
		return
	}
	for _, f := range g.before.files {
		if f.Dir == g.dir && !g.settled[f.Rel] && (folder == "" || strings.HasPrefix(f.Rel, folder+"/")) {
			g.settled[f.Rel] = true
			g.files = append(g.files, f)
		}
	}
}

// folder adds the drop-ins in a folder and below it.
func (g *gathering) folder(f *folder, rel string) {
	if f.err != nil {
		g.asBefore(rel)
		return
	}
	for _, e := range f.entries {
		at := path.Join(rel, e.name)
		switch {
		case isDropIn(e.name) && (rel == "" || e.name == forAll):
			g.add(at, e.file)
			if e.folder != nil && e.file == nil { // else it is broken as a whole
				for _, in := range e.folder.entries {
					g.add(at+"/"+in.name, in.file)
				}
			}
		case e.folder != nil:
			g.folder(e.folder, at)
		}
	}
}

func (g *gathering) add(rel string, f *file) {
	if f == nil || f.out == nil && !f.mask || g.settled[rel] {
		return
	}
	g.settled[rel] = true
	if !f.mask {
		g.files = append(g.files, f.out)
	}
}

// MergeOrder compares drop-ins for one container: by the names of their files.
func MergeOrder(a, b *File) int {
	return cmp.Or(cmp.Compare(path.Base(a.Rel), path.Base(b.Rel)), cmp.Compare(a.Path, b.Path))
}

// newOverlay sorts fragments by what they are for, and each by their names.
func newOverlay(files []*File) *overlay {
	o := &overlay{files: files, folders: map[string]layer{}, by: map[string]layer{}}
	for _, f := range slices.SortedFunc(slices.Values(files), MergeOrder) {
		switch {
		case f.Of != "":
			l := o.by[f.Of]
			l.add(f)
			o.by[f.Of] = l
		case f.In != "":
			l := o.folders[f.In]
			l.add(f)
			o.folders[f.In] = l
		default:
			o.all.add(f)
		}
	}
	return o
}
