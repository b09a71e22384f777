package source

import (
	"fmt"
	"maps"
	"path"
	"slices"

	"stead/runtime/hostpath"
	"stead/spec"
)

// What a container can write is never a manifest: else its root would declare what
// runs as root here. guard holds both halves of that. A manifest that asks to write
// where manifests are read, or where other orders come from, has an error; and nothing
// is read below what a container can write, or ever could.
//
// Neither is what keeps a container from it: links may change after this look. The
// runtime looks once more at what it opens for each start, and notes durably what a
// container can write before it runs.
type guard struct {
	mounts hostpath.Mounts
	mount  int                 // number of the mount table that names are from
	names  map[string][]string // by what containers can write, the paths that show it; nil: to be found anew
	read   *hostpath.Orders    // where manifests are read
	orders *hostpath.Orders    // what else a container must not write
	ids    map[string]bool     // the identities of what containers can write
	inodes map[uint64]bool     // their inodes
	taken  int                 // so many of Source.Writable are looked at
	number int                 // changes when documents are to be judged anew
	places *places
}

// places are the paths that containers can write of where manifests are read: nearly
// always none. They are never changed.
type places struct{ by map[string]bool }

// lead is where a link among the manifests leads.
type lead struct {
	real  string
	links []string
}

// lookAround brings the guard up to date. It returns whether what may be read has
// changed. In the middle of a reading nothing that was refused is read: else a
// container that changes its links all the time could keep a reading from its end.
func (s *Source) lookAround(reading bool) (changed bool) {
	g := &s.guard
	if mount := g.mounts.Refresh(); g.names == nil || mount != g.mount {
		g.names, g.taken, g.mount = map[string][]string{}, 0, mount
		g.number++
	}
	read, orders := hostpath.Look(), hostpath.Look(s.Orders...)
	for i, t := range s.trees {
		root := absolute(s.Dirs[i])
		real, links := hostpath.Resolve(root)
		read.Add(hostpath.Order{What: "the manifest directory", Path: root}, real, links)
		t.leads(root, read)
	}
	if g.read == nil || !g.read.Same(read) || !g.orders.Same(orders) {
		g.read, g.orders, g.taken = read, orders, 0
		g.number++
	}
	return s.takeWritable(reading)
}

// takeWritable looks at what containers can write that could not when it was last
// asked. It returns whether anything of it is read.
func (s *Source) takeWritable(reading bool) (changed bool) {
	g := &s.guard
	if g.ids == nil {
		g.ids, g.inodes = map[string]bool{}, map[uint64]bool{}
	}
	now := map[string]bool{}
	if g.places != nil && (reading || g.taken > 0) {
		now = maps.Clone(g.places.by)
	}
	if s.Writable != nil {
		list := s.Writable()
		if len(list) > g.taken {
			g.mounts.Refresh()
		}
		for _, p := range list[g.taken:] {
			if ino, is := hostpath.Inode(p); is {
				g.inodes[ino], g.ids[p] = true, true
				continue
			}
			names, known := g.names[p]
			if !known {
				real, _ := hostpath.Resolve(p) // a link may stand where it was
				names = append(g.mounts.Names(real), p)
				g.names[p] = names
			}
			if g.read.Overlap(names) == "" {
				continue
			}
			for _, name := range names {
				now[name] = true
			}
		}
		g.taken = len(list)
	}
	if g.places != nil && maps.Equal(now, g.places.by) {
		return false
	}
	g.places = &places{now}
	return true
}

// leads adds where the links in a folder lead.
func (f *folder) leads(dir string, read *hostpath.Orders) {
	for _, e := range f.entries {
		if e.lead != nil {
			read.Add(hostpath.Order{What: "what is read as", Path: path.Join(dir, e.name)}, e.lead.real, e.lead.links)
		}
		if e.folder != nil {
			e.folder.leads(path.Join(dir, e.name), read)
		}
	}
}

// fault says why nothing is to be read by these paths, which have no links; "" if it
// may be.
func (p *places) fault(paths ...string) string {
	if len(p.by) == 0 {
		return ""
	}
	for _, name := range paths {
		for dir := name; ; dir = path.Dir(dir) {
			if p.by[dir] {
				return writtenTo(dir)
			}
			if dir == "/" {
				break
			}
		}
	}
	return ""
}

// folderFault is fault for an open folder, which may have another path than when a
// container could write to it.
func (g *guard) folderFault(fd int, ino uint64, real string) string {
	if g.inodes[ino] && g.ids[hostpath.Identity(fd)] {
		return writtenTo(real)
	}
	return g.places.fault(real)
}

func writtenTo(dir string) string {
	return fmt.Sprintf("a container can write to %s, or once could: nothing in it is read as a manifest; "+
		"copy what you trust to a directory that no container could ever write, and move this one away", dir)
}

// lead finds out where a link among the manifests leads, and why nothing is to be
// read by it.
func (s *scan) lead(e *entry, rel string) (why string) {
	real, links := hostpath.Resolve(s.path(rel))
	if e.lead == nil || e.lead.real != real || !slices.Equal(e.lead.links, links) {
		e.lead, s.led = &lead{real, links}, true
	}
	return s.guard.places.fault(append(links, real)...)
}

// judge gives the documents of a file, as they were parsed, their errors of what they
// ask to write. It returns whether these are others than before.
func (g *guard) judge(f *file, links hostpath.Resolver) bool {
	if f.parsed == nil || f.judged == g.number {
		return false
	}
	f.judged = g.number
	docs := slices.Clone(f.parsed)
	verdict := ""
	for i := range docs {
		if docs[i].Elsewhere {
			continue
		}
		for _, e := range g.faults(docs[i].Writable, links) {
			verdict += e.Error() + "\n"
			docs[i].Container, docs[i].Errors = nil, append(docs[i].Errors, e)
		}
	}
	if verdict == f.verdict {
		return false
	}
	out := *f.out
	out.Documents, f.verdict, f.out = docs, verdict, &out
	return true
}

// faults are the errors of what a manifest asks to write.
func (g *guard) faults(paths []spec.WritablePath, links hostpath.Resolver) (errs []*spec.Error) {
	for _, w := range paths {
		real, _ := links.Resolve(w.Path)
		names := g.mounts.Names(real)
		why := g.read.Fault(names)
		if why == "" {
			why = g.orders.Fault(names)
		}
		if why == "" {
			continue
		}
		found := "found " + w.Path
		if real != w.Path {
			found += ", which leads to " + real
		}
		e := w.Place
		e.Message = found + ": " + why
		errs = append(errs, &e)
	}
	return errs
}

// judgeAll judges the files of a folder, and of those in it.
func (g *guard) judgeAll(f *folder, links hostpath.Resolver) (changed bool) {
	for _, e := range f.entries {
		if e.file != nil && g.judge(e.file, links) {
			changed = true
		}
		if e.folder != nil && g.judgeAll(e.folder, links) {
			changed = true
		}
	}
	return changed
}
