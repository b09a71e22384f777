package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"stead/runtime/keeper"

	"golang.org/x/sys/unix"
)

// Whoever starts the keeper first shapes nobody: what that process has been given (its CPUs,
// priority, slack, personality, ...) is in no container and in no exec.
func TestNothingIsInherited(t *testing.T) {
	h := newHost(t)
	normal := traitsOf(t, os.Getpid())
	runtime.LockOSThread() // for good: the thread that becomes odd here ends with this goroutine
	beOdd(t)
	odd := traitsOf(t, unix.Gettid())
	odd["oom_score_adj"] = "123"
	h.write("mapped.yaml", manifest("mapped", ""))
	h.write("host.yaml", manifest("host", "  security: {userns: host}\n"))
	apply := h.command("apply")
	apply.Path, apply.Args = "/bin/sh", append([]string{"sh", "-c", `echo 123 >/proc/self/oom_score_adj && exec "$@"`, "sh"}, apply.Args...)
	if out, err := apply.CombinedOutput(); err != nil {
		t.Fatalf("apply: %v\n%s", err, out)
	}
	for _, v := range h.views() {
		compareTraits(t, "start "+v.Name, traitsOf(t, v.Pid), normal, odd)
		h.execReads(v.Name, func(pid int) { compareTraits(t, "exec in "+v.Name, traitsOf(t, pid), normal, odd) })
	}
	if out := h.ok("exec", "host", "setpriv", "--dump"); !strings.Contains(out, "Securebits: [none]\n") {
		t.Errorf("securebits: %s", out)
	}
	pid, _, err := keeper.Client{Run: h.run}.Ping(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	its := traitsOf(t, pid)
	for _, trait := range []string{"cpus", "priority", "timer slack", "personality"} {
		if its[trait] != normal[trait] {
			t.Errorf("%s of the keeper: %s, want %s", trait, its[trait], normal[trait])
		}
	}
	t.Run("nor what the keeper is given later", func(t *testing.T) {
		h.within(t)
		for _, tid := range threads(t, pid) {
			if err := unix.Setpriority(unix.PRIO_PROCESS, tid, 7); err != nil {
				t.Error(err)
			}
			if err := unix.SchedSetaffinity(tid, &unix.CPUSet{1}); err != nil {
				t.Error(err)
			}
		}
		h.ok("restart", "mapped")
		compareTraits(t, "start later", traitsOf(t, h.until("mapped", "running", running).Pid), normal, odd)
	})
}

// execReads runs a command in a container, and calls look with its pid.
func (h *testHost) execReads(name string, look func(pid int)) {
	h.t.Helper()
	cmd := h.command("exec", "-i", name, "sh", "-c", "echo up; exec cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		_, err = out.Read(make([]byte, 3))
	}
	if err != nil {
		h.t.Fatal(err)
	}
	for _, pid := range h.processes() {
		if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); string(b) == "cat\x00" {
			look(pid)
		}
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		h.t.Error(err)
	}
}

// A keeper that was started in another network namespace than the host's says so.
func TestForeignNetwork(t *testing.T) {
	h := newHost(t)
	h.write("a.yaml", manifest("a", ""))
	const note = "another network namespace than process 1"
	if c := h.stead("status"); strings.Contains(c.out, note) {
		t.Errorf("without a keeper: %+v", c)
	}
	runtime.LockOSThread() // for good
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	h.ok("apply")
	if c := h.stead("status"); c.code != 0 || !strings.Contains(c.out, note) {
		t.Errorf("in a network namespace of its own: %+v", c)
	}
}

// beOdd gives this thread what a process might have when it starts the keeper.
func beOdd(t *testing.T) {
	t.Helper()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	call := func(what string, nr, a, b, c uintptr) {
		t.Helper()
		if _, _, e := unix.RawSyscall(nr, a, b, c); e != 0 {
			t.Fatalf("%s: %v", what, e)
		}
	}
	must("affinity", unix.SchedSetaffinity(0, &unix.CPUSet{1}))
	must("policy and nice", unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_BATCH, Nice: 11}, 0))
	call("I/O priority", unix.SYS_IOPRIO_SET, 1, 0, 3<<13)                // the idle class
	call("personality", unix.SYS_PERSONALITY, 0x0040000, 0, 0)            // ADDR_NO_RANDOMIZE
	must("securebits", unix.Prctl(unix.PR_SET_SECUREBITS, 1<<2, 0, 0, 0)) // SECBIT_NO_SETUID_FIXUP
	must("timer slack", unix.Prctl(unix.PR_SET_TIMERSLACK, 777000, 0, 0, 0))
}

// traitsOf returns what a process or thread has and would pass on.
func traitsOf(t *testing.T, pid int) map[string]string {
	t.Helper()
	read := func(file string) string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
		return strings.TrimSpace(string(b))
	}
	stat := strings.Fields(read("stat")[strings.LastIndex(read("stat"), ")")+1:]) // from the third field on
	io, _, _ := unix.RawSyscall(unix.SYS_IOPRIO_GET, 1, uintptr(pid), 0)
	traits := map[string]string{
		"priority": "nice " + stat[16] + ", policy " + stat[38], "I/O priority": fmt.Sprint(io >> 13),
		"timer slack": read("timerslack_ns"), "personality": read("personality"), "oom_score_adj": read("oom_score_adj"),
	}
	for line := range strings.Lines(read("status")) {
		if cpus, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
			traits["cpus"] = strings.TrimSpace(cpus)
		}
	}
	return traits
}

func compareTraits(t *testing.T, who string, got, normal, odd map[string]string) {
	t.Helper()
	for trait, want := range normal {
		if odd[trait] == want {
			t.Errorf("%s: the thread was not odd", trait)
		}
		if got[trait] != want {
			t.Errorf("%s: %s is %q, want %q", who, trait, got[trait], want)
		}
	}
}

func threads(t *testing.T, pid int) (all []int) {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		var tid int
		fmt.Sscan(e.Name(), &tid)
		all = append(all, tid)
	}
	return all
}
