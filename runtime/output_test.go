package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"stead/runtime/logs"
	"stead/runtime/roottest"
	"stead/runtime/status"

	"golang.org/x/sys/unix"
)

// keeperMemory is what the keeper has resident, bytes.
func (w *world) keeperMemory() int64 {
	w.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.keeperPid()))
	if err != nil {
		w.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		w.t.Fatal(err)
	}
	return kb << 10
}

func (w *world) keeperPid() int {
	w.t.Helper()
	pid, _, err := w.keeper.Ping(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return pid
}

// A burst fills the files that it may and no more, and the keeper does not grow.
// 256 MB stand for any size: it is the limits' manifold, and takes a few seconds.
func TestOutputBurst(t *testing.T) {
	if slow() {
		t.Skip("output is the same on every layout of cgroups, and times mean nothing on an emulated machine")
	}
	w := newWorld(t)
	w.create("quiet", script(forever))
	w.awaitOutput("quiet", "up")
	before := w.keeperMemory()
	const size, keep = 1 << 20, 3
	const total = 256 << 20
	began := time.Now()
	w.create("web", script(fmt.Sprintf("head -c %d /dev/zero | tr '\\\\0' x | fold -w 99; echo the end", total))+
		fmt.Sprintf("\nrestart: {policy: never}\nlogs: {maxSize: %d, keep: %d}", size, keep))
	w.awaitOutput("web", "the end")
	took := time.Since(began)
	w.await("web", status.Exited)
	after := w.keeperMemory()
	t.Logf("%.0f MB/s; keeper %d KiB before, %d KiB after", float64(total)/1e6/took.Seconds(), before>>10, after>>10)
	if after-before > 16<<20 { // 2 to 6 MiB were seen, the latter with the race detector
		t.Errorf("the keeper grew from %d to %d bytes", before, after)
	}
	files, _ := filepath.Glob(w.LogDir("web") + "/*")
	if len(files) != keep+1 {
		t.Errorf("files: %v", files)
	}
	for _, f := range files {
		if st, err := os.Stat(f); err != nil || st.Size() > size+2*64<<10 { // one round more, with the times of its lines
			t.Errorf("%s: %v, %v", f, st.Size(), err)
		}
	}
}

// What a program writes comes back as it was, whatever it is.
func TestOutputIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	long := 10 << 20
	if slow() {
		long = 1 << 20
	}
	for name, c := range map[string]struct{ command, want string }{
		"nul":     {`printf 'a\0b\0\nc'`, "a\x00b\x00\nc\n"},
		"invalid": {`printf '\377\376 \300\200\n\355\240\200\n'`, "\xff\xfe \xc0\x80\n\xed\xa0\x80\n"},
		"control": {`printf '\033[31mred\r\n\b\n'`, "\x1b[31mred\r\n\b\n"},
		"empty":   {`printf '\n\n'`, "\n\n"},
		"long":    {fmt.Sprintf(`head -c %d /dev/zero | tr '\0' y; echo; echo next`, long), strings.Repeat("y", long) + "\nnext\n"},
	} {
		w.create(name, script(c.command)+"\nrestart: {policy: never}\nlogs: {maxSize: 64Mi}")
		w.await(name, status.Exited)
		if got := w.output(name); got != c.want {
			t.Errorf("%s: %d bytes %.80q, want %d bytes %.80q", name, len(got), got, len(c.want), c.want)
		}
	}
}

