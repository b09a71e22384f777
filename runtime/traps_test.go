package runtime

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"stead/runtime/roottest"

	"golang.org/x/sys/unix"
)

// slow says that this machine is emulated: fewer repetitions prove as much there.
func slow() bool { return os.Getenv("STEAD_TEST_VM") != "" }

// A set-user-ID file that a container's root makes is root's on disk: nobody
// else on the host may get at it.
func TestSetUserIDFileIsOutOfReach(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("web", script(`cp /usr/bin/id /var/id; chmod 4755 /var/id; echo made; `+forever))
	w.awaitOutput("web", "up")
	file := filepath.Join(w.o.StateDir, "containers/web/upper/var/id")
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil || st.Uid != 0 || st.Mode&unix.S_ISUID == 0 {
		t.Fatalf("no set-user-ID file of root there: %+v %v", st, err)
	}
	id := exec.Command(file)
	id.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := id.CombinedOutput(); err == nil {
		t.Errorf("nobody ran it: %s", out)
	}
}

// TestExecIsOutOfReach: a container's root with SYS_PTRACE watches while many
// processes are brought in, and never gets hold of one that still is the keeper.
func TestExecIsOutOfReach(t *testing.T) {
	w := newWorld(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w.create("spy", fmt.Sprintf("command: [/spy]\nenv: {SPY: 'yes'}\nmounts: {/spy: {source: %s}}\nsecurity: {capabilities: {add: [SYS_PTRACE]}}", self))
	w.awaitOutput("spy", "watching")
	n := 1000
	switch {
	case slow():
		n = 20
	case testing.Short(): // see rounds
		n = 150
	}
	late := 0
	for range n {
		began := time.Now()
		if code, _, _, err := w.exec("spy", "", ExecOptions{Argv: []string{"true"}}); code != 0 || err != nil {
			t.Fatal(code, err)
		}
		if time.Since(began) > 800*time.Millisecond {
			late++
		}
	}
	if late > n/50 && !slow() { // while it is traced its end can't be seen: it is the moment after
		t.Errorf("%d of %d ends were told late", late, n)
	}
	if code, _, _, err := w.exec("spy", "", ExecOptions{Argv: []string{"touch", "/tmp/enough"}}); code != 0 || err != nil {
		t.Fatal(code, err)
	}
	w.awaitOutput("spy", "seen")
	out := w.output("spy")
	t.Log(strings.TrimSpace(out))
	if strings.Contains(out, "LEAK") {
		t.Errorf("it got hold of the keeper's image:\n%s", out)
	}
	if strings.Contains(out, "seen 0") {
		t.Error("it saw no process at all: the test proves nothing")
	}
}

// spy looks at every process that shows up, until /tmp/enough is there.
func spy() int {
	runtime.LockOSThread()
	fmt.Println("watching")
	seen := map[int]bool{}
	for {
		if _, err := os.Stat("/tmp/enough"); err == nil {
			break
		}
		dirs, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range dirs {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			if pid == os.Getpid() {
				continue
			}
			seen[pid] = true
			look(pid)
		}
	}
	fmt.Println("seen", len(seen))
	for { // not for ever in Go: it would call that a deadlock, end, and take the last exec along
		unix.Pause()
	}
}

// look tries all that would give away the memory or the files of a process.
func look(pid int) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	say := func(how, what string) {
		if strings.Contains(what, "stead") && !strings.Contains(what, "/spy") {
			fmt.Println("LEAK", how, what)
		}
	}
	exe, _ := os.Readlink(dir + "exe")
	say("exe", exe)
	maps, _ := os.ReadFile(dir + "maps")
	say("maps", string(maps))
	environ, _ := os.ReadFile(dir + "environ")
	if strings.Contains(string(environ), "GOTRACEBACK") {
		fmt.Println("LEAK environ")
	}
	fds, _ := filepath.Glob(dir + "fd/*")
	for _, fd := range fds {
		target, _ := os.Readlink(fd)
		say("fd", target)
	}
	if unix.PtraceSeize(pid) == nil {
		exe, _ := os.Readlink(dir + "exe")
		say("ptrace", exe)
		// Only a stopped one can be let go, and one that is not would never end.
		if unix.PtraceInterrupt(pid) == nil {
			var ws unix.WaitStatus
			if _, err := unix.Wait4(pid, &ws, unix.WALL, nil); err == nil && ws.Stopped() {
				unix.PtraceDetach(pid)
			}
		}
	}
}

