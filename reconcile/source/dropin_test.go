package source

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDropIns(t *testing.T) {
	for _, story := range []struct {
		summary string
		files   map[string]string // below the directories usr and etc
		prepare func(root string) error
		want    string
	}{
		{
			summary: "those for all first, then the container's own, each in the order of their names",
			files: map[string]string{
				"etc/a.yaml": "a b", "etc/container.d/50-all.yaml": "{}", "etc/container.d/90-all.yaml": "{}",
				"etc/a.container.d/10-a.yaml": "{}", "usr/a.container.d/05-a.yaml": "{}", "usr/container.d/70-all.yaml": "{}",
			},
			want: "etc/a.yaml: a+50-all.yaml+70-all.yaml+90-all.yaml+05-a.yaml+10-a.yaml b+50-all.yaml+70-all.yaml+90-all.yaml\n",
		},
		{
			summary: "they hang on the name, wherever its manifest stands",
			files:   map[string]string{"usr/team/shop/a.yaml": "a", "etc/a.container.d/10.yaml": "{}"},
			want:    "usr/team/shop/a.yaml: a+10.yaml\n",
		},
		{
			summary: "a later directory's replaces that of the same path, a link to /dev/null masks one",
			files: map[string]string{
				"usr/a.yaml": "a", "usr/a.container.d/10.yaml": "- bad", "etc/a.container.d/10.yaml": "{}",
				"usr/container.d/20.yaml": "{}", "etc/container.d/20.yaml": "-> /dev/null",
			},
			want: "usr/a.yaml: a+10.yaml\n",
		},
		{
			summary: "never what editors leave",
			files:   map[string]string{"etc/a.yaml": "a", "etc/a.container.d/10.yaml~": "{}", "etc/a.container.d/.10.yaml.swp": "x", "etc/a.container.d/README": "x"},
			want:    "etc/a.yaml: a\n",
		},
		{
			summary: "a broken one breaks what it is for, and nothing else",
			files:   map[string]string{"etc/a.yaml": "a", "etc/b.yaml": "b", "etc/a.container.d/10.yaml": "spec: {usr: x}"},
			want:    "etc/a.yaml: a+10.yaml (etc/a.container.d/10.yaml:1:8: spec.usr: unknown field; did you mean user?)\netc/b.yaml: b\n",
		},
		{
			summary: "what can't be read is a broken one too",
			files: map[string]string{
				"etc/ab.yaml": "a b c d", "etc/a.container.d": "-> nowhere", "etc/b.container.d/10.yaml": "-> nowhere", "etc/c.container.d/sub/10.yaml": "{}",
				"etc/d.container.d": "-> ../etc",
			},
			prepare: func(root string) error { return unix.Mkfifo(root+"/etc/c.container.d/20.yaml", 0o600) },
			want: "etc/ab.yaml: a+a.container.d (etc/a.container.d: a link that leads nowhere) b+10.yaml (etc/b.container.d/10.yaml: a link that leads nowhere)" +
				" c+20.yaml+sub (etc/c.container.d/20.yaml: not a regular file: neither read nor followed) (etc/c.container.d/sub: drop-in folders hold files only: move what is in it up) d+d.container.d (etc/d.container.d: can't be read: a link to a folder that it stands in)\n",
		},
		{
			summary: "a folder of such a name elsewhere is refused",
			files:   map[string]string{"etc/a.yaml": "a", "etc/sub/a.container.d/10.yaml": "{}"},
			want:    "etc/a.yaml: a\netc/sub/a.container.d: (the drop-in folder of one container stands directly in a manifest directory: move it up, or call it container.d for all whose manifests lie here)\n",
		},
		{
			summary: "a folder's own are for the manifests in it and below it, between those for all and the container's own",
			files: map[string]string{
				"etc/a.yaml": "a", "etc/team/b.yaml": "b", "etc/team/sub/c.yaml": "c", "etc/teams/d.yaml": "d",
				"etc/container.d/90-all.yaml": "{}", "etc/team/container.d/50-team.yaml": "{}", "etc/team/container.d/40-team.yaml": "{}",
				"etc/team/sub/container.d/10-sub.yaml": "{}", "etc/c.container.d/05-c.yaml": "{}",
			},
			want: "etc/a.yaml: a+90-all.yaml\netc/team/b.yaml: b+90-all.yaml+40-team.yaml+50-team.yaml\n" +
				"etc/team/sub/c.yaml: c+90-all.yaml+40-team.yaml+50-team.yaml+10-sub.yaml+05-c.yaml\netc/teams/d.yaml: d+90-all.yaml\n",
		},
		{
			summary: "a folder's own hold for the same folder of the other directories, and replace each other as manifests do",
			files: map[string]string{
				"usr/team/a.yaml": "a", "etc/team/container.d/10.yaml": "{}", "usr/team/container.d/10.yaml": "- bad", "usr/team/container.d/20.yaml": "{}",
				"usr/team/container.d/30.yaml": "{}", "etc/team/container.d/30.yaml": "-> /dev/null",
			},
			want: "usr/team/a.yaml: a+10.yaml+20.yaml\n",
		},
		{
			summary: "a broken one of a folder's own breaks what is in the folder, and nothing else",
			files:   map[string]string{"etc/a.yaml": "a", "etc/team/b.yaml": "b", "etc/team/container.d/10.yaml": "spec: {usr: x}"},
			want:    "etc/a.yaml: a\netc/team/b.yaml: b+10.yaml (etc/team/container.d/10.yaml:1:8: spec.usr: unknown field; did you mean user?)\n",
		},
		{
			summary: "nothing in a folder named *.files",
			files:   map[string]string{"etc/a.yaml": "a", "etc/a.files/b.yaml": "b", "etc/team/c.files/container.d/10.yaml": "{}", "etc/team/c.yaml": "c", "etc/a.files/container.d/10.yaml": "{}"},
			want:    "etc/a.yaml: a\netc/team/c.yaml: c\n",
		},
		{
			summary: "a file of such a name, and a name that no container can have",
			files:   map[string]string{"etc/a.yaml": "a A", "etc/a.container.d": "-> a.yaml", "etc/b.yaml": "b", "etc/b.container.d": "{}", "etc/A.container.d/10.yaml": "{}"},
			want: "etc/a.yaml: a+a.container.d (etc/a.container.d: not a folder: drop-ins are files in a folder of such a name) A+A.container.d (etc/A.container.d: no container can have that name)\n" +
				"etc/b.yaml: b+b.container.d (etc/b.container.d: not a folder: drop-ins are files in a folder of such a name)\n",
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
			s := &Source{Parser: lines{}}
			for _, d := range []string{"usr", "etc"} {
				_ = os.Mkdir(root+"/"+d, 0o755)
				s.Dirs = append(s.Dirs, filepath.Join(root, d))
			}
			r := s.Read()
			if got := tell(root, r); got != story.want {
				t.Errorf("got:\n%swant:\n%s", got, story.want)
			}
			if s.Read() != r {
				t.Error("nothing is new, and yet another reading")
			}
		})
	}
}

