// Package filecopy copies files into and out of a root directory as a tar stream: pack writes the
// stream of a file or directory, unpack puts a stream in place. It knows nothing of containers.
//
// A container may change its files meanwhile, and its stream may hold anything. Every path is
// resolved by the kernel inside the root (openat2 with RESOLVE_IN_ROOT), and what was opened is
// used; links in a tree are copied and never followed. The work for a container runs in a child
// process (Jobs) that has nothing but the root: it is chrooted there, has the container's ids, and
// loads nothing from it.
package filecopy

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Note says what was not copied as it is.
type Note struct {
	Path string `json:"path"`
	Text string `json:"text"`
}

func (n Note) String() string { return n.Path + ": " + n.Text }

// maxNotes bounds the notes of one copy.
const maxNotes = 1000

// notes collects notes.
type notes []Note

func (n *notes) add(path, text string) {
	if len(*n) < maxNotes {
		*n = append(*n, Note{path, text})
	}
}

// Covered is a directory or file of a root over which something is mounted while the container
// runs.
type Covered struct {
	Target string `json:"target"`
	By     string `json:"by"` // "volume data"
}

// root is a root directory.
type root struct {
	fd      int
	covered map[inode]Covered
	missing map[missing]Covered // what is not there yet, and is made by the start that mounts
}

// missing is the first part of a path that is not there.
type missing struct {
	dir  inode // the directory that it will be in
	name string
}

type inode struct{ dev, ino uint64 }

func inodeOf(st *unix.Stat_t) inode { return inode{st.Dev, st.Ino} }

// newRoot returns the root that fd is open on. Nothing at or below what is covered is copied.
func newRoot(fd int, covered []Covered) *root {
	r := &root{fd: fd, covered: map[inode]Covered{}, missing: map[missing]Covered{}}
	for _, c := range covered {
		name, absent := c.Target, ""
		for {
			st, err := r.stat(name)
			if err == nil && absent == "" {
				r.covered[inodeOf(&st)] = c
			} else if err == nil {
				r.missing[missing{inodeOf(&st), absent}] = c
			}
			if err != unix.ENOENT || name == "/" {
				break
			}
			name, absent = path.Dir(name), path.Base(name)
		}
	}
	return r
}

func (r *root) stat(name string) (st unix.Stat_t, err error) {
	at, err := r.open(name, unix.O_PATH)
	if err != nil {
		return st, err
	}
	defer unix.Close(at)
	return st, unix.Fstat(at, &st)
}

// checkEntry returns an error if an entry of a directory is covered, or will be.
func (r *root) checkEntry(dir int, base, name string) error {
	if len(r.covered)+len(r.missing) == 0 {
		return nil
	}
	var st unix.Stat_t
	if unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		if c, ok := r.covered[inodeOf(&st)]; ok {
			return &CoveredError{name, c}
		}
	}
	if err := unix.Fstat(dir, &st); err != nil {
		return err
	}
	if c, ok := r.missing[missing{inodeOf(&st), base}]; ok {
		return &CoveredError{name, c}
	}
	return nil
}

// open opens a path as the container sees it, following its links inside the root.
func (r *root) open(name string, flags int) (int, error) {
	if name = strings.TrimLeft(name, "/"); name == "" {
		name = "."
	}
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	return openat2(r.fd, name, &how)
}

// openat2 tries again if something was renamed meanwhile; a container may do so all the time.
func openat2(dir int, name string, how *unix.OpenHow) (fd int, err error) {
	for tries := 0; tries < 1000; tries++ {
		if fd, err = unix.Openat2(dir, name, how); err != unix.EAGAIN && err != unix.EINTR {
			break
		}
	}
	return fd, err
}

// uncovered returns an error if a directory, or one above it, is covered.
func (r *root) uncovered(dir int, name string) error {
	if len(r.covered) == 0 {
		return nil
	}
	var top, st unix.Stat_t
	if err := unix.Fstat(r.fd, &top); err != nil {
		return err
	}
	at, err := unix.FcntlInt(uintptr(dir), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { unix.Close(at) }()
	for {
		if err := unix.Fstat(at, &st); err != nil {
			return err
		}
		if c, ok := r.covered[inodeOf(&st)]; ok {
			return &CoveredError{name, c}
		}
		if inodeOf(&st) == inodeOf(&top) {
			return nil
		}
		above, err := unix.Openat(at, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		unix.Close(at)
		at = above
	}
}

// CoveredError is returned for a path that something is mounted over while the container runs.
type CoveredError struct {
	Path string
	Covered
}

func (e *CoveredError) Error() string {
	return fmt.Sprintf("%s lies in %s, where %s is mounted while the container runs; start it first", e.Path, e.Target, e.By)
}

// isKernels reports whether a file system shows what the kernel makes up: its files have no size,
// and reading or writing them acts.
func isKernels(fd int) bool {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return false
	}
	switch fs.Type {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC:
		return true
	}
	return false
}

var errKernels = errors.New("the kernel makes these files up; use stead exec with cat")

// kindOf names what can't be copied; "" for files, directories and links.
func kindOf(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	}
	return ""
}

// Name returns the name of a path in a stream: its last part, or "." if what is in it is meant,
// because it ends with /. or .. or is the root.
func Name(name string) string {
	if last := path.Base(name); last == "." || last == ".." || strings.HasSuffix(name, "/.") || path.Clean("/"+name) == "/" {
		return "."
	}
	return path.Base(path.Clean(name))
}

// explain says what an errno means for a file.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EROFS):
		return errors.New("it is read-only there")
	case errors.Is(err, unix.ELOOP):
		return errors.New("a link there is not followed: it is one of the kernel's, or there are too many")
	case errors.Is(err, unix.EBUSY):
		return errors.New("something is mounted there; copy to the source of that mount")
	}
	return err
}
