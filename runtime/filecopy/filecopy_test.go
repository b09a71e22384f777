package filecopy

import (
	"bytes"
	"context"
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
