package runtime

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stead/runtime/cgroup"
	"stead/runtime/job"
	"stead/runtime/keeper"
	"stead/runtime/logs"
	"stead/runtime/record"
	"stead/runtime/roottest"
	"stead/runtime/status"
	"stead/spec"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Args[0] == keeper.Argv0 { // the test binary is the keeper of its tests
		os.Exit(keeper.Main(os.Args))
	}
	if os.Args[0] == job.Argv0 { // and its jobs
		os.Exit(job.Main(os.Args, VolumeJobKinds()))
	}
	if os.Getenv("ATTACK") != "" {
		os.Exit(attack())
	}
	if do := os.Getenv("INSIDE"); do != "" {
		insiders[do]()
		os.Exit(0)
	}
	if os.Getenv("SPY") != "" {
		os.Exit(spy())
	}
	os.Exit(roottest.Main(m))
}

// world is one runtime with directories and a cgroup parent of its own. At the
// end it takes everything down and fails the test if anything is left.
type world struct {
	*Runtime
	t      testing.TB
	o      Options
	before leftovers

	imageRoots bool // evil makes an image of each path root
}

func newWorld(t testing.TB) *world {
	roottest.Need(t)
	dir, run := roottest.TempDir(t, "/var/tmp"), roottest.TempDir(t, "/dev/shm") // in memory, as /run is
	w := &world{t: t, o: Options{
		StateDir: dir + "/state", RunDir: run, CgroupParent: filepath.Base(dir),
		Log: slog.New(slog.NewTextHandler(testLog{t}, nil)),
	}}
	w.before = w.count()
	w.open()
	t.Cleanup(w.takeDown)
	return w
}

