package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"stead/reconcile/control"
	"stead/reconcile/view"
	"stead/runtime/logs"
	"stead/runtime/roottest"
)

// testHost is a host state fully apart: directories and a cgroup parent of its own. At
// the end it takes everything down and fails the test if anything is left.
type testHost struct {
	t                *testing.T
	dir, run         string
	manifests, group string
	env              []string // besides; the last word counts
	daemon           *exec.Cmd
	log              safeBuffer
}

// safeBuffer is a buffer that may be read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newHost(t *testing.T) *testHost {
	roottest.Need(t)
	t.Parallel() // nothing of it is anybody else's
	return hostOf(t)
}

// hostOf is newHost for a second one in a test.
func hostOf(t *testing.T) *testHost {
	dir, run := roottest.TempDir(t, "/var/tmp"), roottest.TempDir(t, "/dev/shm") // in memory, as /run is; and socket paths are short
	h := &testHost{t: t, dir: dir, run: run, manifests: dir + "/m", group: filepath.Base(dir)}
	t.Cleanup(h.takeDown)
	if err := os.Mkdir(h.manifests, 0o755); err != nil {
		t.Fatal(err)
	}
	return h
}

// within makes failures those of a subtest.
func (h *testHost) within(t *testing.T) {
	outer := h.t
	h.t = t
	t.Cleanup(func() { h.t = outer })
}

// command is stead as a process of its own.
func (h *testHost) command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "STEAD_STATE_DIR="+h.dir+"/state", "STEAD_RUN_DIR="+h.run,
		"STEAD_MANIFESTS="+h.manifests, "STEAD_CGROUP_PARENT="+h.group, "STEAD_CONFIG=/dev/null",
		"GORACE=atexit_sleep_ms=0") // else each verb sleeps for a second at its end
	cmd.Env = append(cmd.Env, h.env...)
	return cmd
}

func (h *testHost) stead(args ...string) call { return h.steadWith("", args...) }

func (h *testHost) steadWith(stdin string, args ...string) call {
	h.t.Helper()
	var out, err bytes.Buffer
	cmd := h.command(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &err
	if e := cmd.Run(); cmd.ProcessState == nil {
		h.t.Fatal(e)
	}
	return call{cmd.ProcessState.ExitCode(), out.String(), err.String()}
}

// ok runs a verb that must succeed.
func (h *testHost) ok(args ...string) string {
	h.t.Helper()
	c := h.stead(args...)
	if c.code != 0 {
		h.t.Fatalf("stead %s: code %d\n%s%s", strings.Join(args, " "), c.code, c.out, c.err)
	}
	return c.out
}

// startDaemon starts one and returns when it says that it is ready.
func (h *testHost) startDaemon(args ...string) {
	h.t.Helper()
	socket := h.dir + "/notify"
	os.Remove(socket)
	notices, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		h.t.Fatal(err)
	}
	defer notices.Close()
	h.daemon = h.command(append([]string{"daemon"}, args...)...)
	h.daemon.Env = append(h.daemon.Env, "NOTIFY_SOCKET="+socket)
	h.daemon.Stderr = &h.log
	if err := h.daemon.Start(); err != nil {
		h.t.Fatal(err)
	}
	if err := notices.SetReadDeadline(time.Now().Add(roottest.Patience)); err != nil {
		h.t.Fatal(err)
	}
	for buffer := make([]byte, 4096); ; {
		n, err := notices.Read(buffer)
		if err != nil {
			h.t.Fatalf("the daemon does not get ready: %v\n%s", err, h.endDaemon(syscall.SIGKILL))
		}
		if strings.Contains(string(buffer[:n]), "READY=1") {
			return
		}
	}
}

// endDaemon signals the daemon, waits for its end and returns its log.
func (h *testHost) endDaemon(signal syscall.Signal) string {
	h.t.Helper()
	if h.daemon == nil {
		return ""
	}
	_ = h.daemon.Process.Signal(signal)
	_ = h.daemon.Wait()
	h.daemon = nil
	return h.log.String()
}

