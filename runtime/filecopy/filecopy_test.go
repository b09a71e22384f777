package filecopy

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stead/runtime/roottest"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(roottest.Main(m)) }

// openRoot opens a directory as a root.
func openRoot(t *testing.T, dir string) int {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// packed returns the stream of a directory with a file in dir/deep.
func packed(t *testing.T) []byte {
	t.Helper()
	from := t.TempDir()
	write(t, from+"/tree/dir/deep/file", "copied")
	var b bytes.Buffer
	if _, err := Pack(t.Context(), openRoot(t, from), "/tree", nil, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A directory of the root that becomes a link, and a directory again, at any moment never leads a
// copy out of the root (CVE-2018-15664).
func TestDirectoryThatBecomesALink(t *testing.T) {
	roottest.Need(t)
	for _, target := range []string{"absolute", "relative", "magic"} {
		t.Run(target, func(t *testing.T) {
			base := t.TempDir()
			root, outside := base+"/root", base+"/outside"
			write(t, outside+"/deep/file", "SECRET")
			write(t, root+"/tree/dir/deep/file", "inside")
			to := map[string]string{"absolute": outside, "relative": "../../outside", "magic": "/proc/self/root" + outside}[target]
			if err := os.Symlink(to, root+"/tree/other"); err != nil {
				t.Fatal(err)
			}
			fd, stream := openRoot(t, root), packed(t)
			ctx, cancel := context.WithCancel(t.Context())
			swapped := make(chan struct{})
			go func() {
				defer close(swapped)
				for ctx.Err() == nil {
					unix.Renameat2(unix.AT_FDCWD, root+"/tree/dir", unix.AT_FDCWD, root+"/tree/other", unix.RENAME_EXCHANGE)
				}
			}()
			var in, out int
			for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
				var b bytes.Buffer
				for _, name := range []string{"/tree/dir/deep/file", "/tree/dir/deep", "/tree"} {
					b.Reset()
					if _, err := Pack(ctx, fd, name, nil, &b); err == nil {
						out++
					}
					if bytes.Contains(b.Bytes(), []byte("SECRET")) {
						t.Fatalf("%s: a file of outside", name)
					}
				}
				for _, name := range []string{"/tree/.", "/tree/dir"} {
					if _, err := Unpack(ctx, fd, name, bytes.NewReader(stream), Options{As: "tree"}); err == nil {
						in++
					}
				}
			}
			cancel()
			<-swapped
			t.Logf("%d copies out and %d in", out, in)
			if out == 0 || in == 0 {
				t.Errorf("nothing was copied")
			}
			var found []string
			filepath.WalkDir(outside, func(path string, _ os.DirEntry, _ error) error { found = append(found, path); return nil })
			if b, _ := os.ReadFile(outside + "/deep/file"); string(b) != "SECRET" || len(found) != 3 {
				t.Errorf("%q %v", b, found)
			}
		})
	}
}

// A stream can't leave the directory that it goes to, whatever it holds.
func TestHostileStreams(t *testing.T) {
	roottest.Need(t)
	for _, tt := range []struct{ what, want string }{
		{"../outside", "leaves the directory"},
		{"link/file", "is a link or a file there"},
		{"hard", "is outside of what is copied"},
		{"through", "is a link or a file there"},
		{"device", "not copied: it is a device"},
		{"file on a directory", "which no file replaces"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			base := t.TempDir()
			root := base + "/root"
			write(t, base+"/outside/file", "outside")
			write(t, root+"/at/directory/file", "inside")
			if err := os.Symlink(base+"/outside", root+"/at/link"); err != nil {
				t.Fatal(err)
			}
			notes, err := Unpack(t.Context(), openRoot(t, root), "/at", hostile(t, tt.what, base), Options{})
			got := ""
			for _, n := range notes {
				got += n.String()
			}
			if err != nil {
				got += err.Error()
			}
			if !strings.Contains(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if b, _ := os.ReadFile(base + "/outside/file"); string(b) != "outside" {
				t.Errorf("outside: %q", b)
			}
			if left, _ := filepath.Glob(root + "/at/.*stead-cp~"); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			if entries, _ := os.ReadDir(base + "/outside"); len(entries) != 1 {
				t.Errorf("outside: %v", entries)
			}
		})
	}
}

// stream returns a tar of files by name; a name that ends with a slash is a directory.
func stream(t *testing.T, names ...string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		h := &tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeDir}
		if !strings.HasSuffix(name, "/") {
			h.Typeflag, h.Size = tar.TypeReg, 1
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			w.Write([]byte("x"))
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// Nothing goes below a path that something is mounted over while the container runs, whether the
// path is there or not, and however deep in the stream.
func TestCoveredInStreams(t *testing.T) {
	roottest.Need(t)
	covered := []Covered{{"/data", "volume data"}, {"/srv/new/www", "volume www"}, {"/etc/conf", "a file"}}
	for _, test := range []struct {
		names string
		want  string
	}{
		{"data/ data/file", "/data"}, {"data/file", "/data"}, {"data/deep/file", "/data"}, {"link/file", "is a link"},
		{"srv/new/ srv/new/www/ srv/new/www/x", "/srv/new/www"}, {"srv/new/other", "/srv/new/www"}, {"srv/other/x", ""},
		{"etc/conf", "/etc/conf"}, {"etc/config", ""},
	} {
		root := t.TempDir()
		write(t, root+"/data/old", "old")
		write(t, root+"/srv/old", "old")
		write(t, root+"/etc/conf", "old")
		if err := os.Symlink("data", root+"/link"); err != nil {
			t.Fatal(err)
		}
		_, err := Unpack(t.Context(), openRoot(t, root), "/", stream(t, strings.Fields(test.names)...), Options{Covered: covered})
		if got := fmt.Sprint(err); test.want == "" && err != nil || !strings.Contains(got, test.want) {
			t.Errorf("%s: %v, want %q", test.names, err, test.want)
		}
		for _, dir := range []string{"/data", "/srv/new/www"} {
			if entries, _ := os.ReadDir(root + dir); len(entries) > 1 || len(entries) == 1 && entries[0].Name() != "old" {
				t.Errorf("%s: %s holds %v", test.names, dir, entries)
			}
		}
		if b, _ := os.ReadFile(root + "/etc/conf"); string(b) != "old" {
			t.Errorf("%s: a covered file is %q", test.names, b)
		}
	}
}

// A file that another copy is writing is left to it; what a copy that was killed left is removed.
func TestTwoCopiesToOneFile(t *testing.T) {
	roottest.Need(t)
	root := t.TempDir()
	fd := openRoot(t, root)
	r, w := io.Pipe()
	whole := stream(t, "file").Bytes()
	first := make(chan error)
	go func() {
		_, err := Unpack(t.Context(), fd, "/", r, Options{})
		first <- err
	}()
	if _, err := w.Write(whole[:512]); err != nil { // the header
		t.Fatal(err)
	}
	tmp := root + "/" + tmpName("file")
	for end := time.Now().Add(roottest.Patience); ; time.Sleep(time.Millisecond) {
		if f, err := os.Open(tmp); err == nil {
			locked := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK
			f.Close()
			if locked {
				break
			}
		}
		if time.Now().After(end) {
			t.Fatal("the first copy does not begin")
		}
	}
	if _, err := Unpack(t.Context(), fd, "/", bytes.NewReader(whole), Options{}); !errors.Is(err, errBusy) {
		t.Errorf("a second copy: %v", err)
	}
	go func() {
		w.Write(whole[512:])
		w.Close()
	}()
	if err := <-first; err != nil {
		t.Errorf("the first copy: %v", err)
	}
	write(t, tmp, "of a copy that was killed")
	if _, err := Unpack(t.Context(), fd, "/", bytes.NewReader(whole), Options{}); err != nil {
		t.Errorf("after a killed copy: %v", err)
	}
	if b, _ := os.ReadFile(root + "/file"); string(b) != "x" {
		t.Errorf("file: %q", b)
	}
	if _, err := os.Stat(tmp); err == nil {
		t.Error("the temporary file is left")
	}
}

// What a file gets from the directory that it comes to is not its own: the default access list.
// Attributes that no tar can hold are left out.
func TestAttributesOfCopies(t *testing.T) {
	roottest.Need(t)
	from, to := t.TempDir(), t.TempDir()
	write(t, from+"/tree/deep/file", "x")
	for name, value := range map[string]string{"user.a=b": "x", "user.kept": "y"} {
		if err := unix.Setxattr(from+"/tree/deep/file", name, []byte(value), 0); err != nil {
			t.Skip("no extended attributes here: ", err)
		}
	}
	acl := []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 6, 0, 5, 0, 0, 0, 4, 0, 0, 0, 255, 255, 255, 255, 16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
	if err := unix.Setxattr(to, "system.posix_acl_default", acl, 0); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := Pack(t.Context(), openRoot(t, from), "/tree", nil, &b); err != nil {
		t.Fatal(err)
	}
	if _, err := Unpack(t.Context(), openRoot(t, to), "/", &b, Options{As: "tree"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "/deep", "/deep/file"} {
		for _, list := range []string{"system.posix_acl_access", "system.posix_acl_default"} {
			if n, err := unix.Getxattr(to+"/tree"+name, list, nil); err == nil {
				t.Errorf("tree%s has a %s of %d bytes", name, list, n)
			}
		}
	}
	value := make([]byte, 10)
	if n, err := unix.Getxattr(to+"/tree/deep/file", "user.kept", value); err != nil || string(value[:n]) != "y" {
		t.Errorf("its attribute: %q, %v", value[:max(n, 0)], err)
	}
}

func TestName(t *testing.T) {
	for name, want := range map[string]string{"a": "a", "a/b/": "b", "/": ".", ".": ".", "a/.": ".", "..": ".", "a/..": ".", "../..": ".", "/..": ".", "..a": "..a"} {
		if got := Name(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// What a copy that was killed has left goes with the next copy of the same file.
func TestLeftoverOfAKilledCopy(t *testing.T) {
	roottest.Need(t)
	root, stream := t.TempDir(), packed(t)
	write(t, root+"/at/tree/dir/deep/"+tmpName("file"), "half of it")
	if _, err := Unpack(t.Context(), openRoot(t, root), "/at", bytes.NewReader(stream), Options{As: "tree"}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(root + "/at/tree/dir/deep")
	if err != nil || len(entries) != 1 {
		t.Errorf("%v %v", entries, err)
	}
	if b, err := os.ReadFile(root + "/at/tree/dir/deep/file"); string(b) != "copied" {
		t.Errorf("%q %v", b, err)
	}
}
