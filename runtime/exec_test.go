package runtime

import (
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"stead/runtime/launch"
	"stead/runtime/record"
	"stead/runtime/roottest"
	"stead/runtime/status"

	"golang.org/x/sys/unix"
)

// exec runs a command in a container and gives its code and output.
func (w *world) exec(name, stdin string, o ExecOptions) (code int, out, errOut string, err error) {
	w.t.Helper()
	in, toIn, _ := os.Pipe()
	fromOut, stdout, _ := os.Pipe()
	fromErr, stderr, _ := os.Pipe()
	x, err := w.Exec(ctx, name, o, in, stdout, stderr)
	in.Close()
	stdout.Close()
	stderr.Close()
	defer fromOut.Close()
	defer fromErr.Close()
	defer toIn.Close()
	if err != nil {
		return -1, "", "", err
	}
	io.WriteString(toIn, stdin)
	toIn.Close()
	a, _ := io.ReadAll(fromOut)
	b, _ := io.ReadAll(fromErr)
	code, err = x.Wait()
	return code, string(a), string(b), err
}

func TestExec(t *testing.T) {
	t.Parallel()
	for _, userns := range []string{"auto", "host"} {
		t.Run("userns="+userns, func(t *testing.T) { testExec(t, userns) })
	}
}

func testExec(t *testing.T, userns string) {
	w := newWorld(t)
	w.create("web", script(forever)+"\nenv: {COLOR: red}\nhostname: inside\nresources: {pids: 30}\nsecurity: {userns: "+userns+"}")
	w.awaitOutput("web", "up")
	sh := func(s string) ExecOptions { return ExecOptions{Argv: []string{"sh", "-c", s}} }
	tests := []struct {
		summary, stdin string
		o              ExecOptions
		code           int
		out, errOut    string
	}{
		{"output, environment and names of the container", "", sh("id -u; hostname; echo $COLOR; echo e >&2"), 0, "0\ninside\nred\n", "e\n"},
		{"exit code", "", sh("exit 42"), 42, "", ""},
		{"a session of its own, as a process of the container's", "", sh("read a b c d e f rest </proc/self/stat; [ $e = $f ] || echo group $e session $f; [ $f -gt 1 ] && echo own"), 0, "own\n", ""},
		{"killed by a signal", "", sh("kill -KILL $$"), 137, "", ""},
		{"input", "hello", ExecOptions{Argv: []string{"cat"}}, 0, "hello", ""},
		{"more environment", "", ExecOptions{Argv: []string{"sh", "-c", "echo $COLOR $X"}, Env: []string{"COLOR=blue", "X=1"}}, 0, "blue 1\n", ""},
		{"another user and directory", "", ExecOptions{Argv: []string{"sh", "-c", "id -un; pwd"}, User: "nobody", WorkingDir: "/tmp"}, 0, "nobody\n/tmp\n", ""},
		{"the devices of its output open by path", "", sh("echo o >/dev/stdout; echo e >/dev/stderr"), 0, "o\n", "e\n"},
		{"as confined as the container", "", sh("grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'; cut -d: -f3 /proc/self/cgroup | sort -u"), 0, "CapBnd:00000000a80425fb\nNoNewPrivs:1\nSeccomp:2\n/\n", ""},
	}
	for _, tt := range tests {
		code, out, errOut, err := w.exec("web", tt.stdin, tt.o)
		if err != nil || code != tt.code || out != tt.out || errOut != tt.errOut {
			t.Errorf("%s: code %d, out %q, err %q, error %v", tt.summary, code, out, errOut, err)
		}
	}
	if _, _, _, err := w.exec("web", "", ExecOptions{Argv: []string{"nope"}}); err == nil || !strings.Contains(err.Error(), "execute nope: no such file") {
		t.Errorf("a command that is not there: %v", err)
	}
	if _, _, _, err := w.exec("web", "", ExecOptions{Argv: []string{"sh"}, User: "nosuch"}); err == nil || !strings.Contains(err.Error(), "user nosuch is not in") {
		t.Errorf("a user who is not there: %v", err)
	}
}

