package runtime

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"stead/runtime/cgroup"
	"stead/runtime/keeper"
	"stead/runtime/record"
	"stead/runtime/status"

	"golang.org/x/sys/unix"
)

// An exec as the container's own user reads neither its facts nor its passwd. One
// as another user does, and so does one in a container of an older program, which
// left nothing for it.
func TestExecPrepared(t *testing.T) {
	w := newWorld(t)
	w.create("web", script(forever)+"\nenv: {COLOR: red}")
	w.awaitOutput("web", "up")
	ask := func(user string) (string, error) {
		null, out, answer := nullAndPipe(t)
		x, err := ExecPrepared(w.RunDir, "web", ExecOptions{Argv: []string{"sh", "-c", "echo $COLOR $X; id -u"}, Env: []string{"X=1"}, User: user}, null, out, null)
		out.Close()
		if err != nil {
			return "", err
		}
		text := answer()
		_, err = x.Wait()
		return text, err
	}
	facts := w.dir("web") + "/" + "container.json"
	if err := os.Rename(facts, facts+".aside"); err != nil {
		t.Fatal(err)
	}
	if out, err := ask(""); out != "red 1\n0\n" || err != nil {
		t.Errorf("without its facts: %q %v", out, err)
	}
	if err := os.Rename(facts+".aside", facts); err != nil {
		t.Fatal(err)
	}
	if _, err := ask("nobody"); err == nil || !strings.Contains(err.Error(), keeper.ErrNotPrepared.Error()) {
		t.Errorf("as another user: %v", err)
	}
	file := record.PreparedPath(w.RunDir, w.byName["web"].rec.ID())
	for _, text := range []string{"", `{"Process"`} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ask(""); err == nil {
			t.Errorf("run by the broken %q", text)
		}
		if _, out, _, err := w.exec("web", "", ExecOptions{Argv: []string{"sh", "-c", "echo $COLOR"}}); out != "red\n" {
			t.Errorf("all found out anew: %q %v", out, err)
		}
	}
	if err := w.Stop(ctx, "web", status.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("what was prepared outlives the run")
	}
	if _, err := ask(""); err == nil {
		t.Error("run in a stopped container")
	}
}

// nullAndPipe are /dev/null, an end to write to, and what was written until it
// was closed.
func nullAndPipe(t *testing.T) (null, in *os.File, read func() string) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close(); in.Close(); out.Close() })
	return null, in, func() string {
		b := make([]byte, 4096)
		n := 0
		for {
			m, err := out.Read(b[n:])
			if n += m; err != nil {
				return string(b[:n])
			}
		}
	}
}

// A limit that is set while it runs may bring another cgroup. An exec is in it,
// too.
func TestExecJoinsLaterGroup(t *testing.T) {
	w := newWorld(t)
	if !w.host.Controllers()["cpuset"] {
		t.Skip("no cpuset controller")
	}
	w.create("web", script(forever))
	w.awaitOutput("web", "up")
	if err := w.Update(ctx, parse(t, "web", script(forever)+"\nresources: {cpuset: \"0\"}"), origin); err != nil {
		t.Fatal(err)
	}
	_, out, _, err := w.exec("web", "", ExecOptions{Argv: []string{"grep", "Cpus_allowed_list", "/proc/self/status"}})
	if want := "Cpus_allowed_list:\t0\n"; out != want || err != nil {
		t.Errorf("got %q %v, want %q", out, err, want)
	}
}

// A group that somebody removed by hand keeps no exec out.
func TestExecWithoutGroup(t *testing.T) {
	w := newWorld(t)
	w.create("web", script("echo up; exec sleep 1000"))
	w.awaitOutput("web", "up")
	_, dir := w.host.Group(w.byName["web"].rec.ID()).Join()
	if dir == "" || w.host.Mode == cgroup.V2 {
		t.Skip("there is no group that it can do without")
	}
	s, _ := w.Get("web")
	if err := os.WriteFile(filepath.Dir(filepath.Dir(dir))+"/cgroup.procs", []byte(strconv.Itoa(s.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Rmdir(dir); err != nil {
		t.Fatal(err)
	}
	if _, out, _, err := w.exec("web", "", ExecOptions{Argv: []string{"echo", "in"}}); out != "in\n" {
		t.Errorf("got %q %v", out, err)
	}
}