type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func (w *world) open() {
	w.t.Helper()
	r, err := Open(context.Background(), w.o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Runtime = r
}

// reopen is what a daemon's death and restart is to the runtime.
func (w *world) reopen() {
	w.Close()
	w.open()
}

func (w *world) takeDown() {
	ctx, cancel := context.WithTimeout(context.Background(), roottest.Patience)
	defer cancel()
	for _, s := range w.List() {
		if err := w.Remove(ctx, s.Name); err != nil {
			w.t.Errorf("take down: %v", err)
		}
	}
	if err := w.QuitKeeper(ctx); err != nil {
		w.t.Errorf("take down: %v", err)
	}
	w.Close()
	w.Runtime.keeper.group().Remove()
	w.host.RemoveParent()
	if after := w.count(); after != w.before {
		w.t.Errorf("left over: %+v, before: %+v", after, w.before)
	}
	if entries, _ := os.ReadDir(w.o.RunDir + "/containers"); len(entries) > 0 {
		w.t.Errorf("left over in the run directory: %v", entries)
	}
}

// leftovers are counted before and after.
type leftovers struct{ mounts, cgroups, processes int }

func (w *world) count() (l leftovers) {
	b, _ := os.ReadFile("/proc/self/mountinfo") // other tests' mounts come and go
	l.mounts = strings.Count(string(b), w.o.CgroupParent) + strings.Count(string(b), w.o.RunDir)
	files, _ := filepath.Glob("/sys/fs/cgroup/*/" + w.o.CgroupParent + "/*")
	unified, _ := filepath.Glob("/sys/fs/cgroup/" + w.o.CgroupParent + "/*") // v2
	for _, f := range append(files, unified...) {
		if st, err := os.Stat(f); err == nil && st.IsDir() {
			l.cgroups++
		}
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, p := range procs {
		var pid int
		fmt.Sscanf(p, "/proc/%d/", &pid)
		_, lives := record.StartTime(pid) // a zombie waits for its parent, which may be another
		if b, _ := os.ReadFile(p); lives && strings.Contains(string(b), "/"+w.o.CgroupParent+"/") {
			l.processes++
		}
	}
	return l
}

// keeperGroups counts the keeper's own.
func (w *world) keeperGroups() int { return len(w.Runtime.keeper.group().Dirs()) }

// control reads a control file of a running container: v1 is the controller
// and the file's name there, v2 its name on a pure v2 host.
func (w *world) control(name, v1, v2 string) string {
	w.t.Helper()
	d, err := w.Inspect(name)
	if err != nil {
		w.t.Fatal(err)
	}
	group := filepath.Join(w.o.CgroupParent, name+"."+d.Nonce)
	file := filepath.Join("/sys/fs/cgroup", group, v2)
	if !w.v2() {
		controller, base, _ := strings.Cut(v1, "/")
		file = filepath.Join("/sys/fs/cgroup", controller, group, base)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		w.t.Error(err)
	}
	return strings.TrimSpace(string(b))
}

func (w *world) v2() bool { return w.host.Mode == cgroup.V2 }

// parse is one container's manifest, with what every test would repeat.
func parse(t testing.TB, name, body string) *spec.Container {
	t.Helper()
	text := "apiVersion: stead/v1\nkind: Container\nmetadata: {name: " + name + "}\nspec:\n"
	for _, line := range strings.Split(body, "\n") {
		text += "  " + strings.TrimPrefix(line, "\t\t") + "\n"
	}
	for field, value := range map[string]string{"rootfs:": "{host: {}}", "network:": "{mode: none}"} {
		if !strings.Contains(text, "\n  "+field) {
			text += "  " + field + " " + value + "\n"
		}
	}
	d := spec.Parser{Host: "test"}.Parse(name+".yaml", []byte(text))
	if len(d) != 1 || len(d[0].Errors) > 0 {
		t.Fatalf("manifest: %v\n%s", d[0].Errors, text)
	}
	return d[0].Container
}

func script(s string) string { return fmt.Sprintf("command: [sh, -c, %q]", s) }

var origin = status.Origin{File: "/test.yaml"}

// create creates a container; its start may fail if the test says so.
func (w *world) create(name, body string) status.Status {
	w.t.Helper()
	if _, err := w.Create(context.Background(), parse(w.t, name, body), origin); err != nil {
		w.t.Fatalf("create %s: %v\n%s", name, err, w.output(name))
	}
	s, _ := w.Get(name)
	return s
}

// await waits until the container is in a state.
func (w *world) await(name string, state status.State) status.Status {
	w.t.Helper()
	deadline := time.After(roottest.Patience)
	for {
		s, ok := w.Get(name)
		if ok && s.State == state {
			return s
		}
		select {
		case <-w.Wake():
		case <-time.After(50 * time.Millisecond): // another test's goroutine may have taken the wake-up
		case <-deadline:
			w.t.Fatalf("%s is %s (%+v), want %s\n%s", name, s.State, s.Exit, state, w.output(name))
		}
	}
}

// output is all that the container wrote.
func (w *world) output(name string) string {
	var out strings.Builder
	logs.Read(context.Background(), w.LogDir(name), logs.Options{Tail: -1}, func(r logs.Record) error {
		out.WriteString(r.Text)
		if !r.Part {
			out.WriteByte('\n')
		}
		return nil
	})
	return out.String()
}

// awaitOutput waits until the container has written something.
func (w *world) awaitOutput(name, want string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), roottest.Patience)
	defer cancel()
	os.MkdirAll(w.LogDir(name), 0o700)
	found := fmt.Errorf("found")
	err := logs.Read(ctx, w.LogDir(name), logs.Options{Tail: -1, Follow: true}, func(r logs.Record) error {
		if strings.Contains(r.Text, want) {
			return found
		}
		return nil
	})
	if err != found {
		s, _ := w.Get(name)
		w.t.Fatalf("%s (%s, %+v) did not write %q (%v):\n%s", name, s.State, s.Exit, want, err, w.output(name))
	}
}

func alive(pid int) bool { return unix.Kill(pid, 0) == nil }
