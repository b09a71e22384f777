package reconcile

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"stead/reconcile/source"
	"stead/spec"
)

// stage is a host with real manifest directories and a runtime in memory, on
// which nothing happens but what the test does: after each step as many passes as
// find something to do.
type stage struct {
	t    *testing.T
	root string
	dir  string // the last manifest directory
	src  *source.Source
	rt   *fakeRuntime
	e    *Engine
	log  bytes.Buffer
}

// newStage has the directories root/NAME in that order, m if there are none, and
// the files below root; what they declare runs.
func newStage(t *testing.T, files map[string]string, dirs ...string) *stage {
	t.Helper()
	s := &stage{t: t, root: t.TempDir(), rt: newFake(), src: &source.Source{Parser: spec.Parser{}}}
	if len(dirs) == 0 {
		dirs = []string{"m"}
	}
	for _, dir := range dirs {
		s.dir = filepath.Join(s.root, dir)
		s.src.Dirs = append(s.src.Dirs, s.dir)
	}
	for name, content := range files {
		s.put(name, content)
	}
	for _, dir := range s.src.Dirs {
		s.must(os.MkdirAll(dir, 0o755)) // unless the files made it, or a link of that name
	}
	s.e = newEngine(s.src, s.rt)
	s.e.Log = slog.New(slog.NewTextHandler(&s.log, nil))
	s.e.init()
	s.settle()
	s.said()
	return s
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// put writes a file below root, in place; "-> " begins a link.
func (s *stage) put(name, content string) {
	s.t.Helper()
	path := filepath.Join(s.root, name)
	s.must(os.MkdirAll(filepath.Dir(path), 0o755))
	if target, isLink := strings.CutPrefix(content, "-> "); isLink {
		s.must(os.Symlink(target, path))
		return
	}
	s.must(os.WriteFile(path, []byte(content), 0o644))
}

// settle runs passes until one finds nothing to do.
func (s *stage) settle() {
	s.t.Helper()
	for range 10 {
		out := s.e.runPass(s.t.Context(), passOptions{})
		for _, j := range out.started {
			<-j.ended
		}
		if len(out.started) == 0 {
			return
		}
	}
	s.t.Fatal("ten passes, and still something to do")
}

// said are the calls of the runtime since it was last asked.
func (s *stage) said() string {
	s.rt.mu.Lock()
	defer s.rt.mu.Unlock()
	calls := s.rt.list
	s.rt.list = nil
	slices.Sort(calls)
	return strings.Join(calls, ", ")
}

// applied is a container's manifest as it runs.
func (s *stage) applied(name string) spec.Spec {
	s.t.Helper()
	st := s.rt.status(name)
	if st == nil {
		s.t.Fatalf("%s is not there", name)
	}
	return st.Applied.Spec
}

func (s *stage) why(name string) string { return viewOf(s.t, s.e, name).Why }
