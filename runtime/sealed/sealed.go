// Package sealed copies this program into a memfd that nobody can change: a process that
// runs from it is not affected when the file on disk is replaced, and who finds its
// /proc/PID/exe can't change a file of the host.
package sealed

import (
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Self returns a sealed copy of this program under a name.
func Self(name string) (*os.File, error) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	defer self.Close()
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err = io.Copy(f, self); err == nil {
		err = seal(f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// seal makes a memfd immutable. The kernel refuses with EBUSY while something still holds a page
// of it for a moment, as a busy machine does (memfd_wait_for_pins in mm/memfd.c): no event tells
// when it lets go.
func seal(f *os.File) error {
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	for end := time.Now().Add(sealTimeout); ; time.Sleep(20 * time.Millisecond) {
		_, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals)
		if err == nil || err != unix.EBUSY || time.Now().After(end) {
			return os.NewSyscallError("seal copy of the program", err)
		}
	}
}

const sealTimeout = 10 * time.Second
