package source

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stead/spec"
)

// lines is a manifest language of one word a document: the container's name. What
// is merged over it is told by the names of its files.
type lines struct{ parsed *int }

func (l lines) ParseWith(file string, data []byte, fragments func(string) []*spec.Fragment) []spec.Document {
	if l.parsed != nil {
		*l.parsed++
	}
	var docs []spec.Document
	for i, word := range strings.Fields(string(data)) {
		d := spec.Document{Index: i, Line: i + 1, Name: word}
		if word == "bad" {
			d.Name, d.Errors = "", []*spec.Error{{File: file, Line: i + 1, Message: "bad"}}
		} else {
			d.Container = &spec.Container{Metadata: spec.Metadata{Name: word}}
			for _, f := range fragments(word) {
				d.Container.Spec.Args = append(d.Container.Spec.Args, filepath.Base(f.File))
				d.Errors = append(d.Errors, f.Errors...)
			}
		}
		docs = append(docs, d)
	}
	return docs
}

// tree writes files below a temporary directory; contents beginning with "-> "
// are links.
func tree(t testing.TB, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, isLink := strings.CutPrefix(content, "-> "); isLink {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// tell prints a reading: a line per file with its names or its error, and what
// is replaced by what.
func tell(root string, r *Reading) string {
	var b strings.Builder
	for _, d := range r.Dirs {
		if d.Err != nil {
			fmt.Fprintf(&b, "%s! %v\n", strings.TrimPrefix(d.Path, root+"/"), d.Err)
		}
	}
	for _, f := range r.Files {
		fmt.Fprintf(&b, "%s:", strings.TrimPrefix(f.Path, root+"/"))
		for _, d := range f.Documents {
			fmt.Fprintf(&b, " %s", d.Name)
			if d.Container != nil && d.Container.Spec.Args != nil {
				fmt.Fprintf(&b, "+%s", strings.Join(d.Container.Spec.Args, "+"))
			}
			for _, e := range d.Errors {
				fmt.Fprintf(&b, " (%s)", strings.TrimPrefix(e.Error(), root+"/"))
			}
		}
		if f.Err != nil {
			fmt.Fprintf(&b, " (%s)", f.Err.Message)
		}
		if !f.Waiting.IsZero() {
			b.WriteString(" (waiting)")
		}
		if f.Writer != "" && f.Writer != f.Path {
			fmt.Fprintf(&b, " (for %s)", strings.TrimPrefix(f.Writer, root+"/"))
		}
		b.WriteByte('\n')
	}
	for _, path := range slices.Sorted(maps.Keys(r.Replaced)) {
		by := "masked"
		if f := r.Replaced[path]; f != nil {
			by = strings.TrimPrefix(f.Path, root+"/")
		}
		fmt.Fprintf(&b, "%s < %s\n", strings.TrimPrefix(path, root+"/"), by)
	}
	return b.String()
}

func TestWhichFilesCount(t *testing.T) {
	for _, story := range []struct {
		summary string
		dirs    []string
		files   map[string]string
		prepare func(root string) error
		want    string
	}{
		{
			summary: "yaml, yml and json, subfolders too, a folder named as a file is a folder",
			files:   map[string]string{"m/a.yaml": "a", "m/b.yml": "b", "m/c.json": "c", "m/sub/deep/d.yaml": "d", "m/x.yaml/e.yaml": "e", "m/README.md": "no"},
			want:    "m/a.yaml: a\nm/b.yml: b\nm/c.json: c\nm/sub/deep/d.yaml: d\nm/x.yaml/e.yaml: e\n",
		},
		{
			summary: "never what editors and package managers leave",
			files: map[string]string{
				"m/.hidden.yaml": "x", "m/a.yaml~": "x", "m/#a.yaml#": "x", "m/.a.yaml.swp": "x", "m/a.yaml.bak": "x",
				"m/4913": "x", "m/.git/config.yaml": "x", "m/old.bak/a.yaml": "x", "m/a.yaml": "a",
			},
			want: "m/a.yaml: a\n",
		},
		{
			summary: "several documents, an empty file, an error of one document",
			files:   map[string]string{"m/a.yaml": "a b", "m/b.yaml": "", "m/c.yaml": "c bad"},
			want:    "m/a.yaml: a b\nm/b.yaml: (no manifest in it; delete the file to remove its containers)\nm/c.yaml: c  (m/c.yaml:2: bad)\n",
		},
		{
			summary: "a later directory replaces the same path, a link to /dev/null masks it",
			dirs:    []string{"usr", "etc", "run"},
			files: map[string]string{
				"usr/a.yaml": "a-usr", "usr/b.yaml": "b-usr", "usr/s/c.yaml": "c-usr",
				"etc/a.yaml": "a-etc", "etc/s/c.yaml": "-> /dev/null", "run/d.yaml": "d-run",
			},
			want: "usr/b.yaml: b-usr\netc/a.yaml: a-etc\nrun/d.yaml: d-run\nusr/a.yaml < etc/a.yaml\nusr/s/c.yaml < masked\n",
		},
		{
			summary: "links to files and folders are followed, loops and loose ends are told",
			files: map[string]string{
				"m/a.yaml": "-> ../else/a.yaml", "m/folder": "-> ../else/folder", "m/loose.yaml": "-> nowhere", "m/loop/self": "-> ../../m",
				"else/a.yaml": "a", "else/folder/b.yaml": "b",
			},
			want: "m! loop/self: a link to a folder that it stands in\nm/a.yaml: a\nm/folder/b.yaml: b\nm/loose.yaml: (a link that leads nowhere)\n",
		},
		{
			summary: "a FIFO is not opened, a huge file is not read",
			files:   map[string]string{"m/big.yaml": strings.Repeat("x", spec.MaxFileSize+1)},
			prepare: func(root string) error { return unix.Mkfifo(root+"/m/fifo.yaml", 0o600) },
			want:    "m/big.yaml: (larger than 1024 KiB; split it into several files)\nm/fifo.yaml: (not a regular file: neither read nor followed)\n",
		},
		{
			summary: "a missing directory is told, the others are read",
			dirs:    []string{"gone", "m"},
			files:   map[string]string{"m/a.yaml": "a"},
			want:    "gone! no such file or directory\nm/a.yaml: a\n",
		},
	} {
		t.Run(story.summary, func(t *testing.T) {
			root := t.TempDir()
			tree(t, root, story.files)
			if story.prepare != nil {
				if err := story.prepare(root); err != nil {
					t.Fatal(err)
				}
			}
			if story.dirs == nil {
				story.dirs = []string{"m"}
			}
			s := &Source{Parser: lines{}}
			for _, d := range story.dirs {
				s.Dirs = append(s.Dirs, filepath.Join(root, d))
			}
			if got := tell(root, s.Read()); got != story.want {
				t.Errorf("got:\n%swant:\n%s", got, story.want)
			}
		})
	}
}

// settle makes a file old enough for its time stamp to be trusted.
func settle(t testing.TB, path string) {
	t.Helper()
	old := time.Now().Add(-time.Hour).Add(123456789)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	// The change time can't be set: wait until it is out of the racy window.
	time.Sleep(fineGranularity + 10*time.Millisecond)
}

func TestOnlyWhatChangedIsParsed(t *testing.T) {
	root := t.TempDir()
	tree(t, root, map[string]string{"a.yaml": "a", "b.yaml": "b"})
	parsed := 0
	s := &Source{Dirs: []string{root}, Parser: lines{&parsed}}
	first := s.Read()
	settle(t, filepath.Join(root, "a.yaml"))
	second := s.Read() // young stamps: read again, found to be the same bytes
	third := s.Read()
	if parsed != 2 || first != second || second != third {
		t.Errorf("parsed %d files, want 2; readings %p %p %p, want one", parsed, first, second, third)
	}
	tree(t, root, map[string]string{"a.yaml": "A"})
	changed := s.Read()
	if parsed != 3 || changed == third || changed.Files[1] != third.Files[1] {
		t.Errorf("parsed %d files, want 3; the unchanged file must be the same", parsed)
	}
}

func TestYoungTimeStampsProveNothing(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "a.yaml")
	tree(t, root, map[string]string{"a.yaml": "one"})
	s := &Source{Dirs: []string{root}, Parser: lines{}}
	s.Read()
	cached := s.roots[0].entries[0].file
	tree(t, root, map[string]string{"a.yaml": "two"})
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	cached.stamp = stampOf(&st) // as if both writes fell into one tick of the kernel's clock
	if got := tell(root, s.Read()); got != "a.yaml: two\n" {
		t.Errorf("got %q: the second write was missed", got)
	}
}

func TestWriterIsWaitedFor(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "a.yaml")
	tree(t, root, map[string]string{"a.yaml": "before"})
	s := &Source{Dirs: []string{root}, Parser: lines{}}
	s.Read()

	w, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "hal")
	r := s.Read()
	if got := tell(root, r); got != "a.yaml: before (waiting)\n" {
		t.Errorf("while it is written: got %q", got)
	}
	if r.Retry < minRetry || r.Retry > maxRetry {
		t.Errorf("look again after %v, want between %v and %v", r.Retry, minRetry, maxRetry)
	}
	fmt.Fprint(w, "f-and-half")
	w.Close()
	r = s.Read()
	if got := tell(root, r); got != "a.yaml: half-and-half\n" || r.Retry != 0 {
		t.Errorf("when it is closed: got %q, retry %v", got, r.Retry)
	}
	// The lease is gone: a writer that refuses to wait gets in.
	if fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK, 0); err != nil {
		t.Errorf("open for writing after the reading: %v", err)
	} else {
		unix.Close(fd)
	}
}

