package source

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"stead/runtime/roottest"
)

// awaken waits for a wake-up, or fails.
func awaken(t *testing.T, s *Source, why string) {
	t.Helper()
	select {
	case <-s.Wake():
	case <-time.After(roottest.Patience):
		t.Fatalf("not woken: %s", why)
	}
}

// quiet reads until nothing wakes any more, so that what comes next is new.
func quiet(s *Source) *Reading {
	r := s.Read()
	for {
		select {
		case <-s.Wake():
			r = s.Read()
		case <-time.After(30 * time.Millisecond):
			return r
		}
	}
}

func TestChangesWake(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, story := range []struct {
		summary string
		before  map[string]string
		change  func(root string) error
		then    func(root string) error // a second change, noticed too
		want    string
	}{
		{
			summary: "a new file",
			before:  map[string]string{"m/a.yaml": "a"},
			change:  func(root string) error { return os.WriteFile(root+"/m/b.yaml", []byte("b"), 0o644) },
			want:    "m/a.yaml: a\nm/b.yaml: b\n",
		},
		{
			summary: "a file in a new subfolder",
			before:  map[string]string{"m/a.yaml": "a"},
			change:  func(root string) error { return os.Mkdir(root+"/m/sub", 0o755) },
			then:    func(root string) error { return os.WriteFile(root+"/m/sub/b.yaml", []byte("b"), 0o644) },
			want:    "m/a.yaml: a\nm/sub/b.yaml: b\n",
		},
		{
			summary: "the directory is replaced, then changed",
			before:  map[string]string{"m/a.yaml": "a", "new/b.yaml": "b"},
			change: func(root string) error {
				if err := os.Rename(root+"/m", root+"/old"); err != nil {
					return err
				}
				return os.Rename(root+"/new", root+"/m")
			},
			then: func(root string) error { return os.WriteFile(root+"/m/c.yaml", []byte("c"), 0o644) },
			want: "m/b.yaml: b\nm/c.yaml: c\n",
		},
		{
			summary: "the directory is moved away and back, then changed",
			before:  map[string]string{"m/a.yaml": "a"},
			change: func(root string) error {
				if err := os.Rename(root+"/m", root+"/away"); err != nil {
					return err
				}
				return os.Rename(root+"/away", root+"/m")
			},
			then: func(root string) error { return os.WriteFile(root+"/m/b.yaml", []byte("b"), 0o644) },
			want: "m/a.yaml: a\nm/b.yaml: b\n",
		},
		{
			summary: "the directory appears later, by several steps",
			before:  map[string]string{"other/x": ""},
			change:  func(root string) error { return os.MkdirAll(root+"/m", 0o755) },
			then:    func(root string) error { return os.WriteFile(root+"/m/a.yaml", []byte("a"), 0o644) },
			want:    "m/a.yaml: a\n",
		},
		{
			summary: "a link on the way is turned, as git-sync does",
			before:  map[string]string{"v1/a.yaml": "a1", "v2/a.yaml": "a2", "m": "-> v1", "tmp": "-> v2"},
			change:  func(root string) error { return os.Rename(root+"/tmp", root+"/m") },
			then:    func(root string) error { return os.WriteFile(root+"/v2/b.yaml", []byte("b"), 0o644) },
			want:    "m/a.yaml: a2\nm/b.yaml: b\n",
		},
		{
			summary: "the file that a link leads to is replaced",
			before:  map[string]string{"m/a.yaml": "-> ../else/a.yaml", "else/a.yaml": "a1", "else/new": "a2"},
			change:  func(root string) error { return os.Rename(root+"/else/new", root+"/else/a.yaml") },
			want:    "m/a.yaml: a2\n",
		},
	} {
		t.Run(story.summary, func(t *testing.T) {
			root, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			tree(t, root, story.before)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := &Source{Dirs: []string{root + "/m"}, Parser: lines{}}
			s.Watch(ctx)
			for _, change := range []func(string) error{story.change, story.then} {
				if change == nil {
					continue
				}
				if r := quiet(s); r.Unwatched != nil {
					t.Fatal(r.Unwatched)
				}
				if err := change(root); err != nil {
					t.Fatal(err)
				}
				awaken(t, s, story.summary)
			}
			readTo(t, s, root, story.want)
			// Renew builds everything again and finds the same.
			s.Renew()
			if got := tell(root, s.Read()); got != story.want {
				t.Errorf("after Renew got:\n%swant:\n%s", got, story.want)
			}
		})
	}
}

func TestNoiseDoesNotWake(t *testing.T) {
	root := t.TempDir()
	tree(t, root, map[string]string{"m/a.yaml": "a"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := &Source{Dirs: []string{root + "/m"}, Parser: lines{}}
	s.Watch(ctx)
	quiet(s)
	tree(t, root, map[string]string{"beside": "x", "m/.a.yaml.swp": "x", "m/4913": "x"})
	tree(t, root, map[string]string{"m/z.yaml": "z"})
	awaken(t, s, "a file that counts")
	select { // all four came in order; one of them counted
	case <-s.Wake():
		// z.yaml gives two events, created and written: both are its own.
	case <-time.After(30 * time.Millisecond):
	}
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	if n := len(s.watch.watchedDirs); n != 2 {
		t.Errorf("%d directories watched, want the directory and its parent", n)
	}
}

func TestWithoutInotifyItSaysSoAndReads(t *testing.T) {
	root := t.TempDir()
	tree(t, root, map[string]string{"a.yaml": "a"})
	var out strings.Builder
	s := &Source{Dirs: []string{root}, Parser: lines{}, Log: slog.New(slog.NewTextHandler(&out, nil))}
	s.watch = &watch{watchedDirs: map[string]*watchedDir{}, err: explainLimit(unix.EMFILE)}
	for range 3 {
		s.Renew()
		r := s.Read()
		if r.Unwatched == nil || tell(root, r) != "a.yaml: a\n" {
			t.Errorf("unwatched: %v, read:\n%s", r.Unwatched, tell(root, r))
		}
	}
	if n := strings.Count(out.String(), "raise fs.inotify.max_user_instances"); n != 1 {
		t.Errorf("said %d times, want once:\n%s", n, &out)
	}
}
