package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// Whoever prints into a full disk must not be told that all went well: what is
// there afterwards is not what the verb said.
func TestOutputThatIsLostIsAFailure(t *testing.T) {
	h := newHost(t)
	h.write("web.yaml", good)
	h.ok("apply")
	for line, code := range map[string]int{
		"apply": 1, "status": 1, "ps": 1, "plan": 1, "logs web": 0, "version": 1, "doctor": 1, "events": 1,
		"exec web -- echo lost": 125, "exec web -- sh -c 'exit 3'": 3, "exec web -- true": 0,
	} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		args := strings.Fields(line)
		if strings.Contains(line, "'") {
			args = []string{"exec", "web", "--", "sh", "-c", "exit 3"}
		}
		cmd := h.command(args...)
		cmd.Stdout, cmd.Stderr = full, &said
		_ = cmd.Run()
		full.Close()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Errorf("%s: exit code %d, want %d: %s", line, got, code, &said)
		}
		if lost := strings.Contains(said.String(), "no space left on device"); lost != (code == 1 || code == 125) {
			t.Errorf("%s: said %q", line, &said)
		}
	}
}
