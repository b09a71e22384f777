package rootfs

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stead/runtime/roottest"
	"stead/runtime/xattr"

	"golang.org/x/sys/unix"
)

// describe lists all that is on disk below a directory.
func describe(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		if err != nil || d.Type()&fs.ModeSocket != 0 {
			return err
		}
		text := ""
		switch {
		case d.Type().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text = fmt.Sprintf("%d %.10q", len(b), b)
		case d.Type()&fs.ModeSymlink != 0:
			text, _ = os.Readlink(path)
		}
		attributes, err := xattr.List(path, unix.Llistxattr, unix.Lgetxattr)
		name, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&out, "%s %o %d:%d names %d device %d time %d.%d sparse %v %s %q\n", name, st.Mode, st.Uid, st.Gid, map[bool]uint64{true: 1, false: uint64(st.Nlink)}[d.IsDir()],
			st.Rdev, st.Mtim.Sec, st.Mtim.Nsec, st.Blocks*512 < st.Size, text, attributes)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// A clone is the same on disk, with the marks of overlay, and shares no file with its original.
func TestClone(t *testing.T) {
	roottest.Need(t)
	base := roottest.TempDir(t, "/var/tmp") // of the disk, where attributes can be had
	from, to := base+"/from", base+"/to"
	for _, err := range []error{
		os.MkdirAll(from+"/dir/empty", 0o750), os.Chmod(from, 0o711), os.Chown(from+"/dir", 1000, 33),
		os.WriteFile(from+"/dir/file", []byte("content"), 0o640), os.Link(from+"/dir/file", from+"/also"), os.Symlink("/outside", from+"/link"),
		os.Link(from+"/link", from+"/dir/link"),
		os.WriteFile(from+"/program", []byte("x"), 0o755), os.Chmod(from+"/program", 0o755|fs.ModeSetuid),
		unix.Setxattr(from+"/program", "security.capability", []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0),
		unix.Setxattr(from+"/dir", "trusted.overlay.opaque", []byte("y"), 0), unix.Mknod(from+"/gone", unix.S_IFCHR, 0),
		unix.Mkfifo(from+"/fifo", 0o622), unix.Mknod(from+"/socket", unix.S_IFSOCK|0o600, 0),
		os.WriteFile(from+"/holes", nil, 0o600), os.Truncate(from+"/holes", 16<<20), os.Mkdir(to, 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	holes, err := os.OpenFile(from+"/holes", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer holes.Close()
	if _, err := holes.WriteAt([]byte("in the middle"), 8<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(from + "/gone"); err != nil { // and again: the time of the directory
		t.Fatal(err)
	}
	if err := unix.Mknod(from+"/gone", unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	want := describe(t, from)
	if err := Clone(t.Context(), from, to); err != nil {
		t.Fatal(err)
	}
	if got := describe(t, to); got != want {
		t.Errorf("the clone:\n%s\nwant\n%s", got, want)
	}
	if err := os.WriteFile(to+"/dir/file", []byte("changed"), 0); err != nil {
		t.Fatal(err)
	}
	if got := describe(t, from); got != want {
		t.Errorf("the original has changed:\n%s", got)
	}
	if _, err := os.Lstat(to + "/socket"); err == nil {
		t.Error("a socket was copied")
	}
}

// What containers left in a directory can't make a copy of its content endless, and the marks of
// overlay do not come with it.
func TestCloneContent(t *testing.T) {
	roottest.Need(t)
	base := roottest.TempDir(t, "/dev/shm") // where files may be as large as that
	from, to := base+"/from", base+"/to"
	for _, err := range []error{
		os.MkdirAll(from, 0o755), os.Mkdir(to, 0o755), os.WriteFile(from+"/huge", nil, 0o600), os.Truncate(from+"/huge", 1<<62),
		unix.Setxattr(from, "trusted.overlay.opaque", []byte("y"), 0), unix.Setxattr(from, "trusted.x", []byte("y"), 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), roottest.Patience)
	defer cancel()
	if err := CloneContent(ctx, from, to); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(to + "/huge"); err != nil || info.Size() != 1<<62 {
		t.Errorf("got %v, %v", info, err)
	}
	if all, err := xattr.List(to, unix.Llistxattr, unix.Lgetxattr); err != nil || len(all) > 0 {
		t.Errorf("its attributes are %q, %v", all, err)
	}
}
