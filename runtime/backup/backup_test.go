package backup

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"stead/runtime/roottest"

	"golang.org/x/sys/unix"
)

// everything makes a tree with a file of every kind. overlay adds what an upper directory has.
func everything(t testing.TB, overlay bool) string {
	t.Helper()
	dir := t.TempDir() + "/tree"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(dir, 0o755))
	at := func(name string) string { return dir + "/" + name }
	must(os.Mkdir(at("etc"), 0o750))
	must(os.WriteFile(at("etc/passwd"), []byte("root:x:0:0::/:\n"), 0o644))
	must(os.WriteFile(at("etc/shadow"), []byte("root:*::\n"), 0o600))
	must(os.WriteFile(at("empty"), nil, 0o644))
	must(os.WriteFile(at("large"), bytes.Repeat([]byte("0123456789abcdef"), 200_000), 0o644))
	must(os.WriteFile(at("suid"), []byte("#!"), 0o755))
	must(os.Chown(at("suid"), 1000, 65534))
	must(unix.Chmod(at("suid"), 0o6755))
	must(unix.Setxattr(at("suid"), "security.capability", []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
	must(unix.Setxattr(at("etc"), "user.note", []byte("a\x00b=c\n"), 0))
	must(unix.Setxattr(at("etc/passwd"), "user.empty", nil, 0))
	acl := "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\x39\x30\x00\x00" + "\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x06\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
	must(unix.Setxattr(at("etc/shadow"), "system.posix_acl_access", []byte(acl), 0))
	must(unix.Setxattr(at("etc"), "system.posix_acl_default", []byte(acl), 0))
	must(os.WriteFile(at("etc/plain"), nil, 0o644))
	must(unix.Removexattr(at("etc/plain"), "system.posix_acl_access")) // its directory gave it one
	must(os.Chmod(at("etc/plain"), 0o644))
	must(os.Symlink("/etc/passwd", at("link")))
	must(os.Lchown(at("link"), 5, 6))
	must(os.Symlink("nowhere", at("etc/dangling")))
	must(os.Link(at("etc/passwd"), at("z-hard")))
	must(os.Link(at("etc/passwd"), at("a-hard")))
	must(unix.Mkfifo(at("fifo"), 0o622))
	must(unix.Mknod(at("char"), unix.S_IFCHR|0o660, int(unix.Mkdev(1, 5))))
	must(unix.Mknod(at("block"), unix.S_IFBLK|0o660, int(unix.Mkdev(7, 300))))
	must(os.Mkdir(at("sticky"), 0o700))
	must(unix.Chmod(at("sticky"), 0o1777))
	odd := "odd \n\t\xff\xfe" + strings.Repeat("n", 200)
	must(os.MkdirAll(at("sub/"+odd+"/"+odd), 0o755))
	must(os.WriteFile(at("sub/"+odd+"/"+odd+"/x"), []byte("deep"), 0o400))
	must(os.WriteFile(at(".wh.file"), []byte("an ordinary file"), 0o644))
	must(os.WriteFile(at("sub-dir"), []byte("sorts between sub and what is in it"), 0o644))
	f, err := os.Create(at("sparse"))
	must(err)
	f.WriteAt([]byte("begin"), 0)
	f.WriteAt([]byte("middle"), 40<<20)
	must(f.Truncate(100 << 20))
	f.Close()
	f, err = os.Create(at("hole"))
	must(err)
	must(f.Truncate(10 << 20))
	f.Close()
	must(os.Chtimes(at("etc/shadow"), time.Now(), time.Unix(1234567890, 123456789)))
	if overlay {
		must(unix.Mknod(at("etc/deleted"), unix.S_IFCHR, 0))
		must(unix.Setxattr(at("sticky"), opaqueXattr, []byte("y"), 0))
		must(unix.Setxattr(at("etc"), "trusted.overlay.origin", []byte("x"), 0))
	}
	return dir
}

// inventory describes all that is in a tree, a line for each file.
func inventory(t testing.TB, dir string) map[string]string {
	t.Helper()
	all, groups := map[string]string{}, map[uint64]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		text := fmt.Sprintf("%o %d:%d %d:%d mtime %d", st.Mode, st.Uid, st.Gid, unix.Major(st.Rdev), unix.Minor(st.Rdev), st.Mtim.Nano())
		if isWhiteout(&st) {
			all[name] = "whiteout"
			return nil
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			blocks := st.Blocks
			text += fmt.Sprintf(" %d bytes in %d blocks, %x", st.Size, blocks, sum(b))
			if st.Nlink > 1 && groups[st.Ino] == "" {
				groups[st.Ino] = name
			}
			text += " with " + groups[st.Ino]
		case unix.S_IFLNK:
			to, _ := os.Readlink(p)
			text += " -> " + to
		}
		names := make([]byte, 4096)
		n, _ := unix.Llistxattr(p, names)
		for _, key := range slices.Sorted(slices.Values(strings.Split(strings.TrimRight(string(names[:n]), "\x00"), "\x00"))) {
			if key == "" || strings.HasPrefix(key, "trusted.overlay.") && key != opaqueXattr {
				continue
			}
			value := make([]byte, 4096)
			n, err := unix.Lgetxattr(p, key, value)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %s=%q", key, value[:n])
		}
		all[name] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func sum(b []byte) uint32 { return crc32.ChecksumIEEE(b) }

// sameTree compares two trees.
func sameTree(t testing.TB, got, want string) {
	t.Helper()
	a, b := inventory(t, got), inventory(t, want)
	for name := range b {
		if a[name] != b[name] {
			t.Errorf("%q:\n\t got %s\n\twant %s", name, a[name], b[name])
		}
	}
	for name := range a {
		if b[name] == "" {
			t.Errorf("%q was not there: %s", name, a[name])
		}
	}
}

// request asks for a backup of a container that does not run, and whose root is dir.
func request(dir string, overlay bool) *Request {
	return &Request{
		Index:   Index{Name: "web", Program: "test", CreatedAt: time.Now().UTC(), Root: "path", Trees: []Tree{{Name: RootTree, Overlay: overlay}}},
		Applied: "{}\n", Manifest: "kind: Container\n", Dirs: []string{dir}, MaxFreeze: 5 * time.Second, Scratch: os.TempDir(),
	}
}

// archive makes an archive of a tree.
func archive(t testing.TB, dir string, overlay bool) string {
	t.Helper()
	q := request(dir, overlay)
	q.Output = t.TempDir() + "/web.tar.zst"
	if _, err := Write(t.Context(), q, nil); err != nil {
		t.Fatal(err)
	}
	return q.Output
}

// unpackFile unpacks an archive and returns the directory of its root.
func unpackFile(t testing.TB, file string) (string, *Info, error) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	info, err := Unpack(t.Context(), f, dir, Limits{}, func(*Index) (map[string]string, error) { return nil, nil })
	return dir + "/" + RootTree, info, err
}

// A tree with a file of every kind comes back as it was.
func TestRoundTrip(t *testing.T) {
	roottest.Need(t)
	for _, overlay := range []bool{false, true} {
		dir := everything(t, overlay)
		file := archive(t, dir, overlay)
		got, info, err := unpackFile(t, file)
		if err != nil {
			t.Fatal(err)
		}
		sameTree(t, got, dir)
		if info.Index.Name != "web" || info.Index.Manifest != "kind: Container\n" || len(info.Notes) > 0 {
			t.Errorf("index %+v, notes %v", info.Index, info.Notes)
		}
		if st, err := os.Stat(file); err != nil || st.Mode() != 0o600 {
			t.Errorf("mode %v, %v", st.Mode(), err)
		}
	}
}

// commands returns the commands of the documentation that rebuild a root.
func commands(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile("../../cmd/stead/docs/backup.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(text), "To rebuild a root in an empty directory:\n\n")
	block, _, _ := strings.Cut(after, "\n\n")
	if !ok || strings.Count(block, "\n") != 2 {
		t.Fatalf("the documentation has these commands: %q", block)
	}
	return strings.ReplaceAll(block, "web.tar.zst", file)
}

// The commands of the documentation rebuild a root without stead.
func TestStandardTools(t *testing.T) {
	roottest.Need(t)
	dir := everything(t, false)
	os.Remove(dir + "/.wh.file")                                                     // tar can't tell it from a whiteout
	if err := unix.Removexattr(dir+"/etc", "system.posix_acl_default"); err != nil { // tar gives it to files that have none
		t.Fatal(err)
	}
	file, _ := archiveChanged(t, dir, false, func() {
		for _, err := range []error{
			os.Remove(dir + "/empty"), os.Remove(dir + "/etc/shadow"), os.RemoveAll(dir + "/sub"), os.WriteFile(dir+"/sub", []byte("was a directory"), 0o644),
			os.WriteFile(dir+"/etc/new", []byte("new"), 0o600), os.WriteFile(dir+"/etc/plain", []byte("changed"), 0o644), os.Remove(dir + "/suid"), os.Mkdir(dir+"/suid", 0o711),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	got := t.TempDir() + "/root"
	if err := os.Mkdir(got, 0o755); err != nil {
		t.Fatal(err)
	}
	script := exec.Command("sh", "-ec", commands(t, file))
	script.Dir = got
	if out, err := script.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := inventory(t, dir)
	have := inventory(t, got)
	for name := range want {
		a, b := have[name], want[name]
		if name == "." || strings.Contains(b, "bytes in") || strings.Contains(b, "mtime") { // times of directories and blocks differ
			cut := func(s string) string {
				before, after, _ := strings.Cut(s, " mtime ")
				_, after, _ = strings.Cut(after, " ")
				if b, rest, ok := strings.Cut(after, " bytes in "); ok {
					_, rest, _ = strings.Cut(rest, " blocks")
					after = b + rest
				}
				return before + after
			}
			a, b = cut(a), cut(b)
		}
		if name != "." && a != b {
			t.Errorf("%q:\n\t got %s\n\twant %s", name, a, b)
		}
	}
	for name := range have {
		if want[name] == "" {
			t.Errorf("%q was not there: %s", name, have[name])
		}
	}
	list, err := exec.Command("tar", "--zstd", "-tf", file).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(list), "stead/index.json\nstead/manifest.yaml\n") || !strings.HasSuffix(string(list), "stead/trailer.json\n") {
		t.Errorf("%v\n%.2000s", err, list)
	}
}

// archiveChanged makes an archive of a tree that change changes after it was copied for the first
// time.
func archiveChanged(t testing.TB, dir string, overlay bool, change func()) (string, *Info) {
	t.Helper()
	q := request(dir, overlay)
	q.between = change
	q.Output = t.TempDir() + "/web.tar.zst"
	if _, err := Write(t.Context(), q, nil); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(q.Output)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := Verify(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return q.Output, info
}

// What changes between the first copy and the second is in the archive as it was at the second.
func TestChangesAfterTheFirstCopy(t *testing.T) {
	roottest.Need(t)
	for _, overlay := range []bool{false, true} {
		dir := everything(t, overlay)
		at := func(name string) string { return dir + "/" + name }
		file, _ := archiveChanged(t, dir, overlay, func() {
			changes := []error{
				os.Remove(at("empty")),
				os.WriteFile(at("etc/passwd"), []byte("all three names of it\n"), 0o644), // in place
				os.Remove(at("link")), os.Symlink("elsewhere", at("link")),
				os.RemoveAll(at("sub")), os.WriteFile(at("sub"), []byte("was a directory"), 0o644),
				os.Remove(at("suid")), os.Mkdir(at("suid"), 0o711), os.WriteFile(at("suid/in"), nil, 0o600),
				unix.Removexattr(at("etc"), "user.note"), unix.Removexattr(at("etc"), "system.posix_acl_default"),
				os.Chmod(at("sticky"), 0o700), os.Chown(at("large"), 7, 8),
				os.Link(at("large"), at("etc/large")),
				os.Rename(at("sparse"), at("sparse2")),
				os.Remove(at("fifo")), unix.Mkfifo(at("fifo"), 0o600),
				os.MkdirAll(at("new/deep/er"), 0o750), os.WriteFile(at("new/deep/er/file"), []byte("x"), 0o644),
				os.Remove(at("char")), os.Remove(at("a-hard")),
			}
			if overlay {
				changes = append(changes,
					os.Remove(at("etc/deleted")), os.WriteFile(at("etc/deleted"), []byte("is back"), 0o644),
					unix.Mknod(at("etc/large2"), unix.S_IFCHR, 0),
					os.Remove(at("hole")), unix.Mknod(at("hole"), unix.S_IFCHR, 0),
					unix.Removexattr(at("sticky"), opaqueXattr), unix.Setxattr(at("new"), opaqueXattr, []byte("y"), 0))
			}
			if err := errors.Join(changes...); err != nil {
				t.Fatal(err)
			}
		})
		got, _, err := unpackFile(t, file)
		if err != nil {
			t.Fatal(err)
		}
		sameTree(t, got, dir)
	}
}

// A container that was started, stopped or changed while it was copied has no backup, however short
// that was.
func TestChangedMeanwhile(t *testing.T) {
	roottest.Need(t)
	base := t.TempDir()
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	record, run := base+"/containers/web", base+"/run/current/web"
	must(os.MkdirAll(record, 0o700), os.MkdirAll(filepath.Dir(run), 0o700), os.Mkdir(base+"/tree", 0o755))
	facts := func() error { return os.WriteFile(record+"/container.json", []byte("{}"), 0o600) }
	must(facts())
	for _, row := range []struct {
		summary string
		change  func()
		refused bool
	}{
		{"nothing", func() {}, false},
		{"its first run", func() { must(os.Symlink("web.1", run)) }, true},
		{"nothing after a run", func() {}, false},
		{"another run", func() { must(os.Remove(run), os.Symlink("web.2", run)) }, true},
		{"its facts, in the same inode", func() { must(facts()) }, true},
		{"its facts", func() { must(os.Rename(record+"/container.json", record+"/old"), facts()) }, true},
	} {
		q := request(base+"/tree", false)
		q.Record, q.RunDir, q.Output, q.between = record, base+"/run", t.TempDir()+"/web.tar.zst", row.change
		_, err := Write(t.Context(), q, nil)
		if refused := err != nil && strings.Contains(err.Error(), "was changed, stopped or started meanwhile"); refused != row.refused || !refused && err != nil {
			t.Errorf("%s: %v, want refused: %v", row.summary, err, row.refused)
		}
		if _, err := os.Stat(q.Output); (err != nil) != row.refused {
			t.Errorf("%s: the archive: %v", row.summary, err)
		}
	}
}

// The room for an archive is where its trees go, not where it is staged.
func TestRoomElsewhere(t *testing.T) {
	roottest.Need(t)
	tree := t.TempDir()
	if err := os.WriteFile(tree+"/large", bytes.Repeat([]byte("0123456789abcdef"), 1<<18), 0o644); err != nil {
		t.Fatal(err)
	}
	q := request(tree, false)
	q.Output = t.TempDir() + "/web.tar.zst"
	if _, err := Write(t.Context(), q, nil); err != nil {
		t.Fatal(err)
	}
	small, large := roottest.TempDir(t, "/var/tmp"), roottest.TempDir(t, "/var/tmp")
	if err := unix.Mount("small", small, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(small, 0) })
	for i, row := range []struct {
		staging, tree string
		fits          bool
	}{{small, large, true}, {large, small, false}, {small, "", false}} {
		f, err := os.Open(q.Output)
		if err != nil {
			t.Fatal(err)
		}
		dir := fmt.Sprintf("%s/staging%d", row.staging, i)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		_, err = Unpack(t.Context(), f, dir, Limits{}, func(*Index) (map[string]string, error) {
			if row.tree == "" {
				return nil, nil
			}
			return map[string]string{RootTree: fmt.Sprintf("%s/tree%d", row.tree, i)}, nil
		})
		if limit := new(LimitError); row.fits && err != nil || !row.fits && !errors.As(err, &limit) {
			t.Errorf("%d: %v, fits: %v", i, err, row.fits)
		}
		f.Close()
	}
}
