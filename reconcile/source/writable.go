package source

import (
	"fmt"
	"maps"
	"path"
	"slices"

	"stead/runtime/hostpath"
	"stead/spec"
)

// What a container can write is never a manifest: otherwise the container's root could
// declare what runs as root on this host. guard enforces both halves of that rule. A manifest
// that asks to write a protected path (a manifest directory, the configuration, stead's
// state) has an error; and nothing is read below what a container can write, or ever could.
//
// These checks give early errors; they are not the defence, as links may change afterwards.
// The runtime checks again what it really opens for each start, and notes durably what a
// container can write before the container runs.
type Guard struct {
	mounts       hostpath.Mounts
	mount        int                      // number of the mount table that names are from
	Names        map[string][]string      // by what containers can write, the paths that show it; nil: to be computed again
	read         *hostpath.ProtectedPaths // where manifests are read
	protected    *hostpath.ProtectedPaths // protected paths besides those
	ids          map[string]bool          // identities of what containers can write
	inodes       map[uint64]bool          // their inodes
	taken        int                      // how many entries of Source.Writable are processed
	Number       int                      // changes when documents are to be checked again
	writtenPaths *writtenPaths
}

// writtenPaths are the paths, among those where manifests are read, that containers can
// write: nearly always none. A value is never changed.
type writtenPaths struct{ by map[string]bool }

// linkTarget is where a link among the manifests leads.
type linkTarget struct {
	Real  string
	links []string
}

// refreshGuard brings the guard up to date and reports whether what may be read has changed.
// In the middle of a reading it only refuses more: otherwise a container that changes its
// links all the time could keep a reading from ending.
func (s *Source) refreshGuard(reading bool) (changed bool) {
	g := &s.guard
	if mount := g.mounts.Refresh(); g.Names == nil || mount != g.mount {
		g.Names, g.taken, g.mount = map[string][]string{}, 0, mount
		g.Number++
	}
	read, protected := hostpath.FindProtected(), hostpath.FindProtected(s.Protected...)
	for i, t := range s.trees {
		root := absolute(s.Dirs[i])
		real, links := hostpath.Resolve(root)
		read.Add(hostpath.Protected{What: "the manifest directory", Path: root}, real, links)
		t.linkTargets(root, read)
	}
	if g.read == nil || !g.read.Same(read) || !g.protected.Same(protected) {
		g.read, g.protected, g.taken = read, protected, 0
		g.Number++
	}
	return s.noteWritable(reading)
}

// noteWritable processes what containers can write since it was last called, and reports
// whether any of it is where manifests are read.
func (s *Source) noteWritable(reading bool) (changed bool) {
	g := &s.guard
	if g.ids == nil {
		g.ids, g.inodes = map[string]bool{}, map[uint64]bool{}
	}
	now := map[string]bool{}
	if g.writtenPaths != nil && (reading || g.taken > 0) {
		now = maps.Clone(g.writtenPaths.by)
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
			names, known := g.Names[p]
			if !known {
				real, _ := hostpath.Resolve(p) // a link may stand where it was
				names = append(g.mounts.Names(real), p)
				g.Names[p] = names
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
	if g.writtenPaths != nil && maps.Equal(now, g.writtenPaths.by) {
		return false
	}
	g.writtenPaths = &writtenPaths{now}
	return true
}

// linkTargets adds where the links in a folder lead.
func (f *folder) linkTargets(dir string, read *hostpath.ProtectedPaths) {
	for _, e := range f.entries {
		if e.lead != nil {
			read.Add(hostpath.Protected{What: "what is read as", Path: path.Join(dir, e.name)}, e.lead.Real, e.lead.links)
		}
		if e.folder != nil {
			e.folder.linkTargets(path.Join(dir, e.name), read)
		}
	}
}

// refusal says why nothing may be read by these paths, which hold no links; "" if it may.
func (p *writtenPaths) refusal(paths ...string) string {
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

// folderRefusal is refusal for an open folder, which may have another path than it had when
// a container could write to it.
func (g *Guard) folderRefusal(fd int, ino uint64, real string) string {
	if g.inodes[ino] && g.ids[hostpath.Identity(fd)] {
		return writtenTo(real)
	}
	return g.writtenPaths.refusal(real)
}

func writtenTo(dir string) string {
	return fmt.Sprintf("a container can write to %s, or once could: nothing in it is read as a manifest; "+
		"copy what you trust to a directory that no container could ever write, and move this one away", dir)
}

// linkTarget resolves a link among the manifests, and says why nothing may be read through
// it.
func (s *scan) linkTarget(e *entry, rel string) (why string) {
	real, links := hostpath.Resolve(s.path(rel))
	if e.lead == nil || e.lead.Real != real || !slices.Equal(e.lead.links, links) {
		e.lead, s.led = &linkTarget{real, links}, true
	}
	return s.guard.writtenPaths.refusal(append(links, real)...)
}

// checkFile adds, to the documents of a file as they were parsed, the errors about what they
// ask to write. It reports whether these differ from before.
func (g *Guard) checkFile(f *file, links hostpath.Resolver) bool {
	if f.parsed == nil || f.judged == g.Number {
		return false
	}
	f.judged = g.Number
	docs := slices.Clone(f.parsed)
	verdict := ""
	for i := range docs {
		if docs[i].Elsewhere {
			continue
		}
		for _, e := range g.writeErrors(docs[i].Writable, links) {
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

// writeErrors returns the errors about what a manifest asks to write.
func (g *Guard) writeErrors(paths []spec.WritablePath, links hostpath.Resolver) (errs []*spec.Error) {
	for _, w := range paths {
		real, _ := links.Resolve(w.Path)
		names := g.mounts.Names(real)
		why := g.read.WriteRefusal(names)
		if why == "" {
			why = g.protected.WriteRefusal(names)
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

// checkFolder checks the files of a folder, and of those in it.
func (g *Guard) checkFolder(f *folder, links hostpath.Resolver) (changed bool) {
	for _, e := range f.entries {
		if e.file != nil && g.checkFile(e.file, links) {
			changed = true
		}
		if e.folder != nil && g.checkFolder(e.folder, links) {
			changed = true
		}
	}
	return changed
}
