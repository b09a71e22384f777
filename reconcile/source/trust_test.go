package source

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"stead/runtime/roottest"
)

// TestTrust: who else can write a manifest, or a directory on the way to it.
func TestTrust(t *testing.T) {
	const other = 4242
	for _, story := range []struct {
		summary string
		root    bool // needs to be root
		files   map[string]string
		dir     string // of the manifests, "m" if empty
		owners  []uint32
		prepare func(root string) error
		want    string
	}{
		{summary: "all is as it should be", want: "m/a.yaml: a\nm/sub/b.yaml: b+1.yaml\n"},
		{summary: "a file that everybody can write", prepare: chmod("m/a.yaml", 0o666),
			want: "m/a.yaml: (ROOT/m/a.yaml can be written by others than its owner (mode 0666): chmod go-w ROOT/m/a.yaml)\nm/sub/b.yaml: b+1.yaml\n"},
		{summary: "a file that its group can write", prepare: chmod("m/sub/b.yaml", 0o660),
			want: "m/a.yaml: a\nm/sub/b.yaml: (ROOT/m/sub/b.yaml can be written by others than its owner (mode 0660): chmod go-w ROOT/m/sub/b.yaml)\n"},
		{summary: "a folder: nothing in it counts, and nothing missing from it is gone", prepare: chmod("m/sub", 0o775),
			want: "m! ROOT/m/sub can be written by others than its owner (mode 0775): chmod go-w ROOT/m/sub\n" +
				"m/a.yaml: a\nm/sub/b.yaml: (ROOT/m/sub can be written by others than its owner (mode 0775): chmod go-w ROOT/m/sub)\n"},
		{summary: "the directory, with the sticky bit or without", prepare: chmod("m", 0o777|os.ModeSticky),
			want: "m! ROOT/m can be written by others than its owner (mode 1777): chmod go-w ROOT/m\n" +
				"m/a.yaml: (ROOT/m can be written by others than its owner (mode 1777): chmod go-w ROOT/m)\n" +
				"m/sub/b.yaml: (ROOT/m can be written by others than its owner (mode 1777): chmod go-w ROOT/m)\n"},
		{summary: "a directory above", prepare: chmod(".", 0o777),
			want: "m! ROOT can be written by others than its owner (mode 0777): chmod go-w ROOT\n" +
				"m/a.yaml: (ROOT can be written by others than its owner (mode 0777): chmod go-w ROOT)\n" +
				"m/sub/b.yaml: (ROOT can be written by others than its owner (mode 0777): chmod go-w ROOT)\n"},
		{summary: "a directory above with the sticky bit", prepare: chmod(".", 0o777|os.ModeSticky), want: "m/a.yaml: a\nm/sub/b.yaml: b+1.yaml\n"},
		{summary: "a drop-in", prepare: chmod("m/b.container.d/1.yaml", 0o622),
			want: "m/a.yaml: a\nm/sub/b.yaml: b+1.yaml (m/b.container.d/1.yaml: ROOT/m/b.container.d/1.yaml can be written by others than its owner (mode 0622): chmod go-w ROOT/m/b.container.d/1.yaml)\n"},
		{summary: "a drop-in folder, even an empty one", prepare: func(root string) error {
			if err := os.Remove(root + "/m/b.container.d/1.yaml"); err != nil {
				return err
			}
			return chmod("m/b.container.d", 0o777)(root)
		}, want: "m/a.yaml: a\nm/sub/b.yaml: b+b.container.d (m/b.container.d: ROOT/m/b.container.d can be written by others than its owner (mode 0777): chmod go-w ROOT/m/b.container.d)\n"},
		{summary: "what a link leads to, and a directory on its way", files: map[string]string{"m/a.yaml": "-> ../else/a.yaml", "else/a.yaml": "a"}, prepare: chmod("else", 0o777),
			want: "m/a.yaml: (ROOT/else can be written by others than its owner (mode 0777): chmod go-w ROOT/else)\n"},
		{summary: "the way back out of a link", files: map[string]string{"m/a.yaml": "-> ../way/../a.yaml", "way": "-> open/d", "open/d/x": "", "open/a.yaml": "a", "a.yaml": "b"}, prepare: chmod("open", 0o777),
			want: "m/a.yaml: (ROOT/open can be written by others than its owner (mode 0777): chmod go-w ROOT/open)\n"},
		{summary: "a folder that a link leads to", files: map[string]string{"m/sub": "-> ../open/else", "open/else/a.yaml": "a"}, prepare: chmod("open", 0o777),
			want: "m! ROOT/open can be written by others than its owner (mode 0777): chmod go-w ROOT/open\nm/sub/a.yaml: (ROOT/open can be written by others than its owner (mode 0777): chmod go-w ROOT/open)\n"},
		{summary: "a link to the directory that others can turn", files: map[string]string{"open/m": "-> ../real", "real/a.yaml": "a"}, dir: "open/m", prepare: chmod("open", 0o777),
			want: "open/m! ROOT/open can be written by others than its owner (mode 0777): chmod go-w ROOT/open\nopen/m/a.yaml: (ROOT/open can be written by others than its owner (mode 0777): chmod go-w ROOT/open)\n"},
		{summary: "a file of somebody else", root: true, prepare: chown("m/a.yaml", other),
			want: "m/a.yaml: (ROOT/m/a.yaml belongs to user 4242, who is not trusted: chown root ROOT/m/a.yaml, or add the owner to trustedOwners)\nm/sub/b.yaml: b+1.yaml\n"},
		{summary: "a file of a trusted owner", root: true, owners: []uint32{other}, prepare: chown("m/a.yaml", other), want: "m/a.yaml: a\nm/sub/b.yaml: b+1.yaml\n"},
		{summary: "a directory of somebody else", root: true, prepare: chown("m/sub", other),
			want: "m! ROOT/m/sub belongs to user 4242, who is not trusted: chown root ROOT/m/sub, or add the owner to trustedOwners\n" +
				"m/a.yaml: a\nm/sub/b.yaml: (ROOT/m/sub belongs to user 4242, who is not trusted: chown root ROOT/m/sub, or add the owner to trustedOwners)\n"},
		{summary: "the sticky bit does not help where somebody else owns it", root: true, prepare: func(root string) error {
			if err := chmod(".", 0o777|os.ModeSticky)(root); err != nil {
				return err
			}
			return chown("m", other)(root)
		}, files: map[string]string{"m/a.yaml": "a"},
			want: "m! ROOT can be written by others than its owner (mode 1777): chmod go-w ROOT\nm/a.yaml: (ROOT can be written by others than its owner (mode 1777): chmod go-w ROOT)\n"},
	} {
		t.Run(story.summary, func(t *testing.T) {
			if story.root {
				roottest.Need(t)
			}
			root := t.TempDir()
			if err := os.Chmod(root, 0o755); err != nil {
				t.Fatal(err)
			}
			if story.files == nil {
				story.files = map[string]string{"m/a.yaml": "a", "m/sub/b.yaml": "b", "m/b.container.d/1.yaml": "{}"}
			}
			if story.dir == "" {
				story.dir = "m"
			}
			tree(t, root, story.files)
			s := &Source{Dirs: []string{root + "/" + story.dir}, Parser: lines{}, Trust: &Trust{Owners: story.owners}}
			s.Read() // what was read before is refused all the same
			if story.prepare != nil {
				if err := story.prepare(root); err != nil {
					t.Fatal(err)
				}
			}
			r := s.Read()
			if got := strings.ReplaceAll(tell(root, r), root, "ROOT"); got != story.want {
				t.Errorf("got:\n%swant:\n%s", got, story.want)
			}
			if s.Read() != r {
				t.Error("nothing is new, and yet another reading")
			}
			s.Trust = nil
			s.roots, s.last = nil, nil
			if got := tell(root, s.Read()); strings.Contains(got, "go-w") || strings.Contains(got, "trusted") {
				t.Errorf("without asking for it: %s", got)
			}
		})
	}
}

