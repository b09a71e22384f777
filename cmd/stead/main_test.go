package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"stead/runtime/job"
	"stead/runtime/keeper"
	"stead/runtime/roottest"
)

// asProgram makes the test binary behave as stead itself, for tests that need
// it as a process of its own.
const asProgram = "STEAD_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if name := filepath.Base(os.Args[0]); standIns[name] != nil {
		standIn(name)
	}
	if os.Args[0] == keeper.Argv0 || os.Args[0] == job.Argv0 || os.Getenv(asProgram) != "" {
		main()
		os.Exit(0)
	}
	for _, variable := range os.Environ() { // whoever runs the tests may have a stead of their own
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "STEAD_") && !strings.HasPrefix(name, "STEAD_TEST_") {
			os.Unsetenv(name)
		}
	}
	os.Exit(roottest.Main(m))
}

// call is what one command line came to.
type call struct {
	code     int
	out, err string
}

// run carries out a command line in this process, on directories that hold
// nothing unless the test says otherwise.
func run(t *testing.T, stdin string, args ...string) call {
	t.Helper()
	dir := t.TempDir()
	for name, value := range map[string]string{
		"STEAD_STATE_DIR": dir + "/state", "STEAD_RUN_DIR": dir + "/run", "STEAD_CGROUP_PARENT": "stead-test-none", "STEAD_CONFIG": "/dev/null",
	} {
		if os.Getenv(name) == "" {
			t.Setenv(name, value)
		}
	}
	var out, err bytes.Buffer
	a := &app{in: strings.NewReader(stdin), out: &out, err: &err}
	code := a.run(context.Background(), args)
	return call{code, out.String(), err.String()}
}

// writeFile writes a file that no process which another test starts in this moment
// inherits open for writing.
func writeFile(t *testing.T, path, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
