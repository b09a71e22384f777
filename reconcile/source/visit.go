package source

import (
	"cmp"
	"fmt"
	"path"

	"golang.org/x/sys/unix"
)

// visit looks at one name: one fstatat, and no more if nothing is new.
func (s *scan) visit(in *folder, dirfd int, e *entry, above, real string) {
	if e.name == forAll && above != "" && !s.dropIn {
		s.dropIn, s.of, s.in = true, "", above
		s.dropInFolder(in, dirfd, e, above+"/"+e.name, real)
		s.dropIn, s.in = false, ""
		return
	}
	var st unix.Stat_t
	err := unix.Fstatat(dirfd, e.name, &st, 0)
	if err != nil {
		s.gone(in, dirfd, e, above, err)
		return
	}
	if e.file != nil && s.refused == "" && (!s.renew || !e.link) && e.file.current(&st, s.over, s.guard.writtenPaths) {
		return
	}
	rel := path.Join(above, e.name)
	if e.link && s.watch != nil {
		s.watch.leadTo(s.path(rel))
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		s.subfolder(e, dirfd, rel, real)
		return
	}
	e.folder = nil
	if !manifestName(e.name) {
		return // a link to something else
	}
	why := ""
	if e.link {
		why = cmp.Or(s.linkTarget(e, rel), s.trust.way(s.path(rel)))
	} else {
		why = s.guard.writtenPaths.refusal(real + "/" + e.name)
	}
	if why != "" {
		s.broken(e, rel, why)
		return
	}
	if e.file == nil {
		e.file = &file{}
	}
	if s.update(e.file, dirfd, e.name, &st, s.at(rel)) {
		s.changed = true
	}
}

func (s *scan) at(rel string) File {
	return File{Path: s.path(rel), Rel: rel, Dir: s.dir, DropIn: s.dropIn, Of: s.of, In: s.in}
}

// subfolder walks a folder below; one named web.yaml is a folder all the same.
func (s *scan) subfolder(e *entry, dirfd int, rel, real string) {
	if s.dropIn || isDropIn(e.name) {
		message := "the drop-in folder of one container stands directly in a manifest directory: move it up, or call it container.d for all whose manifests lie here"
		if s.dropIn {
			message = "drop-in folders hold files only: move what is in it up"
		}
		e.folder = nil
		s.broken(e, rel, message)
		return
	}
	if e.file != nil {
		e.file, s.changed = nil, true
	}
	if e.folder == nil {
		e.folder, s.changed = &folder{}, true
	}
	before := s.refused
	if e.link {
		if why := s.linkTarget(e, rel); why != "" {
			s.fail(e.folder, rel, &Refused{why})
			return
		}
		s.refuse(s.trust.way(s.path(rel)))
	}
	s.walk(e.folder, dirfd, e.name, rel, e.below(real))
	s.refused = before
}

// below is the path without links of a folder in one that has that path.
func (e *entry) below(real string) string {
	if e.link {
		return e.lead.Real
	}
	return real + "/" + e.name
}

// gone handles a name that can't be looked at: a link that leads nowhere is a
// broken manifest, a name that was deleted since the listing is none.
func (s *scan) gone(in *folder, dirfd int, e *entry, above string, err error) {
	rel := path.Join(above, e.name)
	if s.wasDeleted(in, dirfd, e, err) {
		return
	}
	if !manifestName(e.name) && e.folder != nil {
		// It was a folder: what was in it is unknown now, not gone.
		s.fail(e.folder, rel, err)
		return
	}
	if !manifestName(e.name) {
		return
	}
	if e.link && s.watch != nil {
		s.watch.leadTo(s.path(rel))
	}
	e.folder = nil
	s.broken(e, rel, unreachable(err))
}

// wasDeleted reports whether an entry was deleted since the listing, by the error of
// looking at it. It then forgets what the entry held and has the folder listed again.
func (s *scan) wasDeleted(in *folder, dirfd int, e *entry, err error) bool {
	var st unix.Stat_t
	if err != unix.ENOENT || unix.Fstatat(dirfd, e.name, &st, unix.AT_SYMLINK_NOFOLLOW) != unix.ENOENT {
		return false
	}
	in.racy = true
	if e.file != nil || e.folder != nil {
		e.file, e.folder, s.changed = nil, nil, true
	}
	return true
}

// unreachable says why a name that is there can't be looked at.
func unreachable(err error) string {
	if err == unix.ENOENT {
		return "a link that leads nowhere"
	}
	return fmt.Sprintf("can't be read: %v", err)
}

// broken makes an entry a file that can't be read.
func (s *scan) broken(e *entry, rel, message string) {
	if e.file == nil {
		e.file = &file{}
	}
	if e.file.fail(s.at(rel), message) {
		s.changed = true
	}
}
