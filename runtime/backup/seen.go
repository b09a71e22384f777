package backup

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// seen is what a file looked like when it was copied. A file that looks different has changed.
type seen struct {
	path string
	Seen
}

// Seen are the fields of seen that do not move. A change of content or attributes changes Ctime.
type Seen struct {
	Dev, Ino, Rdev uint64
	Mode, UID, GID uint32
	Size           int64
	Ctime, Mtime   int64 // nanoseconds
	// Young is set for a file that changed so shortly before that a later change may have the same
	// time. Such a file counts as changed.
	Young bool
}

// youth is the time in which two changes may get the same ctime: kernels before 6.13 count in
// ticks of up to 10 ms.
const youth = 10 * time.Millisecond

func see(path string, st *unix.Stat_t) seen {
	s := seen{path, Seen{
		Dev: st.Dev, Ino: st.Ino, Rdev: st.Rdev, Mode: st.Mode, UID: st.Uid, GID: st.Gid, Size: st.Size,
		Ctime: st.Ctim.Nano(), Mtime: st.Mtim.Nano(),
	}}
	if s.Mode&unix.S_IFMT == unix.S_IFDIR {
		s.Size = 0 // of the list of its files
	}
	if time.Now().UnixNano()-s.Ctime < int64(youth) { // the clock may have been set back, too
		s.Young = true
	}
	return s
}

// same reports whether a file still looks like this.
func (s *seen) same(st *unix.Stat_t) bool {
	now := see(s.path, st)
	now.Young = false
	return !s.Young && now.Seen == s.Seen
}

func (s *seen) isDir() bool { return s.Mode&unix.S_IFMT == unix.S_IFDIR }

// catalog is the list of all files that were copied of a tree, in a file without a name: a
// tree may have more files than memory.
type catalog struct {
	file *os.File
	w    *bufio.Writer
}

func newCatalog(dir string) (*catalog, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil { // this file system can't
		f, err := os.CreateTemp(dir, ".catalog-")
		if err != nil {
			return nil, fmt.Errorf("make catalog: %w", err)
		}
		os.Remove(f.Name())
		return &catalog{f, bufio.NewWriterSize(f, 256<<10)}, nil
	}
	f := os.NewFile(uintptr(fd), "catalog")
	return &catalog{f, bufio.NewWriterSize(f, 256<<10)}, nil
}

func (c *catalog) close() { c.file.Close() }

func (c *catalog) add(s *seen) error {
	b := make([]byte, 0, 128)
	b = binary.AppendUvarint(b, uint64(len(s.path)))
	b = append(b, s.path...)
	b, err := binary.Append(b, binary.NativeEndian, &s.Seen)
	if err == nil {
		_, err = c.w.Write(b)
	}
	return err
}

// read returns a function that returns one file after the other, in their order, and nil after the
// last.
func (c *catalog) read() (func() (*seen, error), error) {
	if err := c.w.Flush(); err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(io.NewSectionReader(c.file, 0, 1<<62), 256<<10)
	fixed := make([]byte, binary.Size(&Seen{}))
	return func() (*seen, error) {
		n, err := binary.ReadUvarint(r)
		if err == io.EOF {
			return nil, nil
		}
		s := &seen{}
		path := make([]byte, n)
		if err == nil {
			_, err = io.ReadFull(r, path)
		}
		if err == nil {
			_, err = io.ReadFull(r, fixed)
		}
		if err == nil {
			_, err = binary.Decode(fixed, binary.NativeEndian, &s.Seen)
		}
		s.path = string(path)
		return s, err
	}, nil
}
