package reconcile

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"stead/reconcile/desired"
	"stead/reconcile/source"
	"stead/runtime/status"
	"stead/spec"
)

// manyManifests writes n manifests of usual size, and drop-ins: one for all, and
// one for each of the first few containers.
func manyManifests(b *testing.B, n, dropIns int) *source.Source {
	b.Helper()
	root := b.TempDir()
	write := func(path, text string) {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for i := range n {
		name := fmt.Sprintf("web-%05d", i)
		write(name+".yaml", yaml(name, "resources: {memory: 128Mi}", "env: {TZ: UTC, WORKERS: 4}"))
		if i < dropIns {
			write(name+".container.d/10.yaml", "spec: {resources: {pids: 100}}")
		}
	}
	if dropIns > 0 {
		write("container.d/10.yaml", "metadata: {labels: {fleet: shop}}")
	}
	return &source.Source{Dirs: []string{root}, Parser: spec.Parser{}, Trust: &source.Trust{}}
}

// manyContainers run from real files.
func manyContainers(b *testing.B, n, dropIns int) (*Engine, *source.Source) {
	src, rt := manyManifests(b, n, dropIns), newFake()
	for name, w := range desired.Declare(src.Read()).Combine(nil).Declared {
		rt.by[name] = &status.Status{Name: name, Applied: w.Spec, Fingerprint: w.Fingerprint, From: w.From, State: status.Running, Pid: 1}
	}
	e := newEngine(src, rt)
	e.Observer = &fixedList{fakeRuntime: rt, list: rt.List()}
	e.init()
	e.runPass(b.Context(), passOptions{})
	return e, src
}

// BenchmarkPassNothingToDo is a pass over real files that finds nothing to do.
// At 10,000 containers it may take 50 ms of CPU.
func BenchmarkPassNothingToDo(b *testing.B) {
	for _, size := range []struct{ n, dropIns int }{{1000, 0}, {10000, 0}, {10000, 1000}} {
		b.Run(fmt.Sprintf("%d-%d-drop-ins", size.n, size.dropIns), func(b *testing.B) {
			e, _ := manyContainers(b, size.n, size.dropIns)
			time.Sleep(100 * time.Millisecond) // for the time stamps to be old enough
			if out := e.runPass(b.Context(), passOptions{}); !out.plan.Empty() || len(e.Observer.List()) != size.n {
				b.Fatalf("something to do:\n%s", out.plan)
			}
			b.ReportAllocs()
			before := cpu()
			for b.Loop() {
				e.runPass(b.Context(), passOptions{})
			}
			b.ReportMetric(float64((cpu()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
		})
	}
}

// BenchmarkPassOneChange is a pass that a single changed manifest among many has
// woken: what an edit waits for must hardly grow with their number.
func BenchmarkPassOneChange(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e, src := manyContainers(b, n, 0)
			e.exec = newExecutor(e.Containers, nil, 1, func(*job) {}, func() {})
			src.Watch(b.Context())
			e.runPass(b.Context(), passOptions{})
			file := src.Dirs[0] + "/web-00000.yaml"
			b.ReportAllocs()
			var used time.Duration
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				e.exec.wg.Wait()
				if err := os.WriteFile(src.Dirs[0]+"/.new", []byte(yaml("web-00000", fmt.Sprintf("resources: {pids: %d}", 10+i))), 0o644); err != nil {
					b.Fatal(err)
				}
				if err := os.Rename(src.Dirs[0]+"/.new", file); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				before := cpu()
				for out := (*outcome)(nil); out == nil || len(out.plan.Actions) == 0; {
					<-src.Wake()
					out = e.runPass(b.Context(), passOptions{})
				}
				used += cpu() - before
			}
			b.ReportMetric(float64(used.Microseconds())/1000/float64(b.N), "cpu-ms/op")
		})
	}
}

// BenchmarkReadCold reads all manifests for the first time: at 10,000 it may take
// 2 s.
func BenchmarkReadCold(b *testing.B) {
	for _, dropIns := range []int{0, 1000} {
		b.Run(fmt.Sprintf("10000-%d-drop-ins", dropIns), func(b *testing.B) {
			src := manyManifests(b, 10000, dropIns)
			for b.Loop() {
				fresh := &source.Source{Dirs: src.Dirs, Parser: src.Parser, Trust: src.Trust}
				if r := fresh.Read(); len(r.Files) != 10000 || r.Files[0].Documents[0].Container == nil {
					b.Fatal("not all was read")
				}
			}
		})
	}
}

// fixedList is a runtime whose List costs what a copy costs.
type fixedList struct {
	*fakeRuntime
	list []*status.Status
}

func (f *fixedList) List() []*status.Status { return append([]*status.Status(nil), f.list...) }

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPassReplicas is a pass that finds nothing to do for a thousand replicas whose root is
// an image. It may take 5 ms of CPU.
func BenchmarkPassReplicas(b *testing.B) {
	const n = 1000
	s, rt := newShelf(map[string]string{"web.yaml": imageYAML("web", nginx, fmt.Sprintf("replicas: %d", n))}), newFake()
	rt.images.put(status.Image{Name: nginx, Digest: "sha256:1"})
	for name, w := range desired.Declare(s.Read()).Combine(nil).Declared {
		rt.by[name] = &status.Status{
			Name: name, Applied: w.Spec, Fingerprint: w.Fingerprint, From: w.From, State: status.Running, Pid: 1,
			Image: &status.ImageUse{Reference: nginx, Digest: "sha256:1"},
		}
	}
	e := newEngine(s, rt)
	e.Observer = &fixedList{fakeRuntime: rt, list: rt.List()}
	e.init()
	if out := e.runPass(b.Context(), passOptions{}); !out.plan.Empty() || len(e.Observer.List()) != n {
		b.Fatalf("something to do:\n%s", out.plan)
	}
	b.ReportAllocs()
	before := cpu()
	for b.Loop() {
		e.runPass(b.Context(), passOptions{})
	}
	b.ReportMetric(float64((cpu()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
}
