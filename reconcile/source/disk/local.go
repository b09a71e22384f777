package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"stead/runtime/files"
	"stead/runtime/hostpath"

	"golang.org/x/sys/unix"
)

// ErrWriting is the error for a file that another process has open for writing.
var ErrWriting = errors.New("a process has the file open for writing")

// entries returns what is in an open directory.
func entries(fd int, path string, progress func(path string)) (all []Entry, err error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	d := os.NewFile(uintptr(dup), "")
	defer d.Close()
	for {
		found, err := d.ReadDir(1024)
		for _, e := range found {
			all = append(all, Entry{e.Name(), e.Type()})
		}
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, errors.Unwrap(err)
		}
		progress(path)
	}
}

// readFile reads a file that no process is writing. It holds a lease while it reads, so
// that the result is what one writer left: a process that opens the file for writing
// meanwhile waits for some microseconds (man 2 fcntl, "Leases"). The file is opened
// nonblocking, since the name may belong to a FIFO by now.
//
// refuse returns why the owner or the mode of the file forbids reading it, or "". With an error
// the attributes are those that were found, or zero.
func readFile(dirfd int, name string, max int64, refuse func(*unix.Stat_t) string) (data []byte, st unix.Stat_t, err error) {
	var fd int
	err = retryEINTR(func() (err error) {
		fd, err = unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		return err
	})
	if err != nil {
		return nil, st, fmt.Errorf("can't be opened: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	leased, err := takeLease(fd)
	if err != nil {
		return nil, st, err
	}
	if leased {
		defer func() { _, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK) }()
	}
	var found unix.Stat_t
	if err := unix.Fstat(fd, &found); err != nil {
		return nil, st, fmt.Errorf("can't be read: %w", err)
	}
	if found.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, st, errors.New("not a regular file: neither read nor followed")
	}
	if why := refuse(&found); why != "" {
		return nil, found, errors.New(why)
	}
	if found.Size > max {
		return nil, found, tooLarge(max)
	}
	data = make([]byte, 0, found.Size+1) // one byte more, so that the end is found without growing
	for int64(len(data)) <= max {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		n, err := f.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if err == io.EOF {
			return data, found, nil
		}
		if err != nil {
			return nil, st, fmt.Errorf("can't be read: %w", errors.Unwrap(err))
		}
	}
	return nil, found, tooLarge(max)
}

func tooLarge(max int64) error {
	return fmt.Errorf("larger than %d KiB; split it into several files", max>>10)
}

// takeLease takes a read lease and reports whether it got one. The kernel refuses a lease
// with EAGAIN while a process has the file open for writing. Where leases are not
// available (a file of another owner without CAP_LEASE, some file systems) the file is read
// without one: the next event corrects a reading that was too early.
func takeLease(fd int) (bool, error) {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		return true, nil
	}
	if err == unix.EAGAIN && files.IsLocal(fd) {
		return false, ErrWriting
	}
	return false, nil
}

// maxSeen is more than a source of files may hold.
const maxSeen = 5000

// look is Disk.Look. It calls progress for each path.
func look(path string, progress func(path string)) (l Look) {
	l.Real, l.Links = hostpath.Resolve(path)
	var st unix.Stat_t
	progress(path)
	if unix.Stat(path, &st) != nil {
		return l
	}
	l.Seen = append(l.Seen, Seen{path, st})
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return l
	}
	var walk func(dir string)
	walk = func(dir string) {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			name := filepath.Join(dir, e.Name())
			progress(name)
			if len(l.Seen) > maxSeen || unix.Lstat(name, &st) != nil {
				return // reading it fails too
			}
			l.Seen = append(l.Seen, Seen{name, st})
			if e.IsDir() {
				walk(name)
			}
		}
	}
	walk(l.Real) // by which the directories are watched
	return l
}

// Step is a directory on the way to a path, and the name that is looked up in it.
type Step struct {
	Dir, Name string
	Last      bool         // nothing follows the name, unless it is a link
	Stat      unix.Stat_t  // of Dir
	Entry     *unix.Stat_t // of the name, without following a link; nil if it is missing
	Missing   bool         // Dir has no attributes that can be read
}

// Steps returns the steps of a path, with links followed as the kernel does. They end where a name is missing.
func Steps(path string) (all []Step) {
	at := "/"
	rest := pathParts(path)
	for links := 0; len(rest) > 0 && links <= 40; { // as many as the kernel follows
		name := rest[0]
		if name == ".." { // of where a link before it led, not of that link
			at, rest = filepath.Dir(at), rest[1:]
			continue
		}
		next := filepath.Join(at, name)
		s := Step{Dir: at, Name: name, Last: len(rest) == 1}
		s.Missing = unix.Stat(at, &s.Stat) != nil
		entry := new(unix.Stat_t)
		if unix.Lstat(next, entry) == nil {
			s.Entry = entry
		}
		all = append(all, s)
		if s.Entry == nil {
			return all
		}
		target, err := os.Readlink(next)
		if err != nil {
			at, rest = next, rest[1:]
			continue
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		links++
		rest = append(pathParts(target), rest[1:]...)
	}
	return all
}

// pathParts returns the parts of a path.
func pathParts(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(name string) bool { return name == "" || name == "." })
}

// retryEINTR repeats a call that a signal interrupted (man 7 signal).
func retryEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
