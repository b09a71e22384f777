package keeper

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"stead/runtime/roottest"

	"golang.org/x/sys/unix"
)

// A root that was unmounted is not mounted again before the disk has its data: until then its
// files are in use, though no process has them open.
func TestMountWaitsForTheLastClose(t *testing.T) {
	roottest.Need(t)
	dir := roottest.TempDir(t, "/var/tmp") + "/root"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	f := os.NewFile(uintptr(fds[0]), "socket")
	socket, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	s := &server{}
	s.unmounting.Lock() // as while the disk writes what another root has changed
	if err := s.unmountRoot(conn{socket.(*net.UnixConn)}, &request{Op: "unmount-root", Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if err := s.closings.wait(dir, 50*time.Millisecond); err == nil || !strings.Contains(err.Error(), "the disk of "+dir+" has been writing") {
		t.Errorf("while it is closed: %v", err)
	}
	if err := s.closings.wait(dir+"2", 0); err != nil {
		t.Errorf("another root: %v", err)
	}
	s.unmounting.Unlock()
	if err := s.closings.wait(dir, roottest.Patience); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
