package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"stead/runtime/job"
	"stead/runtime/roottest"
	"stead/runtime/xattr"

	"golang.org/x/sys/unix"
)

// makeRoot makes a directory with everything that a root may hold.
func makeRoot(t *testing.T, dir string) {
	t.Helper()
	long := strings.Repeat("long-name", 25)
	script := `set -e; mkdir -p "$1"; cd "$1"; umask 022
		mkdir -p etc usr/bin tmp dev; chmod 1777 tmp; chmod 0751 .; mkdir -m 2750 srv; chown 5:6 srv
		echo root > etc/passwd; ln etc/passwd etc/passwd-; ln -s ../etc/passwd usr/link; ln -s /nowhere dangling
		echo x > usr/bin/su; chown 1000:70000 usr/bin/su; chmod 4755 usr/bin/su; echo ping > usr/bin/ping
		mknod dev/null c 1 3; mknod dev/sda b 8 0; mkfifo -m 640 fifo
		truncate -s 50M sparse; printf end >> sparse
		echo 1 > ` + long + `; printf 'latin' > "$(printf 'caf\351')"
		touch -d @1234567890.123456789 etc/passwd; touch -h -d @1000000000 dangling; touch -d @1100000000 usr`
	if out, err := exec.Command("sh", "-c", script, "sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	for _, x := range []struct{ file, name, value string }{{"usr/bin/ping", "security.capability", capability}, {"srv", "user.note", "a\x00b"}, {"etc/passwd", "user.n", ""}} {
		if err := unix.Setxattr(filepath.Join(dir, x.file), x.name, []byte(x.value), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// tree describes a directory, a line for each file and each extended attribute: everything that
// must be equal in a copy.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var text strings.Builder
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, dir)
		if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 { // its attributes mean nothing
			fmt.Fprintf(&text, "%q whiteout\n", name)
			return nil
		}
		fmt.Fprintf(&text, "%q %06o %d:%d %d links %d.%09d", name, st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtim.Sec, st.Mtim.Nsec)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			var f *os.File
			if f, err = os.Open(path); err != nil {
				return err
			}
			sum := sha256.New()
			_, err = io.Copy(sum, f)
			f.Close()
			fmt.Fprintf(&text, " %d %x", st.Size, sum.Sum(nil))
		case unix.S_IFLNK:
			var to string
			to, err = os.Readlink(path)
			fmt.Fprintf(&text, " %q", to)
		case unix.S_IFCHR, unix.S_IFBLK:
			fmt.Fprintf(&text, " %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		text.WriteByte('\n')
		if err != nil {
			return err
		}
		all, err := xattr.List(path, unix.Llistxattr, unix.Lgetxattr)
		for _, attribute := range slices.Sorted(maps.Keys(all)) {
			if !strings.HasPrefix(attribute, "trusted.") {
				fmt.Fprintf(&text, "%q %s=%q\n", name, attribute, all[attribute])
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// newStore returns an empty store below a state directory of its own.
func newStore(t *testing.T) *Store {
	t.Helper()
	return Open(filepath.Join(roottest.TempDir(t, "/var/tmp"), "images"))
}

// contents lists what is in a store besides records: for comparing before and after.
func (s *Store) contents(t *testing.T) (list []string) {
	t.Helper()
	for _, pattern := range []string{"layers/*", "images/*", "refs/*", "tmp/*"} {
		names, err := filepath.Glob(filepath.Join(s.dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			list = append(list, strings.TrimPrefix(n, s.dir+"/"))
		}
	}
	return list
}

// A directory arrives as it is, the second import of the same content is the same image, and
// deleting it leaves nothing.
func TestImportDirectory(t *testing.T) {
	roottest.Need(t)
	s := newStore(t)
	dir := filepath.Join(roottest.TempDir(t, "/var/tmp"), "root")
	makeRoot(t, dir)
	m, err := s.Import(t.Context(), "debian-12", dir, nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if m.Name != "debian-12" || m.HighestID != 70000 || m.HighestIDPath != "/usr/bin/su" || m.Root != (RootDir{0o751, 0, 0}) || len(m.Layers) != 1 {
		t.Errorf("image: %+v", m)
	}
	layer := s.layerDir(m.Layers[0].Number)
	if want, got := tree(t, dir), tree(t, layer); got != want {
		t.Errorf("the layer differs:\n%s\nfrom\n%s", got, want)
	}
	var st unix.Stat_t
	if err := unix.Stat(layer+"/sparse", &st); err != nil || st.Blocks > 256 {
		t.Errorf("the sparse file takes %d blocks, %v", st.Blocks, err)
	}
	again, err := s.Import(t.Context(), "copy", dir, nil, Options{})
	if err != nil || again.Digest != m.Digest || again.Layers[0] != m.Layers[0] {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	list, err := s.List(nil)
	if err != nil || len(list) != 2 || list[0].Name != "copy" || list[1].Name != "debian-12" {
		t.Errorf("list: %+v, %v", list, err)
	}
	for _, name := range []string{"copy", "debian-12"} {
		if err := s.Remove(t.Context(), name, nil); err != nil {
			t.Error(err)
		}
	}
	if left := s.contents(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if err := s.Remove(t.Context(), "copy", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("remove what is gone: %v", err)
	}
}

// A file that grows, shrinks or is too much fails the import, and nothing is left.
func TestImportFails(t *testing.T) {
	roottest.Need(t)
	dir := filepath.Join(roottest.TempDir(t, "/var/tmp"), "root")
	makeRoot(t, dir)
	for _, c := range []struct {
		summary, name, source string
		options               Options
		want                  string
	}{
		{"a name with a slash", "../x", dir, Options{}, `image name "../x": want`},
		{"nothing there", "x", dir + "/none", Options{}, "no such file"},
		{"too large", "x", dir, Options{MaxBytes: 1 << 20}, "more than 1048576 bytes; to allow more: --max-size"},
		{"too many", "x", dir, Options{MaxEntries: 5}, "more than 5 entries; to allow more: --max-entries"},
		{"no layout", "x", dir + ":12", Options{}, "is no image layout"},
	} {
		t.Run(c.summary, func(t *testing.T) {
			s := newStore(t)
			_, err := s.Import(t.Context(), c.name, c.source, nil, c.options)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if left := s.contents(t); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// What containers and removed containers recorded, and what manifests name, can't be deleted.
func TestUse(t *testing.T) {
	roottest.Need(t)
	s := newStore(t)
	state := filepath.Dir(s.dir)
	var digests []string
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		dir := filepath.Join(t.TempDir(), "root")
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		m, err := s.Import(t.Context(), name, dir, nil, Options{})
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, m.Digest)
	}
	put(t, state+"/containers/web/container.json", map[string]any{"image": map[string]string{"reference": "a", "digest": digests[0]}})
	put(t, state+"/removed/old@20260101T000000Z/container.json", map[string]any{"image": map[string]string{"reference": "b", "digest": digests[1]}})
	put(t, state+"/containers/new/container.json", map[string]any{"manifest": map[string]any{"spec": map[string]any{"rootfs": map[string]string{"image": "c"}}}})
	declared := Declared{"d": {"image d"}}
	list, err := s.List(declared)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"container web", "removed old@20260101T000000Z", "container new", "image d", ""} {
		if got := strings.Join(list[i].UsedBy, " "); got != want {
			t.Errorf("%s is used by %q, want %q", list[i].Name, got, want)
		}
		var used *InUseError
		if err := s.Remove(t.Context(), list[i].Name, declared); want != "" && !errors.As(err, &used) {
			t.Errorf("remove %s: %v, want that it is used", list[i].Name, err)
		}
	}
	if _, err := s.Import(t.Context(), "f", t.TempDir(), nil, Options{}); err != nil {
		t.Fatal(err)
	}
	gone, err := s.Prune(t.Context(), declared)
	if err != nil || len(gone) != 1 || gone[0].Name != "f" {
		t.Errorf("pruned: %+v, %v", gone, err)
	}
	// A directory that can't be listed may be that of a container with any image.
	if err := os.Symlink("unlisted@20260101T000000Z", state+"/removed/unlisted@20260101T000000Z"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prune(t.Context(), declared); err == nil {
		t.Error("pruned though the files of a removed container can't be listed")
	}
	if err := os.Remove(state + "/removed/unlisted@20260101T000000Z"); err != nil {
		t.Fatal(err)
	}
	put(t, state+"/containers/web/container.json", "unreadable")
	if _, err := s.Prune(t.Context(), nil); err == nil {
		t.Error("pruned though facts can't be read")
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		if _, err := s.Lookup(name); err != nil {
			t.Error(err)
		}
	}
}

// A deletion waits for leases and then gives up.
// What is deleted is renamed first: a number can be used again while the files of its last layer
// are being deleted, and a deletion that was interrupted is finished by the next.
func TestNumberIsUsedAgain(t *testing.T) {
	roottest.Need(t)
	s := newStore(t)
	dir := filepath.Join(roottest.TempDir(t, "/var/tmp"), "root")
	makeRoot(t, dir)
	for range 2 {
		m, err := s.Import(t.Context(), "a", dir, nil, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if n := m.Layers[0].Number; n != 1 || !s.isComplete(m) {
			t.Fatalf("layer %d: %v", n, s.contents(t))
		}
		release, err := s.lock(t.Context(), unix.LOCK_EX, 0)
		if err != nil {
			t.Fatal(err)
		}
		images, refs, err := s.read()
		if err == nil {
			err = s.forget(images, refs, false, m.Digest)
		}
		if err == nil {
			err = s.putAside()
		}
		if release(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(s.layerDir(1)); !os.IsNotExist(err) {
			t.Errorf("the layer keeps its name until it is deleted: %v", err)
		}
	}
	if err := s.Recover(t.Context()); err != nil || len(s.contents(t)) > 0 {
		t.Errorf("left: %v, %v", s.contents(t), err)
	}
}

func TestLease(t *testing.T) {
	roottest.Need(t)
	s := newStore(t)
	if _, err := s.Import(t.Context(), "a", t.TempDir(), nil, Options{}); err != nil {
		t.Fatal(err)
	}
	release, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), "a", nil); !errors.Is(err, ErrBusy) {
		t.Errorf("remove during a lease: %v, want ErrBusy", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Remove(ctx, "a", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("remove, interrupted: %v", err)
	}
	release()
	if err := s.Remove(t.Context(), "a", nil); err != nil {
		t.Error(err)
	}
}

// Jobs do the same in a child, and pass errors on.
func TestImportJob(t *testing.T) {
	roottest.Need(t)
	s := newStore(t)
	j := Jobs{Store: s, Runner: job.Runner{}}
	dir := filepath.Join(roottest.TempDir(t, "/var/tmp"), "root")
	makeRoot(t, dir)
	var last Progress
	m, err := j.Import(t.Context(), "a", dir, nil, Options{Progress: func(p Progress) { last = p }})
	if err != nil || m.Name != "a" {
		t.Fatalf("%+v, %v", m, err)
	}
	if last.Done < 50<<20 {
		t.Errorf("progress: %+v", last)
	}
	if _, err := j.Import(t.Context(), "b", dir+"/none", nil, Options{}); !errors.Is(err, os.ErrNotExist) || strings.Count(err.Error(), "no such file") != 1 {
		t.Errorf("import nothing: %v", err)
	}
	if names := s.contents(t); !slices.Contains(names, "layers/1") || len(names) != 4 {
		t.Errorf("store: %q", names)
	}
}

// An extended attribute whose name no tar can hold is left out of an import.
func TestImportAttributeName(t *testing.T) {
	roottest.Need(t)
	s := newStore(t)
	dir := roottest.TempDir(t, "/var/tmp")
	for _, name := range []string{"user.a=b", "user.a"} {
		if err := unix.Setxattr(dir, name, []byte("x"), 0); err != nil {
			t.Fatal(err)
		}
	}
	m, err := s.Import(t.Context(), "a", dir, nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	all, err := xattr.List(s.layerDir(m.Layers[0].Number), unix.Llistxattr, unix.Lgetxattr)
	if _, ok := all["user.a"]; err != nil || !ok || len(all["user.a=b"]) > 0 {
		t.Errorf("its attributes are %q, %v", all, err)
	}
}
