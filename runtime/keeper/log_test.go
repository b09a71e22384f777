package keeper

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The log of a keeper that has something to say again and again, or is started again and again,
// stays small, and the last messages are in it.
func TestLogIsBounded(t *testing.T) {
	const max = 4096
	run := t.TempDir()
	sizes := func() (all int64) {
		files, err := os.ReadDir(run)
		if err != nil || len(files) > 2 {
			t.Fatal(files, err)
		}
		for _, f := range files {
			info, err := f.Info()
			if err != nil {
				t.Fatal(err)
			}
			all += info.Size()
		}
		return all
	}
	for start := range 20 { // it appends to what an earlier one left
		f, err := openLog(run, max)
		if err != nil {
			t.Fatal(err)
		}
		out, err := unix.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		l := &ownLog{run: run, out: []int{int(f.Fd()), out}, max: max}
		for i := range 100 {
			if _, err := fmt.Fprintf(l, "start %d message %d\n", start, i); err != nil {
				t.Fatal(err)
			}
			if n := sizes(); n > 2*max+200 {
				t.Fatalf("%d bytes after start %d, message %d", n, start, i)
			}
		}
		fmt.Fprintf(f, "a crash of %d\n", start) // what Go prints itself
		unix.Close(out)
		f.Close()
		b, err := os.ReadFile(run + "/" + logName)
		if last := fmt.Sprintf("start %d message 99\na crash of %[1]d\n", start); err != nil || !strings.HasSuffix(string(b), last) {
			t.Fatalf("the log ends with %q, %v, want %q", b, err, last)
		}
	}
	// A message of a keeper whose log is a pipe or was deleted is no reason to fail.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := fmt.Fprintln(&ownLog{run: run, out: []int{int(w.Fd())}, max: max}, "on"); err != nil {
		t.Error(err)
	}
}