// TestDropInsChange takes one manifest beside others through the life of its drop-ins.
func TestDropInsChange(t *testing.T) {
	root := t.TempDir()
	tree(t, root, map[string]string{"usr/a.yaml": "a", "usr/b.yaml": "b", "etc/x": ""})
	parsed := 0
	s := &Source{Dirs: []string{root + "/usr", root + "/etc"}, Parser: lines{&parsed}}
	s.Read()
	var w *os.File
	for _, step := range []struct {
		what   string
		do     func() error
		want   string
		parses int
	}{
		{"one appears", func() error { tree(t, root, map[string]string{"etc/a.container.d/10.yaml": "{}"}); return nil },
			"usr/a.yaml: a+10.yaml\nusr/b.yaml: b\n", 1},
		{"nothing", func() error { return nil }, "usr/a.yaml: a+10.yaml\nusr/b.yaml: b\n", 0},
		{"it changes", func() error { tree(t, root, map[string]string{"etc/a.container.d/10.yaml": "spec: {}"}); return nil },
			"usr/a.yaml: a+10.yaml\nusr/b.yaml: b\n", 1},
		{"it is touched", func() error { return os.Chtimes(root+"/etc/a.container.d/10.yaml", time.Now(), time.Now()) },
			"usr/a.yaml: a+10.yaml\nusr/b.yaml: b\n", 0},
		{"it breaks", func() error { tree(t, root, map[string]string{"etc/a.container.d/10.yaml": "-"}); return nil },
			"usr/a.yaml: a+10.yaml (etc/a.container.d/10.yaml:1:1: found a list, want a map: a drop-in holds parts of metadata and spec)\nusr/b.yaml: b\n", 1},
		{"it is whole again", func() error { tree(t, root, map[string]string{"etc/a.container.d/10.yaml": "{}"}); return nil },
			"usr/a.yaml: a+10.yaml\nusr/b.yaml: b\n", 1},
		{"somebody writes to it", func() (err error) {
			w, err = os.OpenFile(root+"/etc/a.container.d/10.yaml", os.O_WRONLY|os.O_TRUNC, 0)
			return err
		}, "usr/a.yaml: a+10.yaml\nusr/b.yaml: b\n", 0},
		{"and is done", func() error { fmt.Fprint(w, "spec: {}"); return w.Close() }, "usr/a.yaml: a+10.yaml\nusr/b.yaml: b\n", 1},
		{"the directory goes away: nothing falls back", func() error { return os.Rename(root+"/etc", root+"/away") },
			"etc! no such file or directory\nusr/a.yaml: a+10.yaml\nusr/b.yaml: b\n", 0},
		{"and comes back", func() error { return os.Rename(root+"/away", root+"/etc") }, "usr/a.yaml: a+10.yaml\nusr/b.yaml: b\n", 1},
		{"a folder with its own", func() error {
			tree(t, root, map[string]string{"etc/team/c.yaml": "c", "etc/team/container.d/30.yaml": "{}"})
			return nil
		}, "usr/a.yaml: a+10.yaml\nusr/b.yaml: b\netc/team/c.yaml: c+30.yaml\n", 2}, // without it and with it
		{"which changes", func() error { tree(t, root, map[string]string{"etc/team/container.d/30.yaml": "spec: {}"}); return nil },
			"usr/a.yaml: a+10.yaml\nusr/b.yaml: b\netc/team/c.yaml: c+30.yaml\n", 1},
		{"the folder can't be read: nothing falls back", func() error { return os.Rename(root+"/etc", root+"/away") },
			"etc! no such file or directory\nusr/a.yaml: a+10.yaml\nusr/b.yaml: b\n", 0},
		{"and can again", func() error { return os.Rename(root+"/away", root+"/etc") }, "usr/a.yaml: a+10.yaml\nusr/b.yaml: b\netc/team/c.yaml: c+30.yaml\n", 3},
		{"it goes", func() error { return os.RemoveAll(root + "/etc/team/container.d") }, "usr/a.yaml: a+10.yaml\nusr/b.yaml: b\netc/team/c.yaml: c\n", 1},
		{"and all of the folder", func() error { return os.RemoveAll(root + "/etc/team") }, "usr/a.yaml: a+10.yaml\nusr/b.yaml: b\n", 0},
		{"one for all is begun, and not read before it is whole", func() (err error) {
			if err := os.Mkdir(root+"/usr/container.d", 0o755); err != nil {
				return err
			}
			w, err = os.Create(root + "/usr/container.d/all.yaml")
			return err
		}, "usr/a.yaml: a+10.yaml (waiting) (for usr/container.d/all.yaml)\nusr/b.yaml: b (waiting) (for usr/container.d/all.yaml)\n", 2},
		{"nothing of that is parsed again", func() error { time.Sleep(2 * fineGranularity); s.Read(); parsed = 0; return nil },
			"usr/a.yaml: a+10.yaml (waiting) (for usr/container.d/all.yaml)\nusr/b.yaml: b (waiting) (for usr/container.d/all.yaml)\n", 0},
		{"and is done", func() error { fmt.Fprint(w, "{}"); return w.Close() }, "usr/a.yaml: a+all.yaml+10.yaml\nusr/b.yaml: b+all.yaml\n", 2},
		{"it is moved away", func() error { return os.Rename(root+"/usr/container.d/all.yaml", root+"/all") }, "usr/a.yaml: a+10.yaml\nusr/b.yaml: b\n", 2},
		{"the folder goes", func() error { return os.RemoveAll(root + "/etc/a.container.d") }, "usr/a.yaml: a\nusr/b.yaml: b\n", 1},
	} {
		parsed = 0
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := tell(root, s.Read()); got != step.want || parsed != step.parses {
			t.Fatalf("%s: %d parsed, want %d; got:\n%swant:\n%s", step.what, parsed, step.parses, got, step.want)
		}
	}
}

func TestDropInsWake(t *testing.T) {
	root := t.TempDir()
	tree(t, root, map[string]string{"m/a.yaml": "a"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := &Source{Dirs: []string{root + "/m"}, Parser: lines{}}
	s.Watch(ctx)
	quiet(s)
	for _, step := range []struct {
		what string
		do   func() error
		want string
	}{
		{"a folder", func() error { return os.Mkdir(root+"/m/a.container.d", 0o755) }, "m/a.yaml: a\n"},
		{"a file in it", func() error { tree(t, root, map[string]string{"m/a.container.d/1.yaml": "{}"}); return nil }, "m/a.yaml: a+1.yaml\n"},
		{"renamed", func() error { return os.Rename(root+"/m/a.container.d/1.yaml", root+"/m/a.container.d/2.yaml") }, "m/a.yaml: a+2.yaml\n"},
		{"the folder renamed", func() error { return os.Rename(root+"/m/a.container.d", root+"/m/b.container.d") }, "m/a.yaml: a\n"},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		awaken(t, s, step.what)
		readTo(t, s, root, step.want)
	}
}
