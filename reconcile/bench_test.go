package reconcile

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"stead/reconcile/source"
	"stead/runtime"
	"stead/spec"
)

// BenchmarkPassNothingToDo is a pass over real files that finds nothing to do.
// At 10,000 containers it may take 50 ms of CPU.
func BenchmarkPassNothingToDo(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			root := b.TempDir()
			rt := newFake()
			for i := range n {
				name := fmt.Sprintf("web-%05d", i)
				text := yaml(name, "resources: {memory: 128Mi}", "env: {TZ: UTC, WORKERS: 4}")
				path := filepath.Join(root, name+".yaml")
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					b.Fatal(err)
				}
				rt.by[name] = &runtime.Status{
					Name: name, Applied: spec.Parser{}.Parse(path, []byte(text))[0].Container, From: Origin{File: path}, State: runtime.Running, Pid: i + 1,
				}
			}
			fixed := &fixedList{fakeRuntime: rt, list: rt.List()}
			e := &Engine{Source: &source.Source{Dirs: []string{root}, Parser: spec.Parser{}}, Runtime: fixed}
			e.init()
			e.runPass(b.Context(), passOptions{})
			time.Sleep(100 * time.Millisecond) // for the time stamps to be old enough
			if out := e.runPass(b.Context(), passOptions{}); !out.plan.Empty() {
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

// fixedList is a runtime whose List costs what a copy costs.
type fixedList struct {
	*fakeRuntime
	list []runtime.Status
}

func (f *fixedList) List() []runtime.Status { return append([]runtime.Status(nil), f.list...) }

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
