package unpack

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"stead/runtime/roottest"

	"golang.org/x/sys/unix"
)

// pack makes a tar. An entry is a name ("dir/", "file", "link -> target", "name => hard link's
// target", "dev:char 1:3", "fifo|") with a mode after a space, if it has another than 0755 or 0644.
func pack(t *testing.T, entries ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(header(t, e)); err != nil {
			t.Fatal(err)
		}
		if h := header(t, e); h.Size > 0 {
			fmt.Fprint(w, h.Name)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func header(t *testing.T, e string) *tar.Header {
	h := &tar.Header{Name: e, Mode: 0o644, ModTime: time.Unix(1000000, 0), Typeflag: tar.TypeReg}
	if name, mode, ok := strings.Cut(e, " 0"); ok {
		fmt.Sscanf(mode, "%o", &h.Mode)
		h.Name, e = name, name
	} else if strings.HasSuffix(e, "/") {
		h.Mode = 0o755
	}
	if name, to, ok := strings.Cut(e, " -> "); ok {
		h.Name, h.Linkname, h.Typeflag = name, to, tar.TypeSymlink
	} else if name, to, ok := strings.Cut(e, " => "); ok {
		h.Name, h.Linkname, h.Typeflag = name, to, tar.TypeLink
	} else if name, device, ok := strings.Cut(e, ":char "); ok {
		h.Name, h.Typeflag = name, tar.TypeChar
		fmt.Sscanf(device, "%d:%d", &h.Devmajor, &h.Devminor)
	} else if strings.HasSuffix(e, "|") {
		h.Name, h.Typeflag = strings.TrimSuffix(e, "|"), tar.TypeFifo
	} else if strings.HasSuffix(e, "/") {
		h.Typeflag = tar.TypeDir
	} else if !strings.Contains(e, ".wh.") {
		h.Size = int64(len(e))
	}
	return h
}

func plenty() *Budget { return &Budget{Bytes: 1 << 30, Entries: 1 << 20} }

// unpackAll unpacks layers beside each other, as a pull does, and returns their directories.
func unpackAll(t *testing.T, layers ...[]byte) []string {
	t.Helper()
	at := roottest.TempDir(t, "/tmp") // a path without commas, which would end an option of overlay
	var dirs []string
	for i, stream := range layers {
		dir := filepath.Join(at, fmt.Sprint(i))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		l, err := Unpack(t.Context(), dir, bytes.NewReader(stream), true, plenty())
		if err != nil {
			t.Fatal(err)
		}
		err = l.Finish(dirs)
		l.Close()
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
		if l.OpaqueRoot() {
			dirs = dirs[len(dirs)-1:]
		}
	}
	return dirs
}

// merged mounts layers with overlay and lists the tree: path, type, mode, and what a file holds.
func merged(t *testing.T, dirs []string) (list []string) {
	t.Helper()
	at := roottest.TempDir(t, "/tmp")
	empty := filepath.Join(at, "empty")
	target := filepath.Join(at, "merged")
	for _, d := range []string{empty, target} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lower := []string{empty} // overlay wants two
	for _, d := range slices.Backward(dirs) {
		lower = append(lower, d)
	}
	if err := unix.Mount("overlay", target, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(lower, ":")); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(target, 0)
	err := filepath.WalkDir(target, func(p string, d os.DirEntry, err error) error {
		if err != nil || p == target {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(p, target+"/")
		switch {
		case d.IsDir():
			name += "/"
		case info.Mode()&os.ModeSymlink != 0:
			to, _ := os.Readlink(p)
			list = append(list, name+" -> "+to)
			return nil
		case info.Mode().IsRegular():
			b, _ := os.ReadFile(p)
			name += "=" + string(b)
		default:
			name += " " + info.Mode().Type().String()
		}
		list = append(list, fmt.Sprintf("%s %04o", name, info.Sys().(*syscall.Stat_t).Mode&0o7777))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// The merged tree is that of a plain apply of the layers, one after the other.
func TestWhiteouts(t *testing.T) {
	roottest.Need(t)
	base := []string{"a/", "a/one", "a/two", "a/sub/", "a/sub/deep", "b", "tmp/ 01777", "closed/ 0700", "closed/x", "link -> a"}
	for _, c := range []struct {
		summary string
		layers  [][]string
		want    []string
	}{
		{"a file", [][]string{base[:3], {"a/.wh.one"}}, []string{"a/ 0755", "a/two=a/two 0644"}},
		{"a directory", [][]string{base, {".wh.a", ".wh.closed"}}, []string{"b=b 0644", "link -> a", "tmp/ 1777"}},
		{"a directory deleted and made anew", [][]string{base[:6], {".wh.a", "a/", "a/new"}}, []string{"a/ 0755", "a/new=a/new 0644", "b=b 0644"}},
		{"the same with the whiteout at the end", [][]string{base[:6], {"a/", "a/new", ".wh.a"}}, []string{"a/ 0755", "a/new=a/new 0644", "b=b 0644"}},
		{"the same without an entry for it", [][]string{{"a/ 0700", "a/one"}, {".wh.a", "a/new"}}, []string{"a/ 0755", "a/new=a/new 0644"}},
		{"a file deleted and made anew", [][]string{base[5:6], {".wh.b", "b 0600"}}, []string{"b=b 0600"}},
		{"a file in place of a directory", [][]string{base[:5], {"a"}}, []string{"a=a 0644"}},
		{"a directory in place of a file", [][]string{base[5:6], {".wh.b", "b/", "b/c"}}, []string{"b/ 0755", "b/c=b/c 0644"}},
		{"opaque", [][]string{base[:5], {"a/", "a/.wh..wh..opq", "a/new"}}, []string{"a/ 0755", "a/new=a/new 0644"}},
		{"files beside an opaque marker, before it", [][]string{base[:5], {"a/new", "a/.wh..wh..opq"}}, []string{"a/ 0755", "a/new=a/new 0644"}},
		{"opaque without an entry", [][]string{{"closed/ 0700", "closed/x"}, {"closed/.wh..wh..opq"}}, []string{"closed/ 0700"}},
		{"opaque in an opaque directory", [][]string{base[:5], {"a/.wh..wh..opq", "a/sub/.wh..wh..opq", "a/sub/new"}}, []string{"a/ 0755", "a/sub/ 0755", "a/sub/new=a/sub/new 0644"}},
		{"an opaque root", [][]string{base, {".wh..wh..opq", "new"}}, []string{"new=new 0644"}},
		{"a whiteout below a deleted path", [][]string{base[:6], {"a/sub/.wh.deep", ".wh.a"}}, []string{"b=b 0644"}},
		{"whiteouts in an opaque directory", [][]string{base[:5], {"a/.wh.one", "a/.wh..wh..opq", "a/new", "a/.wh.new"}}, []string{"a/ 0755", "a/new=a/new 0644"}},
		{"an opaque marker for nothing", [][]string{base[5:6], {"x/.wh..wh..opq", "b/.wh..wh..opq"}}, []string{"b=b 0644"}},
		{"a link deleted, and a directory through it", [][]string{base[9:], {".wh.link", "link/", "link/x"}}, []string{"link/ 0755", "link/x=link/x 0644"}},
		{"a whiteout of nothing", [][]string{base[5:6], {"x/.wh.y", ".wh.z"}}, []string{"b=b 0644"}},
		{"unlisted parents", [][]string{base[6:9], {"tmp/x", "closed/y", "new/z"}}, []string{"closed/ 0700", "closed/x=closed/x 0644", "closed/y=closed/y 0644", "new/ 0755", "new/z=new/z 0644", "tmp/ 1777", "tmp/x=tmp/x 0644"}},
		{"unlisted parents, two layers down", [][]string{base[6:8], {"other"}, {"closed/y"}}, []string{"closed/ 0700", "closed/y=closed/y 0644", "other=other 0644", "tmp/ 1777"}},
		{"an unlisted parent that was deleted between", [][]string{base[7:9], {".wh.closed"}, {"closed/y"}}, []string{"closed/ 0755", "closed/y=closed/y 0644"}},
		{"a hard link to a lower layer", [][]string{base[5:6], {"dir/c => b"}}, []string{"b=b 0644", "dir/ 0755", "dir/c=b 0644"}},
		{"a hard link whose parent has no entry", [][]string{{"x/y", "z/w => x/y"}}, []string{"x/ 0755", "x/y=x/y 0644", "z/ 0755", "z/w=x/y 0644"}},
		{"twice the same", [][]string{{"f 0600", "d/", "d/x", "f", "d", "e -> f", "e/"}}, []string{"d=d 0644", "e/ 0755", "f=f 0644"}},
		{"a directory in place of a link that was gone through", [][]string{{"e/", "d -> e", "d/x", "d/", "d/y"}}, []string{"d/ 0755", "d/y=d/y 0644", "e/ 0755", "e/x=d/x 0644"}},
		{"what AUFS kept", [][]string{{".wh..wh.plnk/", ".wh..wh.plnk/1.2", ".wh..wh.aufs", "f"}}, []string{"f=f 0644"}},
		{"an absolute name and dots", [][]string{{"./", "/ko/app", "./b//c"}}, []string{"b/ 0755", "b/c=./b//c 0644", "ko/ 0755", "ko/app=/ko/app 0644"}},
		{"through a link that stays inside", [][]string{{"usr/", "usr/lib/", "lib -> usr/lib", "lib/x"}}, []string{"lib -> usr/lib", "usr/ 0755", "usr/lib/ 0755", "usr/lib/x=lib/x 0644"}},
		{"a FIFO and a device", [][]string{{"p| 0600", "null:char 1:3 0666"}}, []string{"null Dc--------- 0666", "p p--------- 0600"}},
	} {
		t.Run(c.summary, func(t *testing.T) {
			var layers [][]byte
			for _, l := range c.layers {
				layers = append(layers, pack(t, l...))
			}
			got := merged(t, unpackAll(t, layers...))
			if !slices.Equal(got, c.want) {
				t.Errorf("merged:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// A hostile layer is refused, and nothing outside of its directory changes.
func TestHostileLayers(t *testing.T) {
	roottest.Need(t)
	for _, c := range []struct {
		summary string
		entries []string
		want    string
	}{
		{"dots", []string{"../evil"}, "leaves the root"},
		{"dots inside", []string{"a/../../evil"}, "leaves the root"},
		{"through an absolute link", []string{"out -> OUTSIDE", "out/evil"}, "leaves the root through a link"},
		{"through a climbing link", []string{"out -> ../outside", "out/evil"}, "leaves the root through a link"},
		{"a directory over a link", []string{"d/", "d/out -> OUTSIDE", "d/out/evil/"}, "leaves the root through a link"},
		{"through /proc", []string{"out -> /proc/self/root/tmp", "out/evil"}, "leaves the root through a link"},
		{"a hard link out", []string{"l => ../outside/victim"}, "leaves the root"},
		{"a hard link through a link", []string{"out -> OUTSIDE", "l => out/victim"}, "leaves the root through a link"},
		{"a hard link to nothing", []string{"l => OUTSIDE/victim"}, "no such file"},
		{"a hard link to a directory", []string{"d/", "l => d"}, "operation not permitted"},
		{"a whiteout through a link", []string{"out -> OUTSIDE", "out/.wh.victim"}, "leaves the root through a link"},
		{"an opaque marker in a link", []string{"out -> OUTSIDE", "out/.wh..wh..opq"}, ""}, // has no effect
		{"a whiteout of dots", []string{".wh..."}, "not a whiteout"},
		{"a whiteout device", []string{"x:char +0:0"}, "would delete a file"},
		{"a link that replaces a directory", []string{"d/", "d -> OUTSIDE", "d/evil"}, "leaves the root through a link"},
		{"a file as a directory", []string{"f", "f/evil"}, "is no directory"},
		{"a name that is too long", []string{strings.Repeat("n", 256)}, "file name too long"},
	} {
		t.Run(c.summary, func(t *testing.T) {
			at := t.TempDir()
			outside, dir := filepath.Join(at, "outside"), filepath.Join(at, "layer")
			for _, d := range []string{outside, dir} {
				if err := os.Mkdir(d, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(outside+"/victim", []byte("as before"), 0o600); err != nil {
				t.Fatal(err)
			}
			var entries []string
			for _, e := range c.entries {
				entries = append(entries, strings.ReplaceAll(e, "OUTSIDE", outside))
			}
			l, err := Unpack(t.Context(), dir, bytes.NewReader(pack(t, entries...)), true, plenty())
			if err == nil {
				err = l.Finish(nil)
				l.Close()
			}
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
			var st unix.Stat_t
			if err := unix.Lstat(outside+"/victim", &st); err != nil || st.Nlink != 1 {
				t.Errorf("the file outside: %v, %d links", err, st.Nlink)
			}
			if b, _ := os.ReadFile(outside + "/victim"); string(b) != "as before" {
				t.Errorf("the file outside holds %q", b)
			}
			if files, _ := os.ReadDir(outside); len(files) != 1 {
				t.Errorf("outside: %v", files)
			}
			if n, _ := unix.Getxattr(outside, opaqueXattr, nil); n > 0 {
				t.Error("the directory outside was made opaque")
			}
		})
	}
}

// Replacing things again and again costs the same however many directories there are: a layer with
// many of both does not take hours.
func TestReplacedOften(t *testing.T) {
	roottest.Need(t)
	var entries []string
	for range 100 {
		entries = append(entries, "f", "f -> d", "f/")
	}
	stream := pack(t, append(entries, "f/x/", "f")...)
	took := map[int]time.Duration{}
	for _, directories := range []int{0, 300_000} {
		l, err := newLayer(roottest.TempDir(t, "/dev/shm"), plenty())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for i := range directories { // as if there were entries of them
			l.times[fmt.Sprintf("d/%d", i)] = when{}
		}
		began := time.Now()
		for r := tar.NewReader(bytes.NewReader(stream)); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			if err == nil {
				err = l.entry(h, r, true)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		took[directories] = time.Since(began)
		if l.forgetRemoved(); len(l.times) != directories {
			t.Errorf("%d directories are remembered, want %d", len(l.times), directories)
		}
	}
	if few, many := took[0], took[300_000]; many > 10*few+100*time.Millisecond {
		t.Errorf("took %v, without directories %v", many, few)
	}
}

// Owner, mode, times and extended attributes arrive; set-user-ID and capabilities outlive the
// change of owner.
func TestAttributes(t *testing.T) {
	roottest.Need(t)
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	when := time.Unix(1234567890, 123456789)
	long := strings.Repeat("d/", 150) + strings.Repeat("n", 255)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []*tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o751, ModTime: when},
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o2750, Uid: 5, Gid: 6, ModTime: when, PAXRecords: map[string]string{"SCHILY.xattr.user.note": "dir"}},
		{Name: "d/ping", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 1000, Gid: 70000, Size: 4, ModTime: when, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.user.overlay.opaque": "y"}},
		{Name: "d/to", Typeflag: tar.TypeSymlink, Linkname: "ping", Uid: 7, Gid: 8, ModTime: when},
		{Name: long, Typeflag: tar.TypeReg, Mode: 0o600, ModTime: when, Format: tar.FormatPAX},
	} {
		h.Format = tar.FormatPAX
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, "ping"[:h.Size])
	}
	w.Close()
	dir := t.TempDir()
	l, err := Unpack(t.Context(), dir, &b, true, plenty())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Finish(nil); err != nil {
		t.Fatal(err)
	}
	if !l.HasRoot || l.HighestID != 70000 || l.HighestIDPath != "/d/ping" || l.Size != 4 || l.Dropped != 2 {
		t.Errorf("layer: %+v", l)
	}
	for _, c := range []struct {
		name     string
		mode     uint32
		uid, gid uint32
	}{{".", unix.S_IFDIR | 0o751, 0, 0}, {"d", unix.S_IFDIR | 0o2750, 5, 6}, {"d/ping", unix.S_IFREG | 0o4755, 1000, 70000}, {"d/to", unix.S_IFLNK | 0o777, 7, 8}, {long, unix.S_IFREG | 0o600, 0, 0}} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, c.name), &st); err != nil {
			t.Error(err)
			continue
		}
		if st.Mode != c.mode || st.Uid != c.uid || st.Gid != c.gid || time.Unix(st.Mtim.Unix()) != when {
			t.Errorf("%s: mode %o, owner %d:%d, time %v", c.name, st.Mode, st.Uid, st.Gid, time.Unix(st.Mtim.Unix()))
		}
	}
	value := make([]byte, 100)
	n, err := unix.Lgetxattr(dir+"/d/ping", "security.capability", value)
	if err != nil || string(value[:n]) != capability {
		t.Errorf("capabilities: %q, %v", value[:max(n, 0)], err)
	}
	for _, name := range []string{"trusted.overlay.redirect", "user.overlay.opaque"} {
		if n, err := unix.Lgetxattr(dir+"/d/ping", name, value); err == nil {
			t.Errorf("%s was taken over: %q", name, value[:n])
		}
	}
	if n, err := unix.Lgetxattr(dir+"/d", "user.note", value); err != nil || string(value[:n]) != "dir" {
		t.Errorf("attribute of the directory: %q, %v", value[:max(n, 0)], err)
	}
}

// An attribute that the file system can't hold fails the layer and is named.
func TestAttributeNotSupported(t *testing.T) {
	roottest.Need(t)
	at := roottest.TempDir(t, "/tmp")
	if err := unix.Mount("ramfs", at, "ramfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(at, 0)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Name: "bin/ping", Typeflag: tar.TypeReg, Format: tar.FormatPAX, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "x"}})
	w.Close()
	_, err := Unpack(t.Context(), at, &b, true, plenty())
	if err == nil || !strings.Contains(err.Error(), `"bin/ping": set extended attribute "security.capability"`) {
		t.Errorf("unpack: %v", err)
	}
}

// What claims or holds too much is refused before it is written.
func TestBudget(t *testing.T) {
	roottest.Need(t)
	for _, c := range []struct {
		summary        string
		bytes, entries int64
		header         tar.Header
		want           LimitError
	}{
		{"a tebibyte that is claimed", 1 << 30, 10, tar.Header{Name: "huge", Size: 1 << 40}, LimitError{"huge", "bytes", 1 << 30}},
		{"entries", 1 << 30, 1, tar.Header{Name: "second"}, LimitError{"second", "entries", 1}},
		{"the sum", 5, 10, tar.Header{Name: "sum", Size: 3}, LimitError{"sum", "bytes", 5}},
	} {
		t.Run(c.summary, func(t *testing.T) {
			budget := Budget{Bytes: c.bytes, Entries: c.entries}
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			w.WriteHeader(&tar.Header{Name: "first", Typeflag: tar.TypeReg, Size: 3, Mode: 0o600})
			io.WriteString(w, "one")
			c.header.Typeflag = tar.TypeReg
			w.WriteHeader(&c.header)
			w.Flush()
			dir := t.TempDir()
			_, err := Unpack(t.Context(), dir, &b, true, &budget)
			var limit *LimitError
			if !errors.As(err, &limit) || *limit != c.want {
				t.Errorf("%v, want %+v", err, c.want)
			}
			if _, err := os.Stat(filepath.Join(dir, c.header.Name)); err == nil {
				t.Error("it was made")
			}
		})
	}
}

// Zeros become holes, wherever they stand, and every byte arrives.
func TestSparse(t *testing.T) {
	roottest.Need(t)
	content := make([]byte, 5<<20+7)
	for _, at := range []int{0, 100000, 1<<20 - 1, 3 << 20, 5<<20 + 5} {
		content[at] = byte(at) | 1
	}
	for _, size := range []int{0, 1, largeHole, largeHole + 1, 1<<20 + 5, 4 << 20, len(content)} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		w.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, Size: int64(size), Mode: 0o600})
		w.Write(content[:size])
		w.Close()
		dir := t.TempDir()
		l, err := Unpack(t.Context(), dir, &b, true, plenty())
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		got, err := os.ReadFile(dir + "/f")
		if err != nil || !bytes.Equal(got, content[:size]) {
			t.Errorf("%d bytes: differs, %v", size, err)
		}
		var st unix.Stat_t
		if err := unix.Stat(dir+"/f", &st); err != nil || size > 1<<20 && st.Blocks*512 > 1<<20 {
			t.Errorf("%d bytes take %d on disk, %v", size, st.Blocks*512, err)
		}
	}
}

// A stream that ends early is no layer.
func TestTruncated(t *testing.T) {
	roottest.Need(t)
	whole := pack(t, "a/", "a/one", "b")
	for _, n := range []int{100, 512, 1024, 1024 + 3, 1536 + 300} {
		if l, err := Unpack(t.Context(), t.TempDir(), bytes.NewReader(whole[:n]), true, plenty()); err == nil && n%512 != 0 {
			l.Close()
			t.Errorf("the first %d bytes were taken for a layer", n)
		} else if err == nil {
			l.Close()
		}
	}
}
