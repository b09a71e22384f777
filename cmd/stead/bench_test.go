//go:build bench

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"stead/reconcile/view"
)

// figure prints one line of the table that runtime/bench/run.sh assembles.
func figure(name, value, note string) { fmt.Printf("FIGURE|%s|%s|%s\n", name, value, note) }

const sleeper = `apiVersion: stead/v1
kind: Container
metadata: {name: %s}
spec:
  rootfs: {path: %s}
  command: [/bin/sleep, "100000"]
  network: {mode: none}
  stop: {signal: KILL}
`

// benchRoot is a root with a static busybox.
func benchRoot(t *testing.T, dir string) string {
	root := dir + "/root"
	if err := os.MkdirAll(root+"/bin", 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs busybox-static")
	}
	for _, name := range []string{"sleep", "true", "sh", "date", "cat"} {
		if err := os.WriteFile(root+"/bin/"+name, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// cpu is the time that a process used so far.
func cpu(pid int) time.Duration {
	var total float64
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, task := range tasks {
		var ns float64
		text, _ := os.ReadFile(task)
		fmt.Sscan(string(text), &ns)
		total += ns
	}
	return time.Duration(total)
}

// rss is the anonymous memory of a process, KiB.
func rss(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, _ := strconv.Atoi(strings.Fields(v)[0])
			return n
		}
	}
	return 0
}

// TestBench measures a daemon as it is used. BENCH_SCALE names the numbers of
// running containers, in rising order.
func TestBench(t *testing.T) {
	h := newHost(t)
	root := benchRoot(t, h.dir)
	h.startDaemon()
	daemon, holder := 0, 0
	latency := func(at int) {
		var took []time.Duration
		before := [2]time.Duration{cpu(daemon), cpu(holder)}
		for i := range 40 {
			name := fmt.Sprintf("probe-%d-%d", at, i) // a name of old would bring its log back
			script := strings.Replace(fmt.Sprintf(sleeper, name, root), `[/bin/sleep, "100000"]`, `[/bin/sh, -c, "date +%s >/dev/null; echo up"]`, 1)
			script = strings.Replace(script, "stop: {signal: KILL}", "restart: {policy: never}", 1)
			began := time.Now()
			h.write(name+".yaml", script)
			file := h.dir + "/state/containers/" + name + "/log/output.log"
			var at time.Time
			for at.IsZero() && time.Since(began) < 5*time.Second {
				if b, err := os.ReadFile(file); err == nil && len(b) > 0 {
					at, _ = time.Parse(time.RFC3339Nano, strings.Fields(string(b))[0])
				} else {
					time.Sleep(200 * time.Microsecond)
				}
			}
			took = append(took, at.Sub(began))
		}
		used := [2]time.Duration{cpu(daemon) - before[0], cpu(holder) - before[1]}
		for i := range 40 {
			os.Remove(h.manifests + fmt.Sprintf("/probe-%d-%d.yaml", at, i))
		}
		h.ok("apply", "--confirm-removal=all")
		slices.Sort(took)
		figure(fmt.Sprintf("manifest renamed in → first line of output, %d running", at), fmt.Sprintf("p50 %.0f ms, p99 %.0f ms", ms(took[len(took)/2]), ms(took[len(took)-1])), "want p50 ≤ 30, p99 ≤ 100")
		if at > 0 { // else they have just begun themselves
			figure(fmt.Sprintf("CPU of a start, %d running", at), fmt.Sprintf("daemon %.1f ms, keeper %.1f ms", ms(used[0]/40), ms(used[1]/40)), "want the same for each number")
		}
	}
	base := map[int][2]int{}
	have := 0
	for _, word := range strings.Fields(os.Getenv("BENCH_SCALE")) {
		n, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for ; have < n; have++ {
			h.write(fmt.Sprintf("c%d.yaml", have), fmt.Sprintf(sleeper, fmt.Sprintf("c%d", have), root))
		}
		h.waitAll(t, n)
		figure(fmt.Sprintf("up to %d containers running", n), fmt.Sprintf("%.1f s", time.Since(began).Seconds()), "")
		daemon, holder = h.daemon.Process.Pid, h.keeperOf()
		latency(n)
		base[n] = [2]int{rss(daemon), rss(h.keeperOf())} // at rest: apply has looked at everything
		if small, ok := base[100]; ok && n >= 1000 {
			figure(fmt.Sprintf("memory per container at %d", n), fmt.Sprintf("daemon %.1f KiB, keeper %.1f KiB", per(base[n][0], small[0], n-100), per(base[n][1], small[1], n-100)), "want ≤ 10 each")
		}
		if n > 0 {
			h.execFigure(t, n)
		}
		if n != 1000 {
			continue
		}
		before := [2]time.Duration{cpu(daemon), cpu(holder)}
		const idle = time.Minute
		time.Sleep(idle) // what is measured is doing nothing
		figure(fmt.Sprintf("CPU when idle at %d", n), fmt.Sprintf("daemon %.3f %%, keeper %.3f %% of a core", share(cpu(daemon)-before[0], idle), share(cpu(holder)-before[1], idle)), "want < 0.1 %")
	}
	h.endDaemon(syscall.SIGTERM)
}

func ms(d time.Duration) float64           { return float64(d.Microseconds()) / 1000 }
func per(now, then, n int) float64         { return float64(now-then) / float64(n) }
func share(used, of time.Duration) float64 { return 100 * float64(used) / float64(of) }
func isRunning(v view.Container) bool      { return v.State == view.Running }

func (h *testHost) keeperOf() int {
	for _, pid := range h.processes() {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if strings.HasPrefix(string(line), "stead-keeper\x00") {
			return pid
		}
	}
	return 0
}

func (h *testHost) waitAll(t *testing.T, n int) {
	for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		up := 0
		for _, v := range h.views() {
			if isRunning(v) {
				up++
			}
		}
		if up >= n {
			return
		}
	}
	t.Fatalf("not up in time\n%s", h.log.String())
}

