package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"stead/runtime/roottest"
)

const counting = `  rootfs: {host: {}}
  network: {mode: none}
  logs: {maxSize: 64Ki, keep: 100}
`

// Which part of a log is printed.
func TestLogs(t *testing.T) {
	h := newHost(t)
	// Each run counts itself in a file, and tells.
	h.write("a.yaml", fmt.Sprintf(`apiVersion: stead/v1
kind: Container
metadata: {name: a}
spec:
%s  command: [sh, -c, 'n=$(($(cat /n 2>/dev/null) + 1)); echo $n >/n; echo run $n begins; printf "run $n ends"; exec sleep 1000']
`, counting))
	h.ok("apply")
	begun := func(n int) string { return fmt.Sprintf("run %d begins\nrun %d ends", n, n) }
	h.untilLogged("a", begun(1))
	if c := h.stead("logs", "--previous", "a"); c.code != 1 || !strings.Contains(c.err, "container a: no run before its last one is known") {
		t.Errorf("the first run has none before it: %+v", c)
	}
	if c := h.stead("logs", "--previous", "-f", "a"); c.code != 2 || !strings.Contains(c.err, "--previous shows a run that is over; leave out -f") {
		t.Errorf("--previous with -f: %+v", c)
	}
	between := time.Now()
	h.ok("restart", "a")
	h.untilLogged("a", begun(2))
	for _, test := range []struct{ summary, flags, want string }{
		{"all", "", begun(1) + "\n" + begun(2)},
		{"the run before", "--previous", begun(1) + "\n"},
		{"its last line", "-p --tail 1", "run 1 ends\n"},
		{"nothing of it is as new as that", "--previous --since " + between.Add(time.Hour).Format(time.RFC3339), ""},
		{"since a time", "--since " + between.UTC().Format(time.RFC3339Nano), "\n" + begun(2)}, // of a line that was begun before, the rest
		{"since a span", "--since 1h", begun(1) + "\n" + begun(2)},
		{"since a time to come", "--since " + between.Add(time.Hour).Format(time.RFC3339), ""},
	} {
		args := append([]string{"logs"}, strings.Fields(test.flags)...)
		if got := h.ok(append(args, "a")...); got != test.want {
			t.Errorf("%s: got %q, want %q", test.summary, got, test.want)
		}
	}
	h.ok("restart", "a")
	h.untilLogged("a", begun(3))
	if got := h.ok("logs", "-p", "a"); got != begun(2)+"\n" {
		t.Errorf("the run before the third: %q", got)
	}
	h.ok("stop", "a")
	if got := h.ok("logs", "-p", "a"); got != begun(2)+"\n" {
		t.Errorf("the run before the third, which is over: %q", got)
	}
}

// Who follows misses nothing and sees nothing twice, whatever is rotated and
// restarted meanwhile, with the daemon and without.
func TestLogsFollow(t *testing.T) {
	h := newHost(t)
	const runs, lines = 4, 3000 // of some 100 bytes: several files each
	for _, name := range []string{"a", "b"} {
		h.write(name+".yaml", fmt.Sprintf(`apiVersion: stead/v1
kind: Container
metadata: {name: %s}
spec:
%s  restart: {policy: on-failure, backoff: {initial: 1ms, max: 1ms}}
  command: [sh, -c, 'n=$(cat /n 2>/dev/null); n=${n:-0}; echo $((n + 1)) >/n; while [ ! -e /go ]; do sleep 0.01; done; i=0; while [ $i -lt %d ]; do echo "line $((n * %d + i)) ................................................................................"; i=$((i+1)); done; [ $n -ge %d ]']
`, name, counting, lines, lines, runs-1))
	}
	h.startDaemon()
	cmd := h.command("logs", "-f", "a", "b")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	h.ok("wait", "--for=running", "--timeout=60s", "a", "b")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	nothing := time.AfterFunc(roottest.Patience, func() { _ = cmd.Process.Kill() })
	defer func() { nothing.Stop(); _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	for _, name := range []string{"a", "b"} {
		writeFile(t, h.dir+"/state/containers/"+name+"/upper/go", "")
	}
	next := map[string]int{}
	for s := bufio.NewScanner(out); next["a"]+next["b"] < 2*runs*lines && s.Scan(); {
		name, rest, _ := strings.Cut(s.Text(), "  ")
		var n int
		if _, err := fmt.Sscanf(rest, "line %d ", &n); err != nil || n != next[name] {
			t.Fatalf("got %q, want line %d of %s", s.Text(), next[name], name)
		}
		next[name]++
		nothing.Reset(roottest.Patience) // however long all takes
	}
	if next["a"] != runs*lines || next["b"] != runs*lines {
		t.Errorf("lines seen: %v, want %d of each", next, runs*lines)
	}
}
