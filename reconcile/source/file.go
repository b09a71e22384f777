package source

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"stead/spec"
)

// file is what is remembered of one file between readings.
type file struct {
	stamp stamp
	racy  bool // the stamp may be that of a later write too
	sum   [sha256.Size]byte
	out   *File // never nil once read
	mask  bool  // a link to /dev/null: it masks the file of an earlier directory
}

var errWriter = errors.New("somebody has it open for writing")

// update makes f what the file at dirfd/name is now. It returns whether
// anything is new.
func (f *file) update(p Parser, dirfd int, name string, st *unix.Stat_t, at File, now time.Time) bool {
	if st.Mode&unix.S_IFMT == unix.S_IFCHR && unix.Major(uint64(st.Rdev)) == 1 && unix.Minor(uint64(st.Rdev)) == 3 {
		old := f.mask
		*f = file{mask: true, stamp: stampOf(st)}
		return !old
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return f.fail(at, "not a regular file: neither read nor followed")
	}
	if f.current(st) {
		return false
	}
	data, stamp, err := readFile(dirfd, name)
	switch {
	case errors.Is(err, errWriter):
		return f.wait(at, now)
	case err != nil:
		f.stamp = stamp
		return f.fail(at, err.Error())
	}
	f.stamp, f.racy = stamp, stamp.racy(now)
	sum := sha256.Sum256(data)
	if f.out != nil && f.out.Err == nil && f.out.Waiting.IsZero() && f.sum == sum {
		return false
	}
	f.sum, f.mask = sum, false
	at.Documents = p.Parse(at.Path, data)
	if len(at.Documents) == 0 {
		at.Err = &spec.Error{File: at.Path, Message: "no manifest in it; delete the file to remove its containers"}
	}
	f.out = &at
	return true
}

// current tells whether what was read is what is there.
func (f *file) current(st *unix.Stat_t) bool {
	return f.out != nil && f.out.Waiting.IsZero() && !f.racy && f.stamp == stampOf(st)
}

// fail makes f a file that can't be read as a whole.
func (f *file) fail(at File, message string) bool {
	if f.out != nil && f.out.Err != nil && f.out.Err.Message == message && f.out.Waiting.IsZero() {
		return false
	}
	at.Err = &spec.Error{File: at.Path, Message: message}
	f.out, f.mask, f.sum = &at, false, [sha256.Size]byte{}
	f.racy = true // an error says nothing about the content: look again next time
	return true
}

// wait keeps what the file held before, until its writer has closed it.
func (f *file) wait(at File, now time.Time) bool {
	if f.out != nil && !f.out.Waiting.IsZero() {
		return false
	}
	at.Waiting = now
	if f.out != nil {
		at.Documents, at.Err = f.out.Documents, f.out.Err
	}
	f.out, f.mask = &at, false
	return true
}

// readFile reads a file that nobody is writing. The lease is held while it is
// read, so that what is returned is what one writer left; whoever opens the
// file for writing in that moment waits for some microseconds (man 2 fcntl,
// "Leases"). Nonblocking, since the name may be a FIFO by now.
func readFile(dirfd int, name string) ([]byte, stamp, error) {
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

// remote tells file systems whose EAGAIN only means that the server granted no
// delegation (fs/nfs/nfs4proc.c, fs/smb/client/cifsfs.c).
func remote(fd int) bool {
	const cifs, smb2 = 0xFF534D42, 0xFE534D42
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return false
	}
	switch uint32(st.Type) {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, cifs, smb2:
		return true
	}
	return false
}
