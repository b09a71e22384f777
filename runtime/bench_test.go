package runtime

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"stead/spec"

	"golang.org/x/sys/unix"
)

// BenchmarkCreateToRemoved is what `make bench` reports as ms per container:
// create, run a static true in a path root with limits, remove.
func BenchmarkCreateToRemoved(b *testing.B) {
	for _, userns := range []string{"auto", "host"} {
		b.Run("userns="+userns, func(b *testing.B) {
			w := newWorld(b)
			root := benchRoot(b, w)
			names := make(chan string)
			var wait sync.WaitGroup
			b.ResetTimer()
			start := own(b)
			began := time.Now()
			for range 2 {
				wait.Go(func() {
					for name := range names {
						body := "command: [/bin/true]\nrestart: {policy: never}\nrootfs: {path: " + root + "}\nsecurity: {userns: " + userns + "}\nresources: {memory: 64Mi, cpu: 500m, pids: 64}"
						if _, err := w.Create(ctx, parse(b, name, body), origin); err != nil {
							b.Error(err)
						}
						if err := w.Remove(ctx, name); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for i := range b.N {
				names <- fmt.Sprintf("c%d", i)
			}
			close(names)
			wait.Wait()
			b.ReportMetric((own(b)-start)/float64(b.N), "daemon-cpu-ms/container")
			b.ReportMetric(w.keeperCPU()/float64(b.N), "keeper-cpu-ms/container")
			b.ReportMetric(float64(time.Since(began).Microseconds())/1000/float64(b.N), "ms/container")
		})
	}
}

// BenchmarkRoots compares an image root with a path root: create to removed, and a restart. They
// take turns, so that both see the same machine.
func BenchmarkRoots(b *testing.B) {
	w := newWorld(b)
	root := benchRoot(b, w)
	w.image("bench", nil)
	layer := filepath.Join(w.images.LayersDir(), "1/bin") // the link into /usr
	os.Remove(layer)
	os.Mkdir(layer, 0o755)
	program, err := os.ReadFile(root + "/bin/true")
	w.must(err)
	w.must(os.WriteFile(layer+"/true", program, 0o755))
	kinds := []struct {
		name string
		root spec.Rootfs
	}{{"path", spec.Rootfs{Path: root}}, {"image", spec.Rootfs{Image: "bench"}}}
	manifest := func(name string, root spec.Rootfs) *spec.Container {
		m := parse(b, name, "command: [/bin/true]\nrestart: {policy: never}\nresources: {memory: 64Mi, cpu: 500m, pids: 64}")
		m.Spec.Rootfs = root
		return m
	}
	b.Run("create-to-removed", func(b *testing.B) {
		var took [2]time.Duration
		for i := range 2 * b.N {
			kind := kinds[i%2]
			name := fmt.Sprint("c", i)
			m := manifest(name, kind.root)
			began := time.Now()
			if _, err := w.Create(ctx, m, origin); err != nil {
				b.Fatal(err)
			}
			if err := w.Remove(ctx, name); err != nil {
				b.Fatal(err)
			}
			took[i%2] += time.Since(began)
		}
		report(b, took)
	})
	b.Run("restart", func(b *testing.B) {
		var took [2]time.Duration
		for _, kind := range kinds {
			if _, err := w.Create(ctx, manifest("r-"+kind.name, kind.root), origin); err != nil {
				b.Fatal(err)
			}
		}
		for i := range 2 * b.N {
			kind := kinds[i%2]
			began := time.Now()
			if err := w.Restart(ctx, manifest("r-"+kind.name, kind.root), origin, false); err != nil {
				b.Fatal(err)
			}
			took[i%2] += time.Since(began)
		}
		report(b, took)
	})
}

func report(b *testing.B, took [2]time.Duration) {
	b.ReportMetric(float64(took[0].Microseconds())/1000/float64(b.N), "path-ms")
	b.ReportMetric(float64(took[1].Microseconds())/1000/float64(b.N), "image-ms")
	b.ReportMetric(float64(took[1])/float64(took[0]), "image/path")
}

// benchRoot is a root with one static program that does nothing.
func benchRoot(b *testing.B, w *world) string {
	root := filepath.Join(filepath.Dir(w.o.StateDir), "root")
	os.MkdirAll(root+"/bin", 0o755)
	source := filepath.Join(root, "true.c")
	os.WriteFile(source, []byte("#include <unistd.h>\nint main(void) { _exit(0); }\n"), 0o644)
	if out, err := exec.Command("gcc", "-O2", "-static", "-o", root+"/bin/true", source).CombinedOutput(); err != nil {
		b.Skipf("no C compiler: %v %s", err, out)
	}
	return root
}

// own is the CPU time of this process, ms.
func own(b *testing.B) float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e6
}

// keeperCPU is the CPU time of the keeper, ms (/proc/PID/task/*/schedstat).
func (w *world) keeperCPU() float64 {
	pid, _, err := w.keeper.Ping(ctx)
	if err != nil {
		return 0
	}
	var total float64
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, task := range tasks {
		var ns, wait, slices float64
		text, _ := os.ReadFile(task)
		fmt.Sscan(string(text), &ns, &wait, &slices)
		total += ns / 1e6
	}
	return total
}

// BenchmarkExec is an exec without the start of the program that asks for it.
func BenchmarkExec(b *testing.B) {
	w := newWorld(b)
	root := benchRoot(b, w)
	body := "command: [/bin/wait]\nrestart: {policy: never}\nrootfs: {path: " + root + "}\nstop: {signal: KILL}"
	source := filepath.Join(root, "wait.c")
	os.WriteFile(source, []byte("#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"), 0o644)
	if out, err := exec.Command("gcc", "-O2", "-static", "-o", root+"/bin/wait", source).CombinedOutput(); err != nil {
		b.Fatalf("%v %s", err, out)
	}
	if _, err := w.Create(ctx, parse(b, "c", body), origin); err != nil {
		b.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	before := w.keeperCPU()
	for b.Loop() {
		x, err := w.Exec(ctx, "c", ExecOptions{Argv: []string{"/bin/true"}}, null, null, null)
		if err != nil {
			b.Fatal(err)
		}
		if code, err := x.Wait(); code != 0 || err != nil {
			b.Fatal(code, err)
		}
	}
	b.ReportMetric((w.keeperCPU()-before)/float64(b.N), "keeper-cpu-ms/op")
}

// BenchmarkCheck is a look at running containers for what was changed by hand: as each
// minute, at those whose turn it is not; and at all closely.
func BenchmarkCheck(b *testing.B) {
	const n = 300
	w := newWorld(b)
	w.Close()
	w.o.Watch = true
	w.open()
	for i := range n {
		if _, err := w.Create(ctx, parse(b, fmt.Sprintf("c%d", i), "command: [sleep, infinity]\nstop: {signal: KILL}"), origin); err != nil {
			b.Fatal(err)
		}
	}
	for _, how := range []string{"minute", "all", "without a watch"} {
		all := how != "minute"
		b.Run(how, func(b *testing.B) {
			before := own(b)
			for b.Loop() {
				if how == "without a watch" {
					w.inspector.Close() // it reads all cgroups each time
				}
				if err := w.Check(ctx, all); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((own(b)-before)/float64(b.N)/n*1000, "cpu-us/container")
		})
	}
}
