package hostpath

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stead/runtime/roottest"

	"golang.org/x/sys/unix"
)

func TestOpen(t *testing.T) {
	roottest.Need(t)
	dir := t.TempDir()
	for _, d := range []string{"a/b", "open/d", "sticky/d", "user/d", "shared/d/e", "group"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(dir+"/a/file", nil, 0o644)
	unix.Mkfifo(dir+"/a/fifo", 0o644)
	for link, target := range map[string]string{
		"a/link": "b", "a/abs": dir + "/a/b", "a/up": "../a/./b", "a/two": "link", "a/loop": "loop", "a/gone": "nonsuch", "a/tofile": "file",
		"a/theirs": "b", "open/link": "d", "open/d/link": "..", "sticky/link": "d", "sticky/d/link": "..", "user/link": "d", "user/d/link": "..", "shared/link": "d", "shared/d/e/link": "..",
		"into": "shared", "group/link": "../a", "toshared": "shared/link",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	os.Lchown(dir+"/a/theirs", 1000, 1000)
	os.Chown(dir+"/user", 1000, 1000)
	os.Chmod(dir+"/open", 0o777)
	os.Chmod(dir+"/sticky", 0o777|os.ModeSticky)
	os.Chmod(dir+"/group", 0o775)
	shared := func(d string) bool { return d == dir+"/shared" }
	for _, tt := range []struct{ name, real, refused string }{
		{"a/b", "a/b", ""},
		{"a/file", "a/file", ""},
		{"a/fifo", "a/fifo", ""},
		{"a/link", "a/b", ""},
		{"a/abs", "a/b", ""},
		{"a/up", "a/b", ""},
		{"a/two", "a/b", ""},
		{"a/tofile", "a/file", ""},
		{"a/loop", "", "too many levels"},
		{"a/gone", "", "no such file"},
		{"a/file/x", "", "not a directory"},
		{"a/theirs", "", "a/theirs is a symbolic link, and it belongs to user 1000; write the path that it leads to"},
		{"open/d", "open/d", ""},
		{"open/link", "", "others than root can write to " + dir + "/open"},
		{"open/d/link", "", "others than root can write to " + dir + "/open"},
		{"sticky/link", "", "others than root can write to " + dir + "/sticky"},
		{"sticky/d/link", "sticky", ""}, // root's own, which nobody else can rename
		{"user/d", "user/d", ""},
		{"user/link", "", "others than root can write to " + dir + "/user"},
		{"user/d/link", "", "others than root can write to " + dir + "/user"},
		{"group/link", "", "others than root can write to " + dir + "/group"},
		{"shared/d/e", "shared/d/e", ""},
		{"shared/link", "", "a container can write to " + dir + "/shared, or once could"},
		{"shared/d/e/link", "", "a container can write to " + dir + "/shared, or once could"},
		{"into/d", "shared/d", ""},
		{"into/link", "", "a container can write to " + dir + "/shared, or once could"},
		{"toshared", "", "a container can write to " + dir + "/shared, or once could"},
	} {
		fd, real, err := Open(filepath.Join(dir, tt.name), shared)
		if tt.refused != "" {
			if err == nil || !strings.Contains(err.Error(), tt.refused) {
				t.Errorf("%s: %v, want %q", tt.name, err, tt.refused)
			}
			continue
		}
		if err != nil || real != filepath.Join(dir, tt.real) {
			t.Errorf("%s: %s %v", tt.name, real, err)
			continue
		}
		var got, want unix.Stat_t
		if unix.Fstat(fd, &got) != nil || unix.Stat(real, &want) != nil || got.Ino != want.Ino {
			t.Errorf("%s: another file is open", tt.name)
		}
		unix.Close(fd)
	}
	if _, real, err := Open("/", shared); err != nil || real != "/" {
		t.Error(real, err)
	}
}

// What every host has: links that root made.
func TestOpenSystem(t *testing.T) {
	for _, name := range []string{"/var/run", "/bin"} {
		want, err := filepath.EvalSymlinks(name)
		if err != nil {
			continue
		}
		if _, real, err := Open(name, func(string) bool { return false }); err != nil || real != want {
			t.Errorf("%s: %s %v", name, real, err)
		}
	}
}
