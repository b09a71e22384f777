package source

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"stead/runtime/roottest"
)

// follower is a source that is watched, and the root that its directories are in.
func follower(t *testing.T, files map[string]string, dirs ...string) (*Source, string) {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tree(t, root, files)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	s := &Source{Parser: lines{}}
	for _, dir := range dirs {
		s.Dirs = append(s.Dirs, root+"/"+dir)
	}
	s.Watch(ctx)
	quiet(s)
	return s, root
}

// readTo reads, whenever something wakes, until the reading is what is wanted.
func readTo(t *testing.T, s *Source, root, want string) {
	t.Helper()
	end := time.After(roottest.Patience)
	for got := tell(root, s.Read()); got != want; got = tell(root, s.Read()) {
		select {
		case <-s.Wake():
		case <-end:
			t.Fatalf("read:\n%swant:\n%s", got, want)
		}
	}
}

// Whatever happens to the directories, a Source that remembers what it read before finds
// what one finds that reads everything for the first time.
func TestReadFindsWhatIsThere(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	choice := rand.New(rand.NewPCG(seed, 0))
	s, root := follower(t, map[string]string{"m/a.yaml": "a", "n/sub/b.yaml": "b", "else/a.yaml": "e"}, "m", "n", "missing")
	s.Trust = &Trust{}
	// No operation gets out of the test's directory through a link.
	inside, err := os.OpenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	places := []string{"m", "n", "m/sub", "n/sub", "m/a.container.d", "n/container.d", "else", "missing", "m/link", "n/a.yaml"}
	names := []string{"a.yaml", "b.yaml", "c.yml", "d.txt", ".hidden", "sub", "link"}
	path := func() string {
		return places[choice.IntN(len(places))] + "/" + names[choice.IntN(len(names))]
	}
	operations := []func() string{
		func() string {
			p := path()
			inside.WriteFile(p, fmt.Appendf(nil, "w%d", choice.IntN(4)), 0o644)
			return "write " + p
		},
		func() string {
			p := path()
			inside.WriteFile("else/new", []byte("r"), 0o644)
			inside.Rename("else/new", p)
			return "rename in " + p
		},
		func() string { p, q := path(), path(); inside.Rename(p, q); return "rename " + p + " " + q },
		func() string { p := path(); inside.Remove(p); return "remove " + p },
		func() string { p := filepath.Dir(path()); inside.MkdirAll(p, 0o755); return "mkdir " + p },
		func() string {
			p := filepath.Dir(path())
			inside.RemoveAll(p)
			return "remove all " + p
		},
		func() string { p := path(); inside.Symlink("../else/a.yaml", p); return "link " + p },
		func() string { p := path(); inside.Symlink("../else", p); return "link folder " + p },
		func() string { p := path(); inside.Symlink("/dev/null", p); return "mask " + p },
		func() string {
			p, mode := path(), []os.FileMode{0o644, 0o666, 0o755, 0o777}[choice.IntN(4)]
			if choice.IntN(2) == 0 {
				p = filepath.Dir(p)
			}
			if st, err := inside.Stat(p); err == nil && st.IsDir() {
				mode |= 0o700
			}
			inside.Chmod(p, mode)
			return fmt.Sprintf("chmod %o %s", mode, p)
		},
	}
	reader := &Source{Dirs: s.Dirs, Parser: lines{}, Trust: s.Trust}
	reader.Read()
	var done []string
	for range 400 {
		for range 1 + choice.IntN(3) {
			done = append(done, operations[choice.IntN(len(operations))]())
		}
		reader.Renew()
		want := tell(root, reader.Read())
		got := tell(root, s.Read())
		for end := time.After(roottest.Patience); got != want; got = tell(root, s.Read()) {
			select {
			case <-s.Wake():
			case <-end:
				t.Fatalf("after %q\nread:\n%swant:\n%s", done[max(0, len(done)-8):], got, want)
			}
		}
	}
}
