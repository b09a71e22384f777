package keeper

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// `stead exec web CMD </run/some.fifo` leaves the FIFO to whom it belongs to.
func TestGiveAway(t *testing.T) {
	mode := func(fd int) uint32 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			t.Fatal(err)
		}
		return st.Mode & 0o777
	}
	name := t.TempDir() + "/fifo"
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	fifo, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer fifo.Close()
	giveToContainer(int(fifo.Fd()), 0)
	if m := mode(int(fifo.Fd())); m != 0o600 {
		t.Errorf("a FIFO with a name has mode %04o now, want 0600", m)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	giveToContainer(int(w.Fd()), 0)
	if m := mode(int(w.Fd())); m != 0o622 {
		t.Errorf("a pipe has mode %04o, want 0622", m)
	}
}
