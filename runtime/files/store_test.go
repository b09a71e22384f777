package files

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"stead/runtime/roottest"
)

func TestMain(m *testing.M) { os.Exit(roottest.Main(m)) }

func newStore(t *testing.T) *Store {
	roottest.Need(t)
	s := &Store{Dir: roottest.TempDir(t, "/dev/shm") + "/files", Base: "/inside"}
	if err := s.Mount(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, id := range s.Runs() {
			if err := s.Remove(id); err != nil {
				t.Error(err)
			}
		}
		if err := s.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func directory(names ...string) *Content {
	c := &Content{Dir: true, Items: []Item{{Dir: true, Mode: 0o755}}}
	for _, name := range names {
		c.Items = append(c.Items, Item{Name: name, Mode: 0o644, Data: []byte(name)})
	}
	return c
}

func write(t *testing.T, s *Store, entries ...Entry) (wrote []string) {
	t.Helper()
	for i := range entries {
		entries[i].Sum = entries[i].Content.Sum(Key{}, true)
	}
	now, wrote, err := s.Write("web.1", entries, 1000)
	if err == nil {
		err = s.Record("web.1", now)
	}
	if err != nil {
		t.Fatal(err)
	}
	return wrote
}

// listed are the names in a directory.
func listed(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// Only what differs is written, names that are gone go, and an old version of a directory goes
// once nobody can be on the way into it.
func TestWrite(t *testing.T) {
	s := newStore(t)
	file := Entry{Path: "/b", Content: Text("x"), Sum: Text("x").Sum(Key{}, true), UID: 7}
	if got := write(t, s, Entry{Path: "/a", Content: directory("one", "two")}, file); !slices.Equal(got, []string{"/a", "/b"}) {
		t.Errorf("wrote %q at first", got)
	}
	if got := write(t, s, file, Entry{Path: "/a", Content: directory("one", "two")}); got != nil {
		t.Errorf("wrote %q again", got)
	}
	if got := write(t, s, Entry{Path: "/a", Content: directory("one", "three")}, file); !slices.Equal(got, []string{"/a"}) {
		t.Errorf("wrote %q of a changed directory", got)
	}
	top := s.DataDir("web.1") + "/0"
	if got := listed(t, top); got != "..0 ..1 ..data one three" {
		t.Errorf("the directory has %s", got)
	}
	old := time.Now().Add(-time.Hour)
	os.Chtimes(top+"/..0", old, old)
	states, err := s.States("web.1")
	if err == nil {
		err = s.Tidy("web.1", states)
	}
	if got := listed(t, top); err != nil || got != "..1 ..data one three" {
		t.Errorf("later the directory has %s (%v)", got, err)
	}
	os.MkdirAll(top+"/..2/half", 0o755) // of a process that died
	write(t, s, Entry{Path: "/a", Content: directory("four")}, file)
	if b, err := os.ReadFile(top + "/four"); err != nil || string(b) != "four" {
		t.Errorf("after a write that was cut short: %q %v", b, err)
	}
	if _, _, err := s.Write("web.1", []Entry{{Path: "/a", Content: Text("x")}}, 0); err == nil || !strings.Contains(err.Error(), "needs a restart") {
		t.Errorf("a directory that became a file: %v", err)
	}
	if now, wrote, err := s.Write("web.1", []Entry{{Path: "/a", Content: Text("x"), Keep: true}, file}, 0); err != nil || wrote != nil || now["/a"] != mustStates(t, s)["/a"] {
		t.Errorf("what is to be kept: %v %q %v", now, wrote, err)
	}
}

func mustStates(t *testing.T, s *Store) States {
	t.Helper()
	states, err := s.States("web.1")
	if err != nil {
		t.Fatal(err)
	}
	return states
}

// A directory that changes all the time does not fill the memory.
func TestOldVersionsAreFew(t *testing.T) {
	s := newStore(t)
	for i := range 20 {
		c := directory("a")
		c.Items[1].Data = make([]byte, maxOld/4)
		c.Items[1].Data[0] = byte(i)
		write(t, s, Entry{Path: "/a", Content: c})
	}
	if n := len(strings.Fields(listed(t, s.DataDir("web.1")+"/0"))); n > 7 {
		t.Errorf("%d entries are left", n)
	}
}

// The key stays, and a sum depends on names, kinds, data and, if asked for, modes.
func TestSum(t *testing.T) {
	dir := t.TempDir()
	key, err := OpenKey(dir, false)
	again, err2 := OpenKey(dir, true)
	if err != nil || err2 != nil || key != again || key == (Key{}) {
		t.Errorf("%v %v, %v %v", key, again, err, err2)
	}
	if info, err := os.Stat(filepath.Join(dir, "files.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	seen := map[string]string{}
	for name, c := range map[string]*Content{
		"text": Text("x"), "another text": Text("y"), "empty": Text(""), "directory": directory("x"), "two": directory("x", "y"),
		"longer": {Items: []Item{{Mode: 0o444, Data: []byte("x\n\"\" false 444 0\n")}}}, "mode": {Items: []Item{{Mode: 0o400, Data: []byte("x")}}},
	} {
		sum := c.Sum(key, true)
		if seen[sum] != "" {
			t.Errorf("%s and %s have the same sum", name, seen[sum])
		}
		seen[sum] = name
	}
	if Text("x").Sum(key, false) != (&Content{Items: []Item{{Mode: 0o400, Data: []byte("x")}}}).Sum(key, false) {
		t.Error("the mode counts, though it should not")
	}
}
