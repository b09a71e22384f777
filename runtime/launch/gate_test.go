package launch

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A container's root that takes the gate from a process that is on its way in must
// not have the keeper believe that some other process of the host is the exec's:
// it would be killed with it.
func TestHearPid(t *testing.T) {
	for _, tt := range []struct {
		summary string
		child   int
		asked   bool
		want    error
	}{
		{"the child says so", os.Getpid(), true, nil},
		{"another does", os.Getpid() + 1, true, unix.EPROTO},
		{"nobody knows who does", os.Getpid(), false, unix.EPROTO},
	} {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if tt.asked {
			err = unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
		}
		said := binary.NativeEndian.AppendUint32([]byte{'b', 0, 0, 0}, 4711)
		if err = errors.Join(err, unix.Sendto(pair[1], said, unix.MSG_NOSIGNAL, nil)); err != nil {
			t.Fatal(err)
		}
		pid, err := (&gateEnd{gate: pair[0]}).expectPid(tt.child)
		if !errors.Is(err, tt.want) || err == nil && pid != 4711 {
			t.Errorf("%s: pid %d, %v; want %v", tt.summary, pid, err, tt.want)
		}
		closeAll(pair[:])
	}
}