func chmod(name string, mode os.FileMode) func(string) error {
	return func(root string) error { return os.Chmod(root+"/"+name, mode) }
}

func chown(name string, uid int) func(string) error {
	return func(root string) error { return unix.Chown(root+"/"+name, uid, -1) }
}

// Nothing of a directory that others came to be able to write is followed, what
// was read before neither, until it is closed again.
func TestTrustIsLostAndRegained(t *testing.T) {
	root := t.TempDir()
	tree(t, root, map[string]string{"m/a.yaml": "a"})
	settle(t, root+"/m/a.yaml")
	s := &Source{Dirs: []string{root + "/m"}, Parser: lines{}, Trust: &Trust{}}
	s.Read()
	if err := os.Chmod(root+"/m", 0o777); err != nil {
		t.Fatal(err)
	}
	if f := s.Read().Files[0]; f.Err == nil {
		t.Errorf("followed while anybody can write it: %s", tell(root, s.last))
	}
	if err := os.Chmod(root+"/m", 0o755); err != nil {
		t.Fatal(err)
	}
	if got := tell(root, s.Read()); got != "m/a.yaml: a\n" {
		t.Errorf("closed again: %s", got)
	}
}

// Others can't mask a manifest either, by a device of their own: the mask counts as a
// broken file that stands for it.
func TestMaskOfOthers(t *testing.T) {
	roottest.Need(t)
	dir := t.TempDir()
	tree(t, dir, map[string]string{"a/team/web.yaml": "web", "b/team/x.txt": ""})
	if err := unix.Mknod(dir+"/b/team/web.yaml", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/b/team", "", "/.."} {
		defer os.Chmod(dir+path, 0o755)
		if err := os.Chmod(dir+path, map[bool]os.FileMode{true: 0o777, false: 0o755}[path == "/b/team"]); err != nil {
			t.Fatal(err)
		}
	}
	r := (&Source{Dirs: []string{dir + "/a", dir + "/b"}, Parser: lines{}, Trust: &Trust{}}).Read()
	if len(r.Files) != 1 || r.Files[0].Err == nil || r.Replaced[dir+"/a/team/web.yaml"] != r.Files[0] {
		t.Errorf("files %+v, replaced %+v", r.Files, r.Replaced)
	}
}
