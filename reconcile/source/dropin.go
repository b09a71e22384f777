package source

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"stead/reconcile/source/disk"
	"stead/spec"
)

// overlay holds the drop-ins of all folders. It never changes: Read keeps using the same
// overlay as long as no drop-in has changed.
type overlay struct {
	files       []*File          // the drop-ins in effect
	all         layer            // for every container
	byFolder    map[string]layer // for manifests in a folder or below it
	byContainer map[string]layer // for one container, by its name
}

// layer holds the fragments that are merged over one manifest.
type layer struct {
	fragments []*spec.Fragment
	unread    *File // a drop-in of the layer that was never read; nil if there is none
}

// layerFor returns the layer for the manifest of a container in a file: the fragments for
// all containers, for the folders of the file from the outermost on, and for the container.
// A nil overlay has no fragments.
func (o *overlay) layerFor(name, file string) layer {
	if o == nil {
		return layer{}
	}
	l := o.all
	if len(o.byFolder) > 0 {
		for _, folder := range Folders(file) {
			l = l.append(o.byFolder[folder])
		}
	}
	return l.append(o.byContainer[name])
}

// Folders returns the folders that a file lies in, below the manifest directory, the
// outermost first.
func Folders(file string) (all []string) {
	for i, c := range file {
		if c == '/' {
			all = append(all, file[:i])
		}
	}
	return all
}

// append returns the fragments of l followed by those of more; it changes neither.
func (l layer) append(more layer) layer {
	if len(more.fragments) > 0 {
		l.fragments = append(l.fragments[:len(l.fragments):len(l.fragments)], more.fragments...)
	}
	if more.unread != nil {
		l.unread = more.unread
	}
	return l
}

func (l layer) equal(other layer) bool {
	return slices.Equal(l.fragments, other.fragments) && l.unread == other.unread
}

func (l *layer) add(f *File) {
	if f.Fragment == nil {
		l.unread = f
		return
	}
	l.fragments = append(l.fragments, f.Fragment)
}

// readDropIns opens the manifest directory and reads its drop-in folders.
func (s *scan) readDropIns(f *folder) {
	if why := s.guard.writtenPaths.refusalFor(s.links...); why != "" {
		s.failFolder(f, "", &Refused{why})
		return
	}
	if s.unreadable != nil {
		s.failFolder(f, "", s.unreadable)
		return
	}
	if err := s.refuseFor(s.parentsFault(s.root)); err != nil {
		s.failFolder(f, "", err)
		return
	}
	dir, err := s.disk.OpenRoot(s.root, s.real, f.names)
	if !s.openFolder(f, dir, err, "") {
		return
	}
	s.open = dir
	for _, e := range f.entries {
		if of, ok := DropInFor(e.name); ok {
			s.inDropIn, s.container = true, of
			s.visitDropInFolder(f, s.open, e, e.name)
		}
	}
	s.inDropIn, s.container = false, ""
}

// visitDropInFolder reads a drop-in folder. If the folder as a whole has an error, it
// becomes a broken fragment, since the manifests can't be completed without it.
func (s *scan) visitDropInFolder(in *folder, dir *disk.Dir, e *entry, rel string) {
	st, err := dir.StatName(e.name, e.link)
	if err == nil && s.isFolderUnchanged(dir, e, &st) {
		return
	}
	s.watchLink(dir, e, rel)
	switch {
	case s.wasDeleted(in, dir, e, err):
		return
	case err != nil:
		e.folder = nil
		s.setBroken(e, rel, unreachableReason(err))
		return
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		e.folder = nil
		s.setBroken(e, rel, "not a folder: drop-ins are files in a folder of such a name")
		return
	case s.container == "" && e.name != dropInForAll || s.container != "" && spec.CheckName(s.container) != nil:
		e.folder = nil
		s.setBroken(e, rel, "no container can have that name")
		return
	}
	if e.folder == nil {
		e.folder, s.changed = &folder{}, true
	}
	before := s.refusal
	if e.link {
		if err := s.refuseFor(cmp.Or(s.linkTarget(e, rel), s.parentsFault(s.path(rel)))); err != nil {
			e.folder = nil
			s.setBroken(e, rel, unreachableReason(err))
			return
		}
	}
	s.walk(e.folder, dir, e, rel, e.realPath(dir))
	refused := s.refusal
	s.refusal = before
	if err := e.folder.err; err != nil {
		s.setBroken(e, rel, unreachableReason(err))
	} else if refused != "" {
		s.setBroken(e, rel, refused) // others may have removed files from it
	} else if e.file != nil {
		e.file, s.changed = nil, true
	}
}

