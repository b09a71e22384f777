package image

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"stead/runtime/roottest"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a file system of 24 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	at := roottest.TempDir(t, "/var/tmp")
	disk := filepath.Join(roottest.TempDir(t, "/var/tmp"), "disk")
	shell(t, `truncate -s 24M "$1" && mkfs.ext4 -q -F -m 0 "$1" && mount -o loop "$1" "$2"`, disk, at)
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return at
}

// fill takes all space of a file system.
func fill(t *testing.T, dir string) {
	t.Helper()
	for _, size := range []int{1 << 20, 4096, 1} {
		f, err := os.OpenFile(filepath.Join(dir, "ballast"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		f.Close()
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
}

// An import that fills the disk gives all space back, says what to do, and leaves the image that
// was there. Images can be deleted with no byte free.
func TestFullDisk(t *testing.T) {
	roottest.Need(t)
	at := smallDisk(t)
	s := Open(filepath.Join(at, "images"))
	dir := filepath.Join(roottest.TempDir(t, "/var/tmp"), "root")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name string, size int) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat("data", size/4)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	free := func() uint64 {
		var st unix.Statfs_t
		if err := unix.Statfs(at, &st); err != nil {
			t.Fatal(err)
		}
		return st.Bfree * uint64(st.Bsize)
	}
	write("small", 1<<20)
	for _, name := range []string{"a", "b"} {
		write(name, 4096)
		if _, err := s.Import(t.Context(), name, dir, nil, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	before := free()
	write("large", 40<<20)
	_, err := s.Import(t.Context(), "large", dir, nil, Options{})
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "make space, for example with stead image prune") {
		t.Errorf("import: %v", err)
	}
	if now := free(); now+64<<10 < before {
		t.Errorf("%d bytes were free, now %d", before, now)
	}
	fill(t, at)
	if err := s.Remove(t.Context(), "a", nil); err != nil {
		t.Errorf("remove on a full disk: %v", err)
	}
	if now := free(); now < 1<<20 {
		t.Errorf("%d bytes are free", now)
	}
	fill(t, at)
	if _, err := s.Prune(t.Context(), nil); err != nil {
		t.Errorf("prune on a full disk: %v", err)
	}
	if left := s.contents(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
