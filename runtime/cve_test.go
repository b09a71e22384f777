package runtime

import (
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stead/runtime/status"
	"stead/runtime/weak"
	"stead/spec"
)

// TestCVE makes the attack of each known class of escapes from container
// runtimes. In a build with the tag `weak` the defence that stands against it is
// taken away first, and the attack must succeed: else the test would prove nothing.
func TestCVE(t *testing.T) {
	for _, c := range []struct {
		name, class string
		without     string // the defence that is taken away
		attack      func(*world) (escaped string)
		image       bool // once more with its path root as an image
	}{
		{"CVE-2016-9962", "an exec's process is traced before it gave up the host's rights", "exec begins inside", traceExec, false},
		{"CVE-2017-1002101", "a mount's source in a volume of another is a link", "sources by path", linkSource, false},
		{"CVE-2019-5736", "the host's binary is overwritten through /proc/PID/exe", "binary on disk", overwriteBinary, false},
		{"CVE-2019-16884", "a mount whose target is a link to /proc hides proc", "mounts over proc", mountOverProc, true},
		{"CVE-2019-19921", "/proc is swapped for a link while a container starts", "masks by path", swapProc, false},
		{"CVE-2023-27561", "/proc is a link into a volume, which is swapped", "masks by path", linkProc, true},
		{"CVE-2021-30465", "a mount's target in a volume is swapped for a link", "targets by path", swapTarget, false},
		{"CVE-2024-45310", "a mount's target is made outside of the root", "targets made by path", makeOutside, false},
		{"CVE-2022-0492", "release_agent runs a program on the host", "host cgroups", releaseAgent, false},
		{"CVE-2022-29162", "inheritable capabilities come to life by a file's", "inheritable capabilities", inheritCaps, false},
		{"CVE-2024-21626", "a working directory behind a descriptor that leaked", "leaks", leakedDirectory, false},
		{"CVE-2025-31133", "the root's /dev/null, a link, is what masks", "masks from the root", linkNull, true},
		{"CVE-2025-52565", "the root's /dev/pts/0, a link, is the console", "console from the root", linkConsole, true},
		{"CVE-2025-52881", "what is written to /proc goes elsewhere", "label through proc", redirectLabel, false},
		{"CVE-2016-3697", "a user's name is another's id", "names before numbers", numericName, true},
		{"CVE-2020-15257", "an abstract socket is reached from the host's network", "abstract socket", abstractSocket, false},
	} {
		run := func(t *testing.T, imageRoots bool) {
			w := newWorld(t)
			w.imageRoots = imageRoots
			if weak.Built {
				if strings.Contains(c.class, "release_agent") && w.v2() {
					t.Skip("no cgroup v1 here")
				}
				w.copySelf("binary")
				if err := os.WriteFile(w.o.RunDir+"/weak", []byte(c.without), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			switch escaped := c.attack(w); {
			case weak.Built && escaped == "":
				t.Errorf("%s: not even without its defence (%s): this test proves nothing", c.class, c.without)
			case !weak.Built && escaped != "":
				t.Errorf("%s: %s", c.class, escaped)
			default:
				t.Log(escaped)
			}
		}
		t.Run(c.name, func(t *testing.T) { run(t, false) })
		if c.image && !(slow() && testing.Short()) {
			t.Run(c.name+" image root", func(t *testing.T) { run(t, true) })
		}
	}
}

// rounds is how often a race is run: all of them by make test-long only, and hardly any where
// the race detector makes each slow and takes another clone path than what is released.
func rounds() int {
	switch {
	case slow(), raceDetector:
		return 6
	case testing.Short():
		return 30
	}
	return 200
}

// races counts to n, unless a tenth of it took ten seconds: under the race
// detector, or on a busy machine, fewer must do.
func races(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, began := 0, time.Now(); i < n && (i < n/10 || time.Since(began) < 10*time.Second); i++ {
			if !yield(i) {
				return
			}
		}
	}
}

// copySelf puts a copy of this program into the run directory.
func (w *world) copySelf(name string) {
	w.t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(filepath.Join(w.o.RunDir, name), self, 0o755)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// evil makes a container that does what insiders[do] does. mounts and more are
// more of its manifest, "" for none.
func (w *world) evil(name, do, mounts, more string) error {
	w.t.Helper()
	m := parse(w.t, name, evilManifest(do, mounts, more))
	if dir := m.Spec.Rootfs.Path; w.imageRoots && dir != "" {
		m.Spec.Rootfs = spec.Rootfs{Image: w.imageOf(dir)}
	}
	_, err := w.Create(ctx, m, origin)
	return err
}

func evilManifest(do, mounts, more string) string {
	self, _ := os.Executable()
	return "command: [/attack]\nrestart: {policy: never}\nenv: {INSIDE: " + do + ", GORACE: atexit_sleep_ms=0}\nmounts: {/attack: {source: " + self + ", readOnly: true}" + mounts + "}\n" + more
}

// again starts a container n times more, unless it escapes before. One that is
// refused is fine: what it does when it runs tells in its output.
func (w *world) again(name string, n int) {
	w.t.Helper()
	for i := range races(n) {
		if w.Start(ctx, name, status.StartOptions{}) == nil {
			w.await(name, status.Exited)
		}
		if i%5 == 4 && w.escapes(name) != "" {
			return
		}
	}
}

// escapes are the lines of a container's output that say so.
func (w *world) escapes(name string) string {
	var all []string
	for line := range strings.Lines(w.output(name)) {
		if strings.HasPrefix(line, "ESCAPED") {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return strings.Join(all[:min(3, len(all))], "\n")
}

// path is a place of this test's own on the host.
func (w *world) path(name string) string {
	return filepath.Join(filepath.Dir(w.o.StateDir), name)
}

// hostileRoot is a root directory with the host's programs and what its owner
// likes to have in it: links and, where the text ends in a slash, directories.
// Its manifest needs the mounts of usr.
func (w *world) hostileRoot(name string, entries ...string) string {
	w.t.Helper()
	root := w.path(name)
	entries = append(entries, "usr/", "etc/", "tmp/", "bin -> usr/bin", "lib -> usr/lib", "lib64 -> usr/lib64")
	for _, e := range entries {
		at, target, link := strings.Cut(e, " -> ")
		err := os.MkdirAll(filepath.Dir(filepath.Join(root, at)), 0o755)
		if link {
			err = os.Symlink(target, filepath.Join(root, at))
		} else if err == nil {
			err = os.MkdirAll(filepath.Join(root, at), 0o755)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return root
}

const usr = ", /usr: {source: /usr, readOnly: true}"

// swapper is a container that shares dir and exchanges two names in it all the time.
func (w *world) swapper(dir, x, y string) {
	w.t.Helper()
	if err := w.evil("swapper", "swap", ", /shared: {source: "+dir+"}", fmt.Sprintf("args: [%s, %s]", x, y)); err != nil {
		w.t.Fatal(err)
	}
	w.awaitOutput("swapper", "swapping")
}