// execFigure times the whole verb, by the program as it is released: BENCH_STEAD.
func (h *testHost) execFigure(t *testing.T, running int) {
	const n = 50
	program := os.Getenv("BENCH_STEAD")
	if program == "" {
		t.Fatal("BENCH_STEAD names no program")
	}
	began := time.Now()
	var once sync.Once
	for range n {
		cmd := exec.Command(program, "exec", "c0", "--", "/bin/true")
		cmd.Env = h.command().Env
		if out, err := cmd.CombinedOutput(); err != nil {
			once.Do(func() { t.Errorf("exec: %v %s", err, out) })
		}
	}
	figure(fmt.Sprintf("stead exec NAME -- true, %d running", running), fmt.Sprintf("%.1f ms", ms(time.Since(began)/n)), "want ≤ crun exec")
}

// TestBenchReplicas makes BENCH_REPLICAS containers (1000) of one image and one manifest.
func TestBenchReplicas(t *testing.T) {
	n := 1000
	if v := os.Getenv("BENCH_REPLICAS"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	h := newHost(t)
	h.ok("image", "import", "bench", benchRoot(t, h.dir))
	text := strings.NewReplacer("{path: %s}", "{image: bench}", "%s", "web", "spec:\n", "spec:\n  replicas: %d\n").Replace(sleeper)
	h.write("web.yaml", fmt.Sprintf(text, 1))
	h.startDaemon()
	h.waitAll(t, 1)
	before := [2]int{rss(h.daemon.Process.Pid), rss(h.keeperOf())}
	began := time.Now()
	h.write("web.yaml", fmt.Sprintf(text, n))
	h.waitAll(t, n)
	figure(fmt.Sprintf("%d replicas of an image: ms each", n), fmt.Sprintf("%.1f", ms(time.Since(began))/float64(n)), "")
	h.ok("apply") // has looked at everything
	figure("memory of a replica", fmt.Sprintf("daemon %.1f KiB, keeper %.1f KiB", per(rss(h.daemon.Process.Pid), before[0], n-1), per(rss(h.keeperOf()), before[1], n-1)), "want ≤ 10 each")
	out, err := exec.Command("du", "-skx", h.dir+"/state/containers").Output() // not what is mounted
	var disk int
	if _, e := fmt.Sscan(string(out), &disk); err != nil || e != nil {
		t.Fatalf("du: %v, %v: %q", err, e, out)
	}
	figure("disk of a replica", fmt.Sprintf("%.1f KiB", float64(disk)/float64(n)), "want ≤ 64")
	if _, err := exec.LookPath("findmnt"); err == nil {
		began := time.Now()
		out, err := exec.Command("findmnt", "-t", "overlay", "-n", "-o", "TARGET").Output()
		took := time.Since(began)
		if mounted := strings.Count(string(out), h.dir+"/state/containers/"); err != nil || mounted != n {
			t.Errorf("findmnt lists %d roots, want %d: %v", mounted, n, err)
		}
		figure(fmt.Sprintf("findmnt on the host with %d merged roots: ms", n), fmt.Sprintf("%.0f", ms(took)), "")
	}
}
