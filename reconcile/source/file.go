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
	stamp stamp
	racy  bool // the stamp may be that of a later write too
	sum   [sha256.Size]byte
	out   *File    // never nil once read
	over  *overlay // what its documents were merged with
	// parsed are its documents before they were judged, nil if none asks to write
	// anything of the host; judged is the number of the guard that judged them, and
	// verdict what it found.
	parsed  []spec.Document
	judged  int
	verdict string
	places  *writtenPaths // that it was not below when it was read
	held    bool          // it held a manifest once
	mask    bool          // a link to /dev/null: it masks the file of an earlier directory
}

var errWriter = errors.New("somebody has it open for writing")

// update makes f what the file at dirfd/name is now. It returns whether
// anything is new.
func (s *scan) update(f *file, dirfd int, name string, st *unix.Stat_t, at File) bool {
	if s.refused != "" {
		return f.fail(at, s.refused)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFCHR && unix.Major(uint64(st.Rdev)) == 1 && unix.Minor(uint64(st.Rdev)) == 3 {
		old := f.mask
		*f = file{mask: true, stamp: stampOf(st)}
		return !old
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return f.fail(at, "not a regular file: neither read nor followed")
	}
	if f.current(st, s.over, s.guard.writtenPaths) {
		return false
	}
	f.places = s.guard.writtenPaths
	data, stamp, err := readFile(dirfd, name, func(st *unix.Stat_t) string { return s.trust.fault(st, at.Path) })
	switch {
	case errors.Is(err, errWriter):
		return f.wait(at, at.Path, s.now)
	case err != nil:
		f.stamp = stamp
		return f.fail(at, err.Error())
	}
	f.stamp, f.racy = stamp, stamp.racy(s.now)
	sum := sha256.Sum256(data)
	if f.out != nil && f.out.Err == nil && f.out.Waiting.IsZero() && f.sum == sum && f.sameOver(s.over) {
		return false
	}
	f.sum, f.mask, f.over = sum, false, s.over
	if at.DropIn {
		at.Fragment = spec.ParseFragment(at.Path, data)
	} else if unread := s.parse(&at, data); unread != nil {
		return f.wait(at, unread.Path, unread.Waiting)
	} else {
		f.held = f.held || slices.ContainsFunc(at.Documents, func(d spec.Document) bool { return !d.Foreign })
		at.Foreign = !f.held && len(at.Documents) > 0
	}
	f.out, f.parsed, f.judged, f.verdict = &at, nil, 0, ""
	if slices.ContainsFunc(at.Documents, func(d spec.Document) bool { return len(d.Writable) > 0 }) {
		f.parsed = at.Documents
		s.guard.checkFile(f, nil)
	}
	return true
}

// parse reads the documents of a manifest. It returns a drop-in for one of them
// that was never read, if there is one: the manifest without it would be
// something that nobody asked for.
func (s *scan) parse(at *File, data []byte) (unread *File) {
	at.Documents = s.parser.ParseWith(at.Path, data, func(name string) []*spec.Fragment {
		l := s.over.of(name, at.Rel)
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

// current tells whether what was read is what is there.
func (f *file) current(st *unix.Stat_t, over *overlay, places *writtenPaths) bool {
	if f.out == nil || f.racy || f.places != places || f.stamp != stampOf(st) {
		return false
	}
	if !f.out.Waiting.IsZero() {
		return f.out.Writer != f.out.Path && f.over == over // waits for a drop-in, of which nothing is new
	}
	return f.sameOver(over)
}

// sameOver tells whether the drop-ins for the documents are those that were
// merged into them.
func (f *file) sameOver(over *overlay) bool {
	if f.over == over || f.out.DropIn {
		return true
	}
	for i := range f.out.Documents {
		name := f.out.Documents[i].Name
		if name != "" && !f.over.of(name, f.out.Rel).same(over.of(name, f.out.Rel)) {
			return false
		}
	}
	f.over = over
	return true
}

// fail makes f a file that can't be read as a whole.
func (f *file) fail(at File, message string) bool {
	if f.out != nil && f.out.Err != nil && f.out.Err.Message == message && f.out.Waiting.IsZero() {
		return false
	}
	at.Err = &spec.Error{File: at.Path, Message: message}
	if at.DropIn {
		at.Fragment = spec.BrokenFragment(at.Err)
	}
	f.out, f.mask, f.sum, f.parsed = &at, false, [sha256.Size]byte{}, nil
	f.racy = true // an error says nothing about the content: look again next time
	return true
}

// wait keeps what the file held before, until a writer has closed it or a
// drop-in for it.
func (f *file) wait(at File, writer string, since time.Time) bool {
	if f.out != nil && !f.out.Waiting.IsZero() && f.out.Writer == writer {
		return false
	}
	at.Waiting, at.Writer = since, writer
	at.Documents, at.Err = nil, nil
	if f.out != nil {
		at.Documents, at.Fragment, at.Err = f.out.Documents, f.out.Fragment, f.out.Err
	}
	f.out, f.mask = &at, false
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
	leased, err := lease(fd)
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
		return nil, stampOf(&st), tooLarge()
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
	return nil, stampOf(&st), tooLarge()
}

func tooLarge() error {
	return fmt.Errorf("larger than %d KiB; split it into several files", spec.MaxFileSize>>10)
}

// lease asks for a read lease, which the kernel refuses with EAGAIN while
// anybody has the file open for writing. Where leases can't be had (another
// owner's file without CAP_LEASE, a file system without them) the file is just
// read: better a reading too early, healed by the next event, than none.
func lease(fd int) (bool, error) {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		return true, nil
	}
	if err == unix.EAGAIN && !remote(fd) {
		return false, errWriter
	}
	return false, nil
}
