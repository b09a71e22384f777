package source

import (
	"cmp"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"stead/spec"
)

// overlay is what the drop-in folders hold. It is never changed: as long as
// nothing of them is new, Read goes on with the same one.
type overlay struct {
	files []*File          // that count
	all   layer            // for every container
	by    map[string]layer // for one: those for all, then its own
}

// layer is what is merged over one manifest.
type layer struct {
	fragments []*spec.Fragment
	unread    *File // one that belongs to it and was never read; nil if there is none
}

// of is what is merged over the manifest of a container. A nil overlay has nothing.
func (o *overlay) of(name string) layer {
	if o == nil {
		return layer{}
	}
	if l, own := o.by[name]; own {
		return l
	}
	return o.all
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
	if why := s.guard.places.fault(s.links...); why != "" {
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
			s.dropInFolder(f, e)
		}
	}
	s.dropIn, s.of = false, ""
}

// dropInFolder reads one. What is wrong with it as a whole is a broken fragment:
// it says nothing about the manifests, but theirs can't be completed.
func (s *scan) dropInFolder(in *folder, e *entry) {
	var st unix.Stat_t
	err := unix.Fstatat(s.fd, e.name, &st, 0)
	if err == nil && s.sameFolder(e, &st) {
		return
	}
	if e.link && s.watch != nil {
		s.watch.leadTo(s.path(e.name))
	}
	switch {
	case err == unix.ENOENT && unix.Fstatat(s.fd, e.name, &st, unix.AT_SYMLINK_NOFOLLOW) == unix.ENOENT:
		in.racy = true // gone since the listing: list it again next time
		if e.file != nil || e.folder != nil {
			e.file, e.folder, s.changed = nil, nil, true
		}
		return
	case err != nil:
		e.folder = nil
		s.broken(e, e.name, unreachable(err))
		return
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		e.folder = nil
		s.broken(e, e.name, "not a folder: drop-ins are files in a folder of such a name")
		return
	case s.of == "" && e.name != forAll || s.of != "" && spec.CheckName(s.of) != nil:
		e.folder = nil
		s.broken(e, e.name, "no container can have that name")
		return
	}
	if e.folder == nil {
		e.folder, s.changed = &folder{}, true
	}
	before := s.refused
	if e.link {
		s.refuse(cmp.Or(s.lead(e, e.name), s.trust.way(s.path(e.name))))
	}
	s.walk(e.folder, s.fd, e.name, e.name, e.below(s.real))
	refused := s.refused
	s.refused = before
	if err := e.folder.err; err != nil {
		s.broken(e, e.name, unreachable(err))
	} else if refused != "" {
		s.broken(e, e.name, refused) // one that others may have emptied
	} else if e.file != nil {
		e.file, s.changed = nil, true
	}
}

// sameFolder tells whether nothing is new in a drop-in folder, without opening it:
// of ten thousand containers each may have one.
func (s *scan) sameFolder(e *entry, now *unix.Stat_t) bool {
	f := e.folder
	if f == nil || e.file != nil || s.renew || s.refused != "" || !f.listed || f.racy || f.stamp != stampOf(now) {
		return false
	}
	var st unix.Stat_t
	for _, in := range f.entries {
		if in.inside == "" {
			in.inside = e.name + "/" + in.name
		}
		if in.file == nil || unix.Fstatat(s.fd, in.inside, &st, 0) != nil || !in.file.current(&st, nil, s.guard.places) {
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
// them, the last directory's counts. The drop-ins of a directory that can't be
// read now stay as they were: a manifest does not fall back to what it would be
// without them.
func (s *Source) overlay(scans []*scan) *overlay {
	changed := s.over == nil
	for _, c := range scans {
		changed = changed || c.changed
	}
	if !changed {
		return s.over
	}
	var files []*File
	settled := map[string]bool{} // paths below a directory
	for i := len(scans) - 1; i >= 0; i-- {
		if scans[i].fd < 0 {
			files = append(files, s.over.from(i, settled)...)
			continue
		}
		for _, e := range s.trees[i].entries {
			if isDropIn(e.name) {
				files = e.fragments(files, settled)
			}
		}
	}
	slices.SortFunc(files, func(a, b *File) int { return cmp.Compare(a.Path, b.Path) })
	if s.over == nil || !slices.Equal(files, s.over.files) {
		s.over = newOverlay(files)
	}
	return s.over
}

// from are the drop-ins of a directory that nothing settled yet.
func (o *overlay) from(dir int, settled map[string]bool) (files []*File) {
	if o == nil {
		return nil
	}
	for _, f := range o.files {
		if f.Dir == dir && !settled[f.Rel] {
			settled[f.Rel] = true
			files = append(files, f)
		}
	}
	return files
}

// fragments adds what a drop-in folder holds.
func (e *entry) fragments(files []*File, settled map[string]bool) []*File {
	add := func(rel string, f *file) {
		if f == nil || f.out == nil && !f.mask || settled[rel] {
			return
		}
		settled[rel] = true
		if !f.mask {
			files = append(files, f.out)
		}
	}
	add(e.name, e.file)
	if e.folder != nil && e.file == nil { // else it is broken as a whole
		for _, in := range e.folder.entries {
			add(e.name+"/"+in.name, in.file)
		}
	}
	return files
}

// MergeOrder compares drop-ins for one container: by the names of their files.
func MergeOrder(a, b *File) int {
	return cmp.Or(cmp.Compare(path.Base(a.Rel), path.Base(b.Rel)), cmp.Compare(a.Path, b.Path))
}

// newOverlay sorts fragments by their containers, and for each by their names.
func newOverlay(files []*File) *overlay {
	o := &overlay{files: files, by: map[string]layer{}}
	ordered := slices.SortedFunc(slices.Values(files), MergeOrder)
	for _, f := range ordered {
		if f.Of == "" {
			o.all.add(f)
		}
	}
	for _, f := range ordered {
		if f.Of == "" {
			continue
		}
		l, begun := o.by[f.Of]
		if !begun {
			l = layer{slices.Clone(o.all.fragments), o.all.unread}
		}
		l.add(f)
		o.by[f.Of] = l
	}
	return o
}
