package runtime

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A container whose root is the host's has the host's /dev/null open: it must not
// be able to take it from everybody else.
func TestHostNull(t *testing.T) {
	w := newWorld(t)
	mode := func() uint32 {
		var st unix.Stat_t
		if err := unix.Stat("/dev/null", &st); err != nil {
			t.Fatal(err)
		}
		return st.Mode & 0o7777
	}
	before := mode()
	defer unix.Chmod("/dev/null", before)
	const try = `for f in /proc/self/fd/0 /proc/interrupts /proc/timer_list; do chmod +t $f 2>/dev/null && echo ESCAPED $f; done; readlink /proc/self/fd/0; cat; echo x >/dev/null; echo done`
	w.create("web", script(try+"; exec sleep 60")+"\nsecurity: {userns: host}")
	w.awaitOutput("web", "done")
	if out := w.output("web"); strings.Contains(out, "ESCAPED") || !strings.Contains(out, "/dev/null\n") {
		t.Errorf("%s", out)
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	x, err := w.Exec(ctx, "web", ExecOptions{Argv: []string{"sh", "-c", try + "; echo y >&2"}}, null, out, null)
	out.Close()
	if err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 4096)
	n, _ := r.Read(said)
	if code, err := x.Wait(); code != 0 || err != nil {
		t.Errorf("exec: code %d, %v", code, err)
	}
	if strings.Contains(string(said[:n]), "ESCAPED") {
		t.Errorf("exec: %s", said[:n])
	}
	if after := mode(); after != before {
		t.Errorf("the host's /dev/null has mode %04o now, had %04o", after, before)
	}
}
