package job

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"stead/runtime/cgroup"
	"stead/runtime/roottest"

	"golang.org/x/sys/unix"
)

// asParent makes the test binary a parent of a job, which a test kills.
const asParent = "STEAD_TEST_AS_PARENT"

type codedError struct{}

func (codedError) Error() string   { return "it failed" }
func (codedError) JobCode() string { return "failed" }

var kinds = map[string]Func{
	"echo": func(_ context.Context, request json.RawMessage, report func(any)) (any, error) {
		in, err := io.ReadAll(os.Stdin)
		for i := range 3 {
			report(i)
		}
		return string(in) + string(request), err
	},
	"fail":  func(context.Context, json.RawMessage, func(any)) (any, error) { return nil, codedError{} },
	"panic": func(context.Context, json.RawMessage, func(any)) (any, error) { panic("a mistake") },
	"cgroup": func(context.Context, json.RawMessage, func(any)) (any, error) {
		b, err := os.ReadFile("/proc/self/cgroup")
		return string(b), err
	},
	"greedy": func(ctx context.Context, _ json.RawMessage, _ func(any)) (any, error) {
		var all [][]byte
		for ctx.Err() == nil && len(all) < 1024 {
			all = append(all, bytes.Repeat([]byte{1}, 1<<20))
		}
		return len(all), nil
	},
	"read": func(_ context.Context, request json.RawMessage, _ func(any)) (any, error) {
		var file string
		if err := json.Unmarshal(request, &file); err != nil {
			return nil, err
		}
		b, err := os.ReadFile(file)
		return string(b), err
	},
	"wait": func(ctx context.Context, _ json.RawMessage, report func(any)) (any, error) {
		report(os.Getpid())
		<-ctx.Done()
		return nil, ctx.Err()
	},
}

func TestMain(m *testing.M) {
	if os.Args[0] == Argv0 {
		os.Exit(Main(os.Args, kinds))
	}
	if os.Getenv(asParent) != "" {
		host, err := cgroup.Detect(os.Getenv(asParent))
		if err != nil {
			panic(err)
		}
		_, err = Runner{Host: host}.Run(context.Background(), "wait", nil, nil, func(pid json.RawMessage) { fmt.Println(string(pid)) })
		panic(err)
	}
	os.Exit(roottest.Main(m))
}

// A job gets its request and stdin, reports, and returns a result or an error with its code.
func TestRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(file, []byte("stdin "), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	reports := ""
	result, err := Runner{}.Run(t.Context(), "echo", map[string]int{"a": 1}, in, func(r json.RawMessage) { reports += string(r) })
	if want := `"stdin {\"a\":1}\n"`; err != nil || string(result) != want || reports != "012" {
		t.Errorf("%s, %v after %s; want %s", result, err, reports, want)
	}
	_, err = Runner{}.Run(t.Context(), "fail", nil, nil, nil)
	var e *Error
	if !errors.As(err, &e) || e.Code != "failed" || e.Message != "it failed" {
		t.Errorf("%v, want the error of the job", err)
	}
	_, err = Runner{}.Run(t.Context(), "panic", nil, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "the job ended early (exit status 2): panic: a mistake") {
		t.Errorf("%v, want its panic", err)
	}
	if _, err = (Runner{}).Run(t.Context(), "unknown", nil, nil, nil); err == nil {
		t.Error("a job of no kind succeeded")
	}
}

// A job ends with its context.
func TestRunEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Runner{}.Run(ctx, "wait", nil, nil, func(json.RawMessage) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was cancelled", err)
	}
}

// testHost returns cgroups of the test's own.
func testHost(t *testing.T) (*cgroup.Host, string) {
	t.Helper()
	roottest.Need(t)
	parent := roottest.Mark() + "job"
	h, err := cgroup.Detect(parent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if names, err := h.Children(); err != nil || len(names) > 0 {
			t.Errorf("cgroups left: %q, %v", names, err)
		}
		if err := h.RemoveParent(); err != nil {
			t.Error(err)
		}
	})
	return h, parent
}

// A job has a cgroup of its own, which goes with it.
func TestCgroup(t *testing.T) {
	h, parent := testHost(t)
	result, err := Runner{Host: h}.Run(t.Context(), "cgroup", nil, nil, nil)
	if want := fmt.Sprintf("/%s/_job-%d-", parent, os.Getpid()); err != nil || !strings.Contains(string(result), want) {
		t.Errorf("%s, %v; want %s", result, err, want)
	}
}

// A job that takes more memory than it may is killed, and says so.
func TestMemory(t *testing.T) {
	roottest.Need(t)
	host, _ := testHost(t)
	_, err := Runner{Host: host, Memory: 64 << 20}.Run(t.Context(), "greedy", nil, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "needed more than 64 MiB of memory") {
		t.Errorf("%v", err)
	}
	if left, _ := host.Children(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A job ends when its parent is killed, and the next job removes its cgroup.
func TestParentDies(t *testing.T) {
	h, parent := testHost(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asParent+"="+parent)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err != nil || string(b) != Argv0+"\n" {
		t.Errorf("the job is called %q, %v", b, err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(roottest.Patience/time.Millisecond)); n != 1 {
		t.Errorf("the job runs on: %v", err)
	}
	if _, err := (Runner{Host: h}).Run(t.Context(), "cgroup", nil, nil, nil); err != nil {
		t.Error(err)
	}
}

// A job that can't be killed is abandoned: whoever waits for it gets an error, further ones are
// refused, and when the file system answers all is as before.
func TestStuck(t *testing.T) {
	roottest.Need(t)
	if testing.Short() {
		t.Skip("a job has 30 s to end")
	}
	point := roottest.TempDir(t, "/var/tmp") + "/hung"
	if err := os.Mkdir(point, 0o755); err != nil {
		t.Fatal(err)
	}
	fuse := roottest.MountFUSE(t, point, map[string]string{"a": "text"})
	if got, err := (Runner{}).Run(t.Context(), "read", point+"/a", nil, nil); err != nil || string(got) != `"text"` {
		t.Fatalf("got %s, %v", got, err)
	}
	fuse.Hang()
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	for range maxAbandoned {
		go func() {
			_, err := Runner{}.Run(ctx, "read", point+"/a", nil, nil)
			failed <- err
		}()
	}
	time.AfterFunc(time.Second, cancel) // they read by then, or will
	for range maxAbandoned {
		select {
		case err := <-failed:
			if !errors.Is(err, errStuck) {
				t.Errorf("error %v", err)
			}
		case <-time.After(4*grace + roottest.Patience):
			t.Fatal("a job that hangs is waited for")
		}
	}
	if _, err := (Runner{}).Run(t.Context(), "echo", nil, nil, nil); err == nil || !strings.Contains(err.Error(), "4 jobs before it do not end") {
		t.Errorf("the next: %v", err)
	}
	fuse.Resume()
	for end := time.Now().Add(roottest.Patience); abandoned.Load() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the jobs do not end")
		}
	}
	if got, err := (Runner{}).Run(t.Context(), "read", point+"/a", nil, nil); err != nil || string(got) != `"text"` {
		t.Errorf("afterwards: %s, %v", got, err)
	}
}