// A log whose disk is full loses lines and says so; nothing else is touched.
func TestOutputFullDisk(t *testing.T) {
	if slow() {
		t.Skip("output is the same on every layout of cgroups, and times mean nothing on an emulated machine")
	}
	w := newWorld(t)
	dir := w.LogDir("web")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	ballast := dir + "/ballast"
	if err := os.WriteFile(ballast, make([]byte, 128<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	w.create("other", script("while :; do echo tick; sleep 0.02; done"))
	w.create("web", script(`trap 'echo room again' USR1; head -c 1980000 /dev/zero | tr '\0' x | fold -w 99; echo; : >/full; while :; do sleep 0.02; done`))
	pid := w.keeperPid()
	full := w.dir("web") + "/upper/full"
	for end := time.Now().Add(roottest.Patience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(full); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the writer hangs at the full disk")
		}
	}
	later := time.Now()
	w.awaitSince("other", later) // goes on
	if now := w.keeperPid(); now != pid {
		t.Errorf("the keeper is %d, was %d", now, pid)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s, _ := w.Get("web")
	if err := unix.Kill(s.Pid, unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	w.awaitOutput("web", "room again")
	var kept, lost int
	for _, line := range strings.Split(w.output("web"), "\n") {
		var n int
		if _, err := fmt.Sscanf(line, "stead: %d lines were dropped here: the disk was full", &n); err == nil {
			lost += n // small writes may fit where a large one did not: it is said each time
		} else if strings.Trim(line, "x") == "" && line != "" {
			kept++
		}
	}
	const lines = 1980000 / 99
	if t.Logf("%d lines kept, %d lost", kept, lost); kept == 0 || lost == 0 || kept+lost != lines {
		t.Errorf("%d lines kept and %d lost, of %d", kept, lost, lines)
	}
}

// awaitSince waits for a record that is later.
func (w *world) awaitSince(name string, at time.Time) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, roottest.Patience)
	defer cancel()
	found := errors.New("found")
	if err := logs.Read(ctx, w.LogDir(name), logs.Options{Tail: -1, Since: at, Follow: true}, func(logs.Record) error { return found }); err != found {
		w.t.Fatalf("%s wrote nothing since %v: %v", name, at, err)
	}
}

// A container that writes without end and without a newline costs its
// neighbours next to nothing.
func TestOutputHostileWriter(t *testing.T) {
	if slow() {
		t.Skip("output is the same on every layout of cgroups, and times mean nothing on an emulated machine")
	}
	w := newWorld(t)
	w.create("hostile", script(`cat /dev/zero | tr '\0' x`)+"\nlogs: {maxSize: 1Mi, keep: 2}")
	for i := range 4 { // something else may have kept the machine busy for a moment
		worst := w.delayOfLines(fmt.Sprintf("neighbour-%d", i))
		if worst <= 500*time.Millisecond {
			break
		} else if i == 3 {
			t.Errorf("a line was %v late", worst)
		}
	}
	if files, _ := filepath.Glob(w.LogDir("hostile") + "/" + logs.File + ".*"); len(files) != 2 {
		t.Errorf("the hostile writer filled %v", files)
	}
}

// delayOfLines runs a container that writes the time again and again, and returns
// how late the keeper read the latest.
func (w *world) delayOfLines(name string) (worst time.Duration) {
	w.t.Helper()
	const lines = 200
	w.create(name, script(fmt.Sprintf("i=0; while [ $i -lt %d ]; do date +%%s.%%N; sleep 0.01; i=$((i+1)); done", lines))+"\nrestart: {policy: never}")
	w.await(name, status.Exited)
	var sum time.Duration
	n := 0
	err := logs.Read(ctx, w.LogDir(name), logs.Options{Tail: -1}, func(r logs.Record) error {
		seconds, nanos, _ := strings.Cut(r.Text, ".")
		s, err := strconv.ParseInt(seconds, 10, 64)
		ns, err2 := strconv.ParseInt(nanos, 10, 64)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		late := r.Time.Sub(time.Unix(s, ns))
		worst, sum, n = max(worst, late), sum+late, n+1
		return nil
	})
	if err != nil || n != lines {
		w.t.Fatalf("%d lines, %v", n, err)
	}
	w.t.Logf("delay of a line: worst %v, mean %v", worst, sum/lines)
	return worst
}

// BenchmarkLog writes lines of 100 bytes: through the keeper into the log, and
// for comparison by cat straight into a file of the root.
func BenchmarkLog(b *testing.B) {
	const size = 128 << 20
	for _, c := range []struct{ name, command string }{{"log", "cat /lines"}, {"file", "cat /lines > /copy"}} {
		b.Run(c.name, func(b *testing.B) {
			w := newWorld(b)
			source := filepath.Dir(w.o.StateDir) + "/lines"
			if err := os.WriteFile(source, []byte(strings.Repeat(strings.Repeat("x", 99)+"\n", size/100)), 0o644); err != nil {
				b.Fatal(err)
			}
			defer os.Remove(source)
			w.create("web", script(c.command)+"\nrestart: {policy: never}\nlogs: {maxSize: 10Mi}\nmounts: {/lines: {source: "+source+"}}")
			w.await("web", status.Exited)
			b.SetBytes(size)
			for b.Loop() {
				if err := w.Start(ctx, "web", status.StartOptions{}); err != nil {
					b.Fatal(err)
				}
				w.await("web", status.Exited)
			}
		})
	}
}
