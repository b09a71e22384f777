package runtime

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"stead/runtime/status"

	"golang.org/x/sys/unix"
)

// The keeper becomes that of another binary under load: no container, no line
// and no exit code is lost.
func TestKeeperUpgrade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	steady := w.create("steady", script(forever))
	count := 20000
	if slow() {
		count = 2000
	}
	w.create("talker", script(fmt.Sprintf(`i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); done; exit 9`, count))+"\nrestart: {policy: never}")
	w.create("quick", script(`trap "exit 7" USR1; echo up; while :; do sleep 1000 & wait; done`)+"\nrestart: {policy: never}")
	w.awaitOutput("quick", "up")
	w.awaitOutput("talker", "line 100")
	pid, _, err := w.keeper.Ping(ctx)
	if err != nil {
		t.Fatal(err)
	}
	quick, _ := w.Get("quick")
	unix.Kill(quick.Pid, unix.SIGUSR1) // it ends about when the keeper changes
	for range 5 {
		if err := w.keeper.Upgrade(ctx); err != nil {
			t.Fatal(err)
		}
		if now, _, err := w.keeper.Ping(ctx); err != nil || now != pid {
			t.Fatalf("the keeper was process %d and is %d (%v)", pid, now, err)
		}
	}
	if s := w.await("quick", status.Exited); s.Exit.Code != 7 {
		t.Errorf("quick: %+v", s.Exit)
	}
	if s := w.await("talker", status.Exited); s.Exit.Code != 9 {
		t.Errorf("talker: %+v", s.Exit)
	}
	lines := strings.Split(strings.TrimSpace(w.output("talker")), "\n")
	for i, line := range lines {
		if want := fmt.Sprintf("line %d", i); line != want {
			t.Fatalf("line %d is %q", i, line)
		}
	}
	if len(lines) != count {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
		raw, _ := os.ReadFile(w.LogDir("talker") + "/output.log")
		n := strings.Count(string(raw), "\n")
		t.Errorf("raw %d lines, tail %q", n, raw[max(0, len(raw)-200):])
	}
	if s, _ := w.Get("steady"); s.Pid != steady.Pid || s.State != status.Running {
		t.Errorf("steady: %+v", s)
	}
	w.create("later", script(forever)) // and it still launches
	if current, err := w.keeper.Current(ctx); !current || err != nil {
		t.Errorf("current: %v %v", current, err)
	}
}
