package reconcile

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"stead/reconcile/source"
	"stead/spec"

	"go.uber.org/goleak"

	"stead/runtime/roottest"
)

// TestHostConverges does what people and tools do to a directory, at random and
// without a pause, while the loop runs: at the end the host matches.
func TestHostConverges(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent()) // of tests before
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	root := t.TempDir()
	dir := filepath.Join(root, "m")
	want := map[string]int64{} // pids limit by container: the last good word
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(dir, 0o755))
	for i := range 10 { // so that what is removed is never most
		name := fmt.Sprintf("fixed-%d", i)
		must(os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(yaml(name, "resources: {pids: 1}")), 0o644))
		want[name] = 1
	}
	rt := newFake()
	e := newEngine(&source.Source{Dirs: []string{dir}, Parser: spec.Parser{}}, rt)
	e.Settle = -1
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = e.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	where := map[string]string{} // the file of each container
	for step := range 400 {
		name := fmt.Sprintf("c%d", random.IntN(6))
		pids := int64(step + 1)
		text := yaml(name, fmt.Sprintf("resources: {pids: %d}", pids))
		path := where[name]
		if path == "" {
			path = filepath.Join(dir, name+".yaml")
		}
		switch random.IntN(7) {
		case 0: // in place, in two writes
			f, err := os.Create(path)
			must(err)
			_, err = f.WriteString(text[:len(text)/2])
			must(err)
			_, err = f.WriteString(text[len(text)/2:])
			must(err)
			must(f.Close())
			where[name], want[name] = path, pids
		case 1: // by rename
			must(os.WriteFile(path+".tmp", []byte(text), 0o644))
			must(os.Rename(path+".tmp", path))
			where[name], want[name] = path, pids
		case 2: // gone
			if where[name] != "" {
				must(os.Remove(path))
				delete(where, name)
				delete(want, name)
			}
		case 3: // moved to a folder, perhaps a new one
			if where[name] != "" {
				to := filepath.Join(dir, fmt.Sprintf("f%d", random.IntN(3)), name+".yaml")
				must(os.MkdirAll(filepath.Dir(to), 0o755))
				must(os.Rename(path, to))
				where[name] = to
			}
		case 4: // broken for a while
			if where[name] != "" {
				must(os.WriteFile(path, []byte(text[:20]), 0o644))
				must(os.WriteFile(path, []byte(text), 0o644))
				want[name] = pids
			}
		case 5: // the whole directory is swapped
			must(os.Rename(dir, dir+".old"))
			must(os.Rename(dir+".old", dir))
		case 6:
			time.Sleep(time.Duration(random.IntN(15)) * time.Millisecond)
		}
	}
	matches := func() bool {
		list := rt.List()
		for _, st := range list {
			limit := st.Applied.Spec.Resources.Pids
			if limit == nil || want[st.Name] != *limit || st.From.File != where[st.Name] && where[st.Name] != "" {
				return false
			}
		}
		return len(list) == len(want)
	}
	for deadline := time.Now().Add(roottest.Patience); !matches(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r, _ := e.Status(t.Context())
			t.Fatalf("want %v\ngot %+v\nreport %+v", want, rt.List(), r)
		}
	}
}
