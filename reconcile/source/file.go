package source

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"stead/spec"
)

// file is what is remembered of one file between readings.
type file struct {
	stamp   stamp
	racy    bool // the stamp may be that of a later write too
	sum     [sha256.Size]byte
	result  *File    // never nil once read
	overlay *overlay // what its documents were merged with
	// parsed are its documents before they were judged, nil if none asks to write
	// anything of the host; judged is the number of the guard that judged them, and
	// verdict what it found.
	unguarded    []spec.Document
	guardVersion int
	guardErrors  string
	writtenPaths *writtenPaths // that it was not below when it was read
	heldManifest bool          // it held a manifest once
	isMask       bool          // a link to /dev/null: it masks the file of an earlier directory
}

var errOpenForWriting = errors.New("somebody has it open for writing")

// updateFile makes f what the file at dirfd/name is now. It returns whether
// anything is new.
func (s *scan) updateFile(f *file, dirfd int, name string, st *unix.Stat_t, at File) bool {
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
	data, stamp, err := readFile(dirfd, name, func(st *unix.Stat_t) string { return s.trust.fault(st, at.Path) })
	switch {
	case errors.Is(err, errOpenForWriting):
		return f.setWaiting(at, at.Path, s.now)
	case err != nil:
		f.stamp = stamp
		return f.setError(at, err.Error())
	}
	f.stamp, f.racy = stamp, stamp.isRacy(s.now)
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
	f.result, f.unguarded, f.guardVersion, f.guardErrors = &at, nil, 0, ""
	if slices.ContainsFunc(at.Documents, func(d spec.Document) bool { return len(d.Writable) > 0 }) {
		f.unguarded = at.Documents
		s.guard.checkFile(f, nil)
	}
	return true
}

// parseManifests reads the documents of a manifest. It returns a drop-in for one of them
// that was never read, if there is one: the manifest without it would be
// something that nobody asked for.
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

// isCurrent tells whether what was read is what is there.
func (f *file) isCurrent(st *unix.Stat_t, over *overlay, places *writtenPaths) bool {
	if f.result == nil || f.racy || f.writtenPaths != places || f.stamp != stampOf(st) {
		return false
	}
	if !f.result.Waiting.IsZero() {
		return f.result.Writer != f.result.Path && f.overlay == over // waits for a drop-in, of which nothing is new
	}
	return f.hasSameDropIns(over)
}

// hasSameDropIns tells whether the drop-ins for the documents are those that were
// merged into them.
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

// setError makes f a file that can't be read as a whole.
func (f *file) setError(at File, message string) bool {
	if f.result != nil && f.result.Err != nil && f.result.Err.Message == message && f.result.Waiting.IsZero() {
		return false
	}
	at.Err = &spec.Error{File: at.Path, Message: message}
	if at.DropIn {
		at.Fragment = spec.BrokenFragment(at.Err)
	}
	f.result, f.isMask, f.sum, f.unguarded = &at, false, [sha256.Size]byte{}, nil
	f.racy = true // an error says nothing about the content: look again next time
	return true
}

// setWaiting keeps what the file held before, until a writer has closed it or a
// drop-in for it.
func (f *file) setWaiting(at File, writer string, since time.Time) bool {
	if f.result != nil && !f.result.Waiting.IsZero() && f.result.Writer == writer {
		return false
	}
	at.Waiting, at.Writer = since, writer
	at.Documents, at.Err = nil, nil
	if f.result != nil {
		at.Documents, at.Fragment, at.Err = f.result.Documents, f.result.Fragment, f.result.Err
	}
	f.result, f.isMask = &at, false
	return true
}

// readFile reads a file that nobody is writing. The lease is held while it is
// read, so that what is returned is what one writer left; whoever opens the
// file for writing in that moment waits for some microseconds (man 2 fcntl,
// "Leases"). Nonblocking, since the name may be a FIFO by now.
//
// refuse tells by its owner and mode why it is not to be read.
func readFile(dirfd int, name string, refuse func(*unix.Stat_t) string) ([]byte, stamp, error) {
	var fd int
	err := retryEINTR(func() (err error) {
		fd, err = unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		return err
	})
	if err != nil {
		return nil, stamp{}, fmt.Errorf("can't be opened: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	leased, err := takeLease(fd)
	if err != nil {
		return nil, stamp{}, err
	}
	if leased {
		defer func() { _, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK) }()
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, stamp{}, fmt.Errorf("can't be read: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, stamp{}, errors.New("not a regular file: neither read nor followed")
	}
	if why := refuse(&st); why != "" {
		return nil, stampOf(&st), errors.New(why)
	}
	if st.Size > spec.MaxFileSize {
		return nil, stampOf(&st), tooLargeError()
	}
	data := make([]byte, 0, st.Size+1) // one more, so that the end is seen without growing
	for len(data) <= spec.MaxFileSize {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		n, err := f.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if err == io.EOF {
			return data, stampOf(&st), nil
		}
		if err != nil {
			return nil, stamp{}, fmt.Errorf("can't be read: %w", errors.Unwrap(err))
		}
	}
	return nil, stampOf(&st), tooLargeError()
}

func tooLargeError() error {
	return fmt.Errorf("larger than %d KiB; split it into several files", spec.MaxFileSize>>10)
}

// takeLease asks for a read lease, which the kernel refuses with EAGAIN while
// anybody has the file open for writing. Where leases can't be had (another
// owner's file without CAP_LEASE, a file system without them) the file is just
// read: better a reading too early, healed by the next event, than none.
func takeLease(fd int) (bool, error) {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		return true, nil
	}
	if err == unix.EAGAIN && !isRemote(fd) {
		return false, errOpenForWriting
	}
	return false, nil
}
