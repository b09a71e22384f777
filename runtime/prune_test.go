package runtime

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stead/runtime/image"
	"stead/runtime/roottest"
	"stead/runtime/status"
)

// Images that nobody uses are deleted in a loop while others, with the same layers, are imported and
// started (pitfalls-images, row 10): nothing that is declared or starts is ever missing, and what
// nobody uses is gone at the end.
func TestPruneMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const rounds = 12
	declared := image.Declared{}
	for i := range rounds {
		declared[fmt.Sprintf("used-%d", i)] = []string{fmt.Sprintf("container c%d", i)}
	}
	dirs := filepath.Dir(w.o.StateDir)
	pruning, stop := context.WithCancel(ctx)
	var n atomic.Int64 // images that were pruned
	pruned := make(chan struct{})
	go func() {
		defer close(pruned)
		for pruning.Err() == nil {
			gone, err := w.images.Prune(pruning, declared)
			if err != nil && pruning.Err() == nil {
				t.Errorf("prune: %v", err)
			}
			n.Add(int64(len(gone)))
		}
	}()
	for i := range rounds {
		dir := fmt.Sprintf("%s/root-%d", dirs, i)
		for _, d := range []string{"usr", "proc", "sys", "dev", "tmp", "etc"} {
			w.must(os.MkdirAll(dir+"/"+d, 0o755))
		}
		for _, l := range []string{"bin", "lib", "lib64"} {
			w.must(os.Symlink("usr/"+l, dir+"/"+l))
		}
		w.must(os.WriteFile(dir+"/etc/passwd", []byte("root:x:0:0::/:/bin/sh\n"), 0o644))
		w.must(os.WriteFile(dir+"/etc/number", []byte(fmt.Sprintln(i)), 0o644))
		name := fmt.Sprintf("c%d", i)
		for _, as := range []string{fmt.Sprintf("junk-%d", i), fmt.Sprintf("used-%d", i)} { // one layer for both
			before := n.Load()
			if _, err := w.images.Import(ctx, as, dir, nil, image.Options{}); err != nil {
				t.Fatalf("import %s: %v", as, err)
			}
			// Each third goes before the other is imported; the others meet it at any moment.
			for end := time.Now().Add(roottest.Patience); i%3 == 0 && strings.HasPrefix(as, "junk") && n.Load() == before; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%s is never pruned", as)
				}
			}
		}
		m := parse(t, name, "rootfs: {image: used-"+fmt.Sprint(i)+"}\ncommand: [cat, /etc/number]\nmounts: {/usr: {source: /usr, readOnly: true}}\nrestart: {policy: never}")
		if _, err := w.Create(ctx, m, origin); err != nil {
			t.Fatal(err)
		}
		if s := w.await(name, status.Exited); s.Exit.Code != 0 || w.output(name) != fmt.Sprintln(i) {
			t.Fatalf("%s: %+v\n%s", name, s.Exit, w.output(name))
		}
		if i%2 == 0 {
			w.must(w.Remove(ctx, name))
		}
	}
	stop()
	<-pruned
	if _, err := w.images.Prune(ctx, declared); err != nil {
		t.Fatal(err)
	}
	all, err := w.images.List(declared)
	if err != nil {
		t.Fatal(err)
	}
	digests := map[string]bool{} // an image that is used keeps all its names
	for _, e := range all {
		digests[e.Digest] = true
	}
	layers, _ := filepath.Glob(w.images.LayersDir() + "/*.json")
	if len(digests) != rounds || len(layers) != rounds {
		t.Errorf("%d images and %d layers are left, want %d of each", len(digests), len(layers), rounds)
	}
}
