// Package sealed copies this program into a memfd that nobody can change: a process that
// runs from it is not affected when the file on disk is replaced, and who finds its
// /proc/PID/exe can't change a file of the host.
package sealed

import (
	"io"
	"os"

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
		const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