// A stop must not wait for a process that exec put inside, even if its client
// is stopped.
func TestExecCannotWedgeStop(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("web", script(forever)+"\nstop: {timeout: 10m}")
	w.awaitOutput("web", "up")
	in, _, _ := os.Pipe()
	x, err := w.Exec(ctx, "web", ExecOptions{Argv: []string{"sleep", "1000"}}, in, os.Stderr, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	unix.Kill(x.Pid, unix.SIGSTOP)
	began := time.Now()
	if err := w.Stop(ctx, "web", status.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > roottest.Patience {
		t.Errorf("the stop took %v", took)
	}
	if code, err := x.Wait(); err != nil || code != 137 {
		t.Errorf("exec ended with %d, %v", code, err)
	}
}

func TestExecTerminal(t *testing.T) {
	for _, userns := range []string{"auto", "host"} {
		t.Run("userns="+userns, func(t *testing.T) { testExecTerminal(t, userns) })
	}
}

func testExecTerminal(t *testing.T, userns string) {
	w := newWorld(t)
	w.create("web", script(forever)+"\nsecurity: {userns: "+userns+"}")
	w.awaitOutput("web", "up")
	x, err := w.Exec(ctx, "web", ExecOptions{Argv: []string{"sh", "-c", "tty; stty size; ps -o tpgid= >/dev/tty; read line; echo got $line; exit 3"}, User: "nobody", Size: launch.Size{Rows: 33, Cols: 77}})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Terminal.Close()
	io.WriteString(x.Terminal, "hello\n")
	out, _ := io.ReadAll(x.Terminal) // ends with EIO when the last slave is closed
	code, err := x.Wait()
	if err != nil || code != 3 {
		t.Errorf("code %d, error %v", code, err)
	}
	for _, want := range []string{"/dev/pts/0\r\n", "33 77\r\n", "got hello\r\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("output lacks %q: %q", want, out)
		}
	}
}

// A question about one container reads nothing about the others.
func TestOpenOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("web", script(forever))
	w.create("db", script(forever))
	w.awaitOutput("web", "up")
	for _, file := range []string{w.dir("db") + "/" + "container.json", record.Path(w.RunDir, w.byName["db"].rec.ID())} {
		aside := file + ".aside"
		if err := os.Rename(file, aside); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkfifo(file, 0o600); err != nil { // whoever opens it hangs
			t.Fatal(err)
		}
		defer os.Rename(aside, file)
	}
	o := w.o
	o.ReadOnly, o.Only = true, []string{"web", "nonsuch", "../containers/web", ""}
	r, err := Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if all := r.List(); len(all) != 1 || all[0].Name != "web" || all[0].State != status.Running {
		t.Errorf("it knows %+v", all)
	}
	o.ReadOnly = false
	if _, err := Open(ctx, o); err == nil {
		t.Error("a part was opened for changes")
	}
}

// TestNofileOfKeeper: a keeper that was started with a lower limit than what
// asks it now still starts containers and execs.
func TestNofileOfKeeper(t *testing.T) {
	w := newWorld(t)
	if err := w.keeper.find(ctx); err != nil {
		t.Fatal(err)
	}
	pid, _, err := w.keeper.Ping(ctx)
	if err != nil {
		t.Fatal(err)
	}
	low := unix.Rlimit{Cur: 2048, Max: 2048}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &low, nil); err != nil {
		t.Fatal(err)
	}
	w.create("web", script("ulimit -Sn; ulimit -Hn; "+forever))
	w.awaitOutput("web", "up")
	if want := "1024\n2048\nup\n"; w.output("web") != want {
		t.Errorf("limits are %q, want %q", w.output("web"), want)
	}
	if _, out, _, err := w.exec("web", "", ExecOptions{Argv: []string{"sh", "-c", "ulimit -n"}}); out != "1024\n" {
		t.Errorf("in an exec: %q %v", out, err)
	}
}

// TestExecStopped: a container that stops whatever execs bring into it, before
// their command runs, holds up no start and no exec elsewhere.
func TestExecStopped(t *testing.T) {
	var stuck sync.WaitGroup
	t.Cleanup(stuck.Wait) // after the world is taken down, which ends them
	w := newWorld(t)
	w.create("evil", script("echo up; while :; do kill -STOP -1; done"))
	w.create("good", script(forever))
	w.awaitOutput("evil", "up")
	for range 12 {
		stuck.Go(func() {
			null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer null.Close()
			w.Exec(ctx, "evil", ExecOptions{Argv: []string{"true"}}, null, null, null)
		})
	}
	time.Sleep(200 * time.Millisecond)
	begun := time.Now()
	if _, out, _, err := w.exec("good", "", ExecOptions{Argv: []string{"echo", "in"}}); out != "in\n" {
		t.Errorf("exec elsewhere: %q %v", out, err)
	}
	w.create("new", script(forever))
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("an exec and a start elsewhere took %v", took)
	}
}
