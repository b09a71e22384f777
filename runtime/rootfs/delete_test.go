package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// A container nests directories deeper than a process can have open: its root is
// deleted all the same, and what a link leads to stays.
func TestDelete(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := unix.Rlimit{Cur: 200, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	outside := t.TempDir()
	os.WriteFile(outside+"/precious", nil, 0o600)
	dir := filepath.Join(t.TempDir(), "web")
	for _, d := range []string{"many", ".deep-1/full", "side/way"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3000 {
		os.WriteFile(filepath.Join(dir, "many", strconv.Itoa(i)), nil, 0o600)
	}
	os.Symlink(outside, dir+"/side/link")
	nest(t, dir, 1000)
	nest(t, dir+"/side/way", 300)
	if err := Delete(t.Context(), dir); err != nil {
		t.Fatalf("%.200v", err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
	if _, err := os.Lstat(outside + "/precious"); err != nil {
		t.Errorf("behind a link: %v", err)
	}
}

// nest makes directories in each other.
func nest(t *testing.T, dir string, n int) {
	at, err := unix.Open(dir, unix.O_DIRECTORY, 0)
	for ; n > 0 && err == nil; n-- {
		below := -1
		if err = unix.Mkdirat(at, "d", 0o700); err == nil {
			below, err = unix.Openat(at, "d", unix.O_DIRECTORY, 0)
		}
		unix.Close(at)
		at = below
	}
	unix.Close(at)
	if err != nil {
		t.Fatal(err)
	}
}

// What can't be deleted keeps nothing else, and the end of the daemon is not
// waited for.
func TestDeleteFails(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(dir+"/file", nil, 0o600)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Delete(over, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("at the end: %v", err)
	}
	if _, err := os.Lstat(dir + "/file"); err != nil {
		t.Error(err)
	}
	if err := Delete(t.Context(), dir+"/nonsuch"); err != nil {
		t.Errorf("what is not there: %v", err)
	}
	os.Symlink(dir, dir+"/link")
	if err := Delete(t.Context(), dir+"/link"); err == nil {
		t.Error("a link in its place was followed")
	}
}

// A purge and the start of another stead may delete the same tree.
func TestDeleteTwice(t *testing.T) {
	for range 10 {
		dir := t.TempDir() + "/doomed"
		for i := range 40 {
			if err := os.MkdirAll(fmt.Sprintf("%s/%d/sub/deep", dir, i), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		done := make(chan error)
		for range 3 {
			go func() { done <- Delete(t.Context(), dir) }()
		}
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if _, err := os.Lstat(dir); err == nil {
			t.Error("it is left")
		}
	}
}