func TestRetryGrowsWithTheWait(t *testing.T) {
	now := time.Now()
	for waited, want := range map[time.Duration]time.Duration{
		0: minRetry, 30 * time.Millisecond: minRetry, time.Second: 250 * time.Millisecond, time.Minute: maxRetry, time.Hour: maxRetry,
	} {
		if got := retryAfter([]*File{{}, {Waiting: now.Add(-waited)}}, now); got != want {
			t.Errorf("after %v: look again after %v, want %v", waited, got, want)
		}
	}
}

func TestDirectoryComesBack(t *testing.T) {
	root := t.TempDir()
	tree(t, root, map[string]string{"m/a.yaml": "a"})
	s := &Source{Dirs: []string{root + "/m"}, Parser: lines{}}
	s.Read()
	if err := os.Rename(root+"/m", root+"/away"); err != nil {
		t.Fatal(err)
	}
	r := s.Read()
	if !r.Dirs[0].Missing() || len(r.Files) != 0 {
		t.Errorf("want a missing directory, got:\n%s", tell(root, r))
	}
	if r != s.Read() {
		t.Error("a directory that stays missing is the same reading")
	}
	if err := os.Rename(root+"/away", root+"/m"); err != nil {
		t.Fatal(err)
	}
	if got := tell(root, s.Read()); got != "m/a.yaml: a\n" {
		t.Errorf("back again: got %q", got)
	}
}

func BenchmarkReadNothingNew(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			root := b.TempDir()
			files := map[string]string{}
			for i := range n {
				files[fmt.Sprintf("web-%05d.yaml", i)] = fmt.Sprintf("web-%05d", i)
			}
			tree(b, root, files)
			s := &Source{Dirs: []string{root}, Parser: lines{}}
			s.Read()
			time.Sleep(2 * fineGranularity)
			first := s.Read()
			b.ReportAllocs()
			for b.Loop() {
				if s.Read() != first {
					b.Fatal("something is new")
				}
			}
		})
	}
}