// isFolderUnchanged reports whether a drop-in folder is unchanged, without opening it: each
// of ten thousand containers may have one.
func (s *scan) isFolderUnchanged(dir *disk.Dir, e *entry, now *unix.Stat_t) bool {
	f := e.folder
	if f == nil || e.file != nil || s.renew || s.refusal != "" || !f.listed || f.racy || f.stamp != stampOf(now) || dir.Leads(e.name, e.link) {
		return false
	}
	for _, in := range f.entries {
		if in.pathFromParent == "" {
			in.pathFromParent = e.name + "/" + in.name
		}
		if in.file == nil || dir.Leads(in.pathFromParent, in.link) {
			return false
		}
		if st, err := dir.StatName(in.pathFromParent, in.link); err != nil || !in.file.isCurrent(&st, nil, s.guard.writtenPaths) {
			return false
		}
	}
	return true
}

// readManifests reads everything but the drop-in folders, and closes the directory.
func (s *scan) readManifests(f *folder) {
	if s.open == nil {
		return
	}
	for _, e := range f.entries {
		if !isDropIn(e.name) {
			s.visit(f, s.open, e, "")
		}
	}
	s.closeFolder(s.open)
}

// overlay combines the drop-ins of all directories. Of several drop-ins with the same path
// below their directory, the one of the last directory is used. The drop-ins of a directory
// or folder that can't be read now stay in effect: without them the manifests would mean
// something else.
func (s *Source) overlay(scans []*scan, changed bool) *overlay {
	changed = changed || s.overlays == nil
	for _, c := range scans {
		changed = changed || c.changed
	}
	if !changed {
		return s.overlays
	}
	g := dropInCollector{previous: s.overlays, seen: map[string]bool{}}
	for i := len(scans) - 1; i >= 0; i-- {
		if g.dir = i; scans[i].open == nil {
			g.keepPrevious("")
		} else {
			g.folder(s.roots[i], "")
		}
	}
	slices.SortFunc(g.files, func(a, b *File) int { return cmp.Compare(a.Path, b.Path) })
	if s.overlays == nil || !slices.Equal(g.files, s.overlays.files) {
		s.overlays = newOverlay(g.files)
	}
	return s.overlays
}

// dropInCollector collects the drop-ins of the directories, the last directory first.
type dropInCollector struct {
	previous *overlay
	dir      int
	files    []*File
	seen     map[string]bool // paths below a directory
}

// keepPrevious keeps the previous drop-ins of a folder that can't be read.
func (g *dropInCollector) keepPrevious(folder string) {
	if g.previous == nil {
		return
	}
	for _, f := range g.previous.files {
		if f.Dir == g.dir && !g.seen[f.Rel] && (folder == "" || strings.HasPrefix(f.Rel, folder+"/")) {
			g.seen[f.Rel] = true
			g.files = append(g.files, f)
		}
	}
}

// folder adds the drop-ins in a folder and below it.
func (g *dropInCollector) folder(f *folder, rel string) {
	if f.err != nil {
		g.keepPrevious(rel)
		return
	}
	for _, e := range f.entries {
		at := path.Join(rel, e.name)
		switch {
		case isDropIn(e.name) && (rel == "" || e.name == dropInForAll):
			g.add(at, e.file)
			if e.folder != nil && e.file == nil { // otherwise the folder as a whole has an error
				for _, in := range e.folder.entries {
					g.add(at+"/"+in.name, in.file)
				}
			}
		case e.folder != nil:
			g.folder(e.folder, at)
		}
	}
}

func (g *dropInCollector) add(rel string, f *file) {
	if f == nil || f.result == nil && !f.isMask || g.seen[rel] {
		return
	}
	g.seen[rel] = true
	if !f.isMask {
		g.files = append(g.files, f.result)
	}
}

// MergeOrder compares drop-ins for one container by the names of their files.
func MergeOrder(a, b *File) int {
	return cmp.Or(cmp.Compare(path.Base(a.Rel), path.Base(b.Rel)), cmp.Compare(a.Path, b.Path))
}

// newOverlay groups drop-ins by the containers that they are for, in merge order.
func newOverlay(files []*File) *overlay {
	o := &overlay{files: files, byFolder: map[string]layer{}, byContainer: map[string]layer{}}
	for _, f := range slices.SortedFunc(slices.Values(files), MergeOrder) {
		switch {
		case f.Of != "":
			l := o.byContainer[f.Of]
			l.add(f)
			o.byContainer[f.Of] = l
		case f.In != "":
			l := o.byFolder[f.In]
			l.add(f)
			o.byFolder[f.In] = l
		default:
			o.all.add(f)
		}
	}
	return o
}