// Everything again where mounts are shared, as on a host with systemd: nothing
// may get from a container's tree to the host's or back.
func TestSharedPropagation(t *testing.T) {
	if os.Getenv("STEAD_TEST_SHARED") != "" {
		t.Skip("this is it")
	}
	roottest.Need(t)
	tests := "TestLife|TestAttack|TestExec|TestEnds|TestKeeperDies"
	if slow() {
		tests = "TestLife|TestAttack"
	}
	// What is there before may go meanwhile: another package's test that removes a
	// directory takes the copies of what was mounted on it along.
	again := exec.Command("unshare", "--mount", "--propagation", "shared", "sh", "-ec",
		`mounts() { cut -d" " -f1,5 /proc/self/mountinfo; }
		before=$(mounts); grep -q shared: /proc/self/mountinfo
		"$0" -test.run "^($TESTS)$"
		if mounts | grep -vxF "$before"; then echo "is left"; exit 1; fi; echo none is left`, os.Args[0])
	again.Env = append(os.Environ(), "STEAD_TEST_SHARED=1", "TESTS="+tests)
	if out, err := again.CombinedOutput(); err != nil || !strings.Contains(string(out), "none is left") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A copy of the host's mounts that lives on elsewhere holds no removal up.
func TestForeignMountNamespace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("web", script(forever)+"\nmounts: {/tmp: {tmpfs: {size: 1Mi}}}")
	w.awaitOutput("web", "up")
	holder := exec.Command("unshare", "--mount", "sleep", "1000")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		holder.Process.Kill()
		holder.Wait()
	}()
	if err := w.Remove(ctx, "web"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Create(ctx, parse(t, "web", script(forever)), origin); err != nil {
		t.Fatal(err)
	}
}

// How long a start takes does not depend on how much the host has mounted.
func TestManyMounts(t *testing.T) {
	roottest.Need(t)
	if slow() || testing.Short() {
		t.Skip("times mean nothing on an emulated machine, or with the race detector")
	}
	if os.Getenv("STEAD_TEST_MOUNTS") == "" {
		measure := func(n string) time.Duration {
			again := exec.Command("unshare", "--mount", os.Args[0], "-test.run", "^TestManyMounts$", "-test.v")
			again.Env = append(os.Environ(), "STEAD_TEST_MOUNTS="+n)
			out, err := again.CombinedOutput()
			_, rest, ok := strings.Cut(string(out), "each start took ")
			if err != nil || !ok {
				t.Fatalf("%v\n%s", err, out)
			}
			took, _, _ := strings.Cut(rest, "\n")
			d, err := time.ParseDuration(took)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		for range 4 { // something else may have kept the machine busy in one of the two
			few, many := measure("0"), measure("5000")
			t.Logf("%v with few mounts, %v with 5,000 more", few, many)
			if many < few*3/2+5*time.Millisecond { // a copy of them all costs more than 10 ms
				return
			}
		}
		t.Error("5,000 mounts of the host make a start slower")
		return
	}
	n, _ := strconv.Atoi(os.Getenv("STEAD_TEST_MOUNTS"))
	dir := t.TempDir()
	for i := range n {
		at := filepath.Join(dir, strconv.Itoa(i))
		os.Mkdir(at, 0o755)
		if err := unix.Mount(dir, at, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { // after the world is gone, which counts mounts
		for i := range n {
			unix.Unmount(filepath.Join(dir, strconv.Itoa(i)), unix.MNT_DETACH)
		}
	})
	w := newWorld(t)
	w.create("first", script(forever)) // starts the keeper
	fastest := time.Hour
	for i := range 10 {
		began := time.Now()
		w.create(fmt.Sprintf("c%d", i), script(forever))
		fastest = min(fastest, time.Since(began))
	}
	fmt.Printf("each start took %v\n", fastest)
}
