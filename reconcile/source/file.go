package source

import (
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"stead/reconcile/source/disk"
	"stead/spec"
)

// file is the cache of one file between readings.
type file struct {
	stamp   stamp
	racy    bool // a later write may leave the same stamp
	sum     [sha256.Size]byte
	result  *File    // nil until the first reading
	overlay *overlay // the drop-ins that were merged into its documents
	// parsed are its documents before they were judged, nil if none asks to write
	// anything of the host, or names a source; judged is the number of the guard that judged them, and
	// verdict what it found.
	unguarded    []spec.Document
	guardVersion int
	guardErrors  string
	// writeErrors are what the guard found, by document; contentsVersion is the version of the
	// contents that were added to the documents.
	writeErrors     [][]*spec.Error
	contentsVersion int
	writtenPaths    *writtenPaths // the paths below which it did not lie when it was read
	heldManifest    bool          // it has held a manifest since the start
	isMask          bool          // a link to /dev/null, which masks the file of an earlier directory
}

// updateFile brings f up to date with the file of an entry and reports whether anything
// has changed.
func (s *scan) updateFile(f *file, in *disk.Dir, e *entry, st *unix.Stat_t, at File) bool {
	if s.refusal != "" {
		return f.setError(at, s.refusal)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFCHR && unix.Major(uint64(st.Rdev)) == 1 && unix.Minor(uint64(st.Rdev)) == 3 {
		old := f.isMask
		*f = file{isMask: true, stamp: stampOf(st)}
		return !old
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return f.setError(at, "not a regular file: neither read nor followed")
	}
	if f.isCurrent(st, s.overlay, s.guard.writtenPaths) {
		return false
	}
	f.writtenPaths = s.guard.writtenPaths
	data, now, err := in.ReadFile(e.name, e.link, spec.MaxFileSize, func(st *unix.Stat_t) string { return s.trust.fault(st, at.Path) })
	switch {
	case errors.Is(err, disk.ErrWriting):
		return f.setWaiting(at, at.Path, s.now)
	case err != nil:
		f.stamp = stampOf(&now)
		return f.setError(at, err.Error())
	}
	f.stamp = stampOf(&now)
	f.racy = f.stamp.isRacy(s.now)
	sum := sha256.Sum256(data)
	if f.result != nil && f.result.Err == nil && f.result.Waiting.IsZero() && f.sum == sum && f.hasSameDropIns(s.overlay) {
		return false
	}
	f.sum, f.isMask, f.overlay = sum, false, s.overlay
	if at.DropIn {
		at.Fragment = spec.ParseFragment(at.Path, data)
	} else if unread := s.parseManifests(&at, data); unread != nil {
		return f.setWaiting(at, unread.Path, unread.Waiting)
	} else {
		f.heldManifest = f.heldManifest || slices.ContainsFunc(at.Documents, func(d spec.Document) bool { return !d.Foreign })
		at.Foreign = !f.heldManifest && len(at.Documents) > 0
	}
	f.result, f.unguarded, f.guardVersion, f.guardErrors, f.writeErrors = &at, nil, 0, "", nil
	if slices.ContainsFunc(at.Documents, func(d spec.Document) bool { return len(d.Writable)+len(d.Sources) > 0 }) {
		f.unguarded = at.Documents
		s.check(f)
	}
	return true
}

// parseManifests reads the documents of a manifest file. If a drop-in for one of them was
// never read, it returns that drop-in: nobody asked for the manifest without it.
func (s *scan) parseManifests(at *File, data []byte) (unread *File) {
	at.Documents = s.parser.ParseWith(at.Path, data, func(name string) []*spec.Fragment {
		l := s.overlay.layerFor(name, at.Rel)
		if l.unread != nil {
			unread = l.unread
		}
		return l.fragments
	})
	if len(at.Documents) == 0 {
		at.Err = &spec.Error{File: at.Path, Message: "no manifest in it; delete the file to remove its containers"}
	}
	return unread
}

// isCurrent reports whether the cached content is still the content of the file.
func (f *file) isCurrent(st *unix.Stat_t, over *overlay, places *writtenPaths) bool {
	if f.result == nil || f.racy || f.writtenPaths != places || f.stamp != stampOf(st) {
		return false
	}
	if !f.result.Waiting.IsZero() {
		return f.result.Writer != f.result.Path && f.overlay == over // it waits for a drop-in, and no drop-in has changed
	}
	return f.hasSameDropIns(over)
}

// hasSameDropIns reports whether the drop-ins for the documents are still the ones that
// were merged into them.
func (f *file) hasSameDropIns(over *overlay) bool {
	if f.overlay == over || f.result.DropIn {
		return true
	}
	for i := range f.result.Documents {
		name := f.result.Documents[i].Name
		if name != "" && !f.overlay.layerFor(name, f.result.Rel).equal(over.layerFor(name, f.result.Rel)) {
			return false
		}
	}
	f.overlay = over
	return true
}

// setError marks f as a file that can't be read, and reports whether that is new.
func (f *file) setError(at File, message string) bool {
	if f.result != nil && f.result.Err != nil && f.result.Err.Message == message && f.result.Waiting.IsZero() {
		return false
	}
	at.Err = &spec.Error{File: at.Path, Message: message}
	if at.DropIn {
		at.Fragment = spec.BrokenFragment(at.Err)
	}
	f.result, f.isMask, f.sum, f.unguarded = &at, false, [sha256.Size]byte{}, nil
	f.racy = true // an error says nothing about the content, so the next reading tries again
	return true
}

// setWaiting keeps the previous content until a writer has closed the file or a drop-in for
// it, and reports whether that is new.
func (f *file) setWaiting(at File, writer string, since time.Time) bool {
	if f.result != nil && !f.result.Waiting.IsZero() && f.result.Writer == writer {
		return false
	}
	at.Waiting, at.Writer = since, writer
	at.Documents, at.Err = nil, nil
	if f.result != nil {
		at.Documents, at.Fragment, at.Err, at.Foreign = f.result.Documents, f.result.Fragment, f.result.Err, f.result.Foreign
	}
	f.result, f.isMask = &at, false
	return true
}
