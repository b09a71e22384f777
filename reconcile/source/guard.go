package source

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"

	"stead/reconcile/source/disk"
	"stead/runtime/hostpath"
	"stead/spec"
)

// A file that a container can write is never a manifest: otherwise root in the container could
// declare what runs as root on this host. guard enforces the rule in both directions. A manifest
// that asks to write a protected path (a manifest directory, the configuration, stead's
// state) has an error; and nothing is read below what a container can write, or ever could.
//
// These checks give early errors; they are not the defence, as links may change afterwards.
// The runtime checks again what it really opens for each start, and notes durably what a
// container can write before the container runs.
type guard struct {
	mounts         hostpath.Mounts
	mountVersion   int                      // version of the mount table that names come from
	names          map[string][]string      // all paths of each writable path; nil if they must be computed again
	readPaths      *hostpath.ProtectedPaths // the paths where manifests are read
	sourcePaths    *hostpath.ProtectedPaths // the paths from which files get their content
	protectedPaths *hostpath.ProtectedPaths // the other protected paths
	ids            map[string]bool          // identities of what containers can write
	inodes         map[uint64]bool          // their inodes
	processed      int                      // the number of processed entries of Source.Writable
	version        int                      // changes when documents must be checked again
	writtenPaths   *writtenPaths
}

// writtenPaths holds the paths where manifests are read that containers can write: nearly
// always none. A value never changes.
type writtenPaths struct{ paths map[string]bool }

// linkTarget is the target of a link among the manifests.
type linkTarget struct {
	real  string
	links []string
}