// write puts a manifest into place as a person's editor does: as a whole.
func (h *testHost) write(name, text string) {
	h.t.Helper()
	writeFile(h.t, h.dir+"/new", text)
	if err := os.Rename(h.dir+"/new", h.manifests+"/"+name); err != nil {
		h.t.Fatal(err)
	}
}

func (h *testHost) views() []view.Container {
	h.t.Helper()
	var views []view.Container
	if err := json.Unmarshal([]byte(h.ok("ps", "-o", "json")), &views); err != nil {
		h.t.Fatal(err)
	}
	return views
}

// look is views without a process for it, for those who look again and again.
func (h *testHost) look() []view.Container {
	h.t.Helper()
	if h.daemon != nil {
		if c, err := control.Dial(h.run + "/daemon.sock"); err == nil {
			if r, err := c.Status(h.t.Context()); err == nil {
				return r.Containers
			}
		}
	}
	return h.views()
}

// until waits for a container to be as told and returns its view.
func (h *testHost) until(name, what string, is func(view.Container) bool) view.Container {
	h.t.Helper()
	var last []view.Container
	for end := time.Now().Add(roottest.Patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		last = h.look()
		for _, v := range last {
			if v.Name == name && is(v) {
				return v
			}
		}
	}
	h.t.Fatalf("%s: not %s: %+v\n%s", name, what, last, h.endDaemon(syscall.SIGKILL))
	return view.Container{}
}

// untilLogged waits until a text is in a container's output.
func (h *testHost) untilLogged(name, text string) {
	h.t.Helper()
	written := func() bool {
		var all strings.Builder
		_ = logs.Read(h.t.Context(), h.dir+"/state/containers/"+name+"/log", logs.Options{Tail: -1}, func(r logs.Record) error {
			all.WriteString(r.Text)
			if !r.Part {
				all.WriteByte('\n')
			}
			return nil
		})
		return strings.Contains(all.String(), text)
	}
	for end := time.Now().Add(roottest.Patience); !written() || !strings.Contains(h.stead("logs", name).out, text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("no %q in the output: %+v", text, h.stead("logs", name))
		}
	}
}

// leftovers are the processes, mounts, cgroups and files of runs that are there.
func (h *testHost) leftovers() (all []string) {
	for _, pid := range h.processes() {
		all = append(all, fmt.Sprintf("process %d", pid))
	}
	b, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, " "+h.dir) || strings.Contains(line, " "+h.run) {
			all = append(all, "mount "+line)
		}
	}
	for _, pattern := range []string{"/sys/fs/cgroup/" + h.group, "/sys/fs/cgroup/*/" + h.group, h.run + "/containers/*", h.dir + "/state/containers/*", h.run + "/keeper.sock"} {
		files, _ := filepath.Glob(pattern)
		all = append(all, files...)
	}
	return all
}

// processes are those in the host's cgroups, and its keeper. One that is dead and
// waits for init to collect it does not count.
func (h *testHost) processes() (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		group, _ := os.ReadFile(dir + "/cgroup")
		line, _ := os.ReadFile(dir + "/cmdline")
		stat, _ := os.ReadFile(dir + "/stat")
		if _, state, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(state, "Z") {
			continue
		}
		if strings.Contains(string(group), "/"+h.group) || strings.Contains(string(line), "stead-keeper\x00"+h.run+"\x00") {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, pid)
		}
	}
	return pids
}

func (h *testHost) takeDown() {
	h.endDaemon(syscall.SIGKILL)
	if h.t.Failed() {
		h.t.Logf("the daemon's log:\n%s", h.log.String())
	}
	files, _ := filepath.Glob(h.manifests + "/*")
	for _, f := range files {
		os.RemoveAll(f)
	}
	if c := h.stead("apply", "--confirm-removal=all"); c.code != 0 {
		h.t.Errorf("take down: %+v", c)
	}
	if left := h.leftovers(); len(left) > 0 {
		h.t.Errorf("left over: %s", strings.Join(left, "\n"))
	}
	for _, pid := range h.processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}