// refreshGuard brings the guard up to date and reports whether what may be read has changed.
// In the middle of a reading it only refuses more: otherwise a container that changes its
// links all the time could keep a reading from ending.
func (s *Source) refreshGuard(reading bool) (changed bool) {
	g := &s.guard
	if mount := g.mounts.Refresh(); g.names == nil || mount != g.mountVersion {
		g.names, g.processed, g.mountVersion = map[string][]string{}, 0, mount
		g.version++
	}
	read, protected := hostpath.FindProtected(), hostpath.FindProtected(s.Protected...)
	for i, t := range s.roots {
		root := absolutePath(s.Dirs[i])
		real, links, _ := s.disk.Resolve(root) // the scan says that it does not answer
		read.Add(hostpath.Protected{What: "the manifest directory", Path: root}, real, links)
		t.linkTargets(root, read)
	}
	if g.sourcePaths == nil || s.contents.changed {
		g.sourcePaths, g.processed = s.contents.paths(), 0
		s.contents.changed = false
		g.version++
	}
	if g.readPaths == nil || !g.readPaths.Same(read) || !g.protectedPaths.Same(protected) {
		g.readPaths, g.protectedPaths, g.processed = read, protected, 0
		g.version++
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
	if g.writtenPaths != nil && (reading || g.processed > 0) {
		now = maps.Clone(g.writtenPaths.paths)
	}
	if s.Writable != nil {
		list := s.Writable()
		if len(list) > g.processed {
			g.mounts.Refresh()
		}
		for _, p := range list[g.processed:] {
			if ino, is := hostpath.Inode(p); is {
				g.inodes[ino], g.ids[p] = true, true
				continue
			}
			names, known := g.names[p]
			if !known {
				real := hostpath.Resolver(nil).ResolveLocal(p) // a link may stand where it was
				names = append(g.mounts.Names(real), p)
				g.names[p] = names
			}
			if g.readPaths.Overlap(names) == "" && g.sourcePaths.Overlap(names) == "" {
				continue
			}
			for _, name := range names {
				now[name] = true
			}
		}
		g.processed = len(list)
	}
	if g.writtenPaths != nil && maps.Equal(now, g.writtenPaths.paths) {
		return false
	}
	g.writtenPaths = &writtenPaths{now}
	return true
}

// linkTargets adds where the links in a folder lead.
func (f *folder) linkTargets(dir string, read *hostpath.ProtectedPaths) {
	for _, e := range f.entries {
		if e.target != nil {
			read.Add(hostpath.Protected{What: "what is read as", Path: path.Join(dir, e.name)}, e.target.real, e.target.links)
		}
		if e.folder != nil {
			e.folder.linkTargets(path.Join(dir, e.name), read)
		}
	}
}

// refusalFor returns why nothing may be read below these paths, which hold no links; "" if
// it may.
func (p *writtenPaths) refusalFor(paths ...string) string {
	if len(p.paths) == 0 {
		return ""
	}
	for _, name := range paths {
		for dir := name; ; dir = path.Dir(dir) {
			if p.paths[dir] {
				return writtenReason(dir)
			}
			if dir == "/" {
				break
			}
		}
	}
	return ""
}

// folderRefusal returns why nothing may be read in an open folder, which may have another
// path now than when a container could write to it; "" if it may.
func (g *guard) folderRefusal(dir *disk.Dir) string {
	if g.inodes[dir.Stat.Ino] && g.ids[dir.Identity()] {
		return writtenReason(dir.Path())
	}
	return g.writtenPaths.refusalFor(dir.Path())
}

// writtenReason returns the message for a folder that a container can write.
func writtenReason(dir string) string {
	return fmt.Sprintf("a container can write to %s, or once could: nothing in it is read as a manifest; "+
		"copy what you trust to a directory that no container could ever write, and move this one away", dir)
}

// linkTarget resolves a link among the manifests and returns why nothing can be read
// through it, as Refused if it may not be.
func (s *scan) linkTarget(e *entry, rel string) error {
	real, links, err := s.disk.Resolve(s.path(rel))
	if err != nil {
		return err
	}
	if e.target == nil || e.target.real != real || !slices.Equal(e.target.links, links) {
		e.target, s.linksChanged = &linkTarget{real, links}, true
	}
	return refusedFor(s.guard.writtenPaths.refusalFor(append(links, real)...))
}

// checkFile adds to the documents of a file the errors about paths that they ask to write,
// and what is known of their sources. It reports whether any of that has changed.
func (s *Source) checkFile(f *file, links hostpath.Resolver) bool {
	g := &s.guard
	if f.unguarded == nil || f.guardVersion == g.version && f.contentsVersion == s.contents.version {
		return false
	}
	if f.guardVersion != g.version || f.writeErrors == nil {
		f.writeErrors = make([][]*spec.Error, len(f.unguarded))
		for i, doc := range f.unguarded {
			if !doc.Elsewhere {
				f.writeErrors[i] = g.writeErrors(doc.Writable, links)
			}
		}
	}
	docs := slices.Clone(f.unguarded)
	verdict := ""
	for i := range docs {
		if docs[i].Elsewhere {
			continue
		}
		errs := slices.Concat(f.writeErrors[i], s.fill(&docs[i]))
		for _, src := range docs[i].Sources {
			verdict += src.Sum + "\n"
		}
		for _, e := range errs {
			verdict += e.Error() + "\n"
			docs[i].Container, docs[i].Errors = nil, append(docs[i].Errors, e)
		}
	}
	f.guardVersion, f.contentsVersion = g.version, s.contents.version
	if verdict == f.guardErrors {
		return false
	}
	out := *f.result
	out.Documents, f.guardErrors, f.result = docs, verdict, &out
	return true
}

// writeErrors returns the errors about the paths that a manifest asks to write.
func (g *guard) writeErrors(paths []spec.WritablePath, links hostpath.Resolver) (errs []*spec.Error) {
	for _, w := range paths {
		real := links.ResolveLocal(w.Path)
		names := g.mounts.Names(real)
		why := cmp.Or(g.readPaths.WriteRefusal(names), g.protectedPaths.WriteRefusal(names), g.sourcePaths.WriteRefusal(names))
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

// checkFolder checks all files below a folder and reports whether anything has changed.
func (s *Source) checkFolder(f *folder, links hostpath.Resolver) (changed bool) {
	for _, e := range f.entries {
		if e.file != nil && s.checkFile(e.file, links) {
			changed = true
		}
		if e.folder != nil && s.checkFolder(e.folder, links) {
			changed = true
		}
	}
	return changed
}
