package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stead/runtime/weak"

	"golang.org/x/sys/unix"
)

// TestCVE makes the attack of each known class of escapes from container
// runtimes. In a build with the tag `weak` the defence that stands against it is
// taken away first, and the attack must succeed: else the test would prove nothing.
func TestCVE(t *testing.T) {
	for _, c := range []struct {
		name, class string
		without     string // the defence that is taken away
		attack      func(*world) (escaped string)
	}{
		{"CVE-2016-9962", "an exec's process is traced before it gave up the host's rights", "exec begins inside", traceExec},
		{"CVE-2017-1002101", "a mount's source in a volume of another is a link", "sources by path", linkSource},
		{"CVE-2019-5736", "the host's binary is overwritten through /proc/PID/exe", "binary on disk", overwriteBinary},
		{"CVE-2019-16884", "a mount whose target is a link to /proc hides proc", "mounts over proc", mountOverProc},
		{"CVE-2019-19921", "/proc is swapped for a link while a container starts", "masks by path", swapProc},
		{"CVE-2023-27561", "/proc is a link into a volume, which is swapped", "masks by path", linkProc},
		{"CVE-2021-30465", "a mount's target in a volume is swapped for a link", "targets by path", swapTarget},
		{"CVE-2024-45310", "a mount's target is made outside of the root", "targets made by path", makeOutside},
		{"CVE-2022-0492", "release_agent runs a program on the host", "host cgroups", releaseAgent},
		{"CVE-2022-29162", "inheritable capabilities come to life by a file's", "inheritable capabilities", inheritCaps},
		{"CVE-2024-21626", "a working directory behind a descriptor that leaked", "leaks", leakedDirectory},
		{"CVE-2025-31133", "the root's /dev/null, a link, is what masks", "masks from the root", linkNull},
		{"CVE-2025-52565", "the root's /dev/pts/0, a link, is the console", "console from the root", linkConsole},
		{"CVE-2025-52881", "what is written to /proc goes elsewhere", "label through proc", redirectLabel},
		{"CVE-2016-3697", "a user's name is another's id", "names before numbers", numericName},
		{"CVE-2020-15257", "an abstract socket is reached from the host's network", "abstract socket", abstractSocket},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			if weak.Built {
				if strings.Contains(c.class, "release_agent") && w.v2() {
					t.Skip("no cgroup v1 here")
				}
				w.copySelf("binary")
				if err := os.WriteFile(w.o.RunDir+"/weak", []byte(c.without), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			switch escaped := c.attack(w); {
			case weak.Built && escaped == "":
				t.Errorf("%s: not even without its defence (%s): this test proves nothing", c.class, c.without)
			case !weak.Built && escaped != "":
				t.Errorf("%s: %s", c.class, escaped)
			default:
				t.Log(escaped)
			}
		})
	}
}

// rounds is how often a race is run.
func rounds() int {
	if slow() {
		return 10
	}
	return 200
}

// copySelf puts a copy of this program into the run directory.
func (w *world) copySelf(name string) {
	w.t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(filepath.Join(w.o.RunDir, name), self, 0o755)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// evil makes a container that does what insiders[do] does. mounts and more are
// more of its manifest, "" for none.
func (w *world) evil(name, do, mounts, more string) error {
	w.t.Helper()
	_, err := w.Create(ctx, parse(w.t, name, evilManifest(do, mounts, more)), origin)
	return err
}

func evilManifest(do, mounts, more string) string {
	self, _ := os.Executable()
	return "command: [/attack]\nrestart: {policy: never}\nenv: {INSIDE: " + do + ", GORACE: atexit_sleep_ms=0}\nmounts: {/attack: {source: " + self + ", readOnly: true}" + mounts + "}\n" + more
}

// again starts a container n times more. One that is refused is fine: what it
// does when it runs tells in its output.
func (w *world) again(name string, n int) {
	w.t.Helper()
	// Under the race detector a program without its /proc takes long to end.
	for i, began := 0, time.Now(); i < n && (i < n/10 || time.Since(began) < 10*time.Second); i++ {
		if w.Start(ctx, name, false) == nil {
			w.await(name, Exited)
		}
	}
}

// escapes are the lines of a container's output that say so.
func (w *world) escapes(name string) string {
	var all []string
	for line := range strings.Lines(w.output(name)) {
		if strings.HasPrefix(line, "ESCAPED") {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return strings.Join(all[:min(3, len(all))], "\n")
}

// path is a place of this test's own on the host.
func (w *world) path(name string) string {
	return filepath.Join(filepath.Dir(w.o.StateDir), name)
}

// hostileRoot is a root directory with the host's programs and what its owner
// likes to have in it: links and, where the text ends in a slash, directories.
// Its manifest needs the mounts of usr.
func (w *world) hostileRoot(name string, entries ...string) string {
	w.t.Helper()
	root := w.path(name)
	entries = append(entries, "usr/", "etc/", "tmp/", "bin -> usr/bin", "lib -> usr/lib", "lib64 -> usr/lib64")
	for _, e := range entries {
		at, target, link := strings.Cut(e, " -> ")
		err := os.MkdirAll(filepath.Dir(filepath.Join(root, at)), 0o755)
		if link {
			err = os.Symlink(target, filepath.Join(root, at))
		} else if err == nil {
			err = os.MkdirAll(filepath.Join(root, at), 0o755)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return root
}

const usr = ", /usr: {source: /usr, readOnly: true}"

// swapper is a container that shares dir and exchanges two names in it all the time.
func (w *world) swapper(dir, x, y string) {
	w.t.Helper()
	if err := w.evil("swapper", "swap", ", /shared: {source: "+dir+"}", fmt.Sprintf("args: [%s, %s]", x, y)); err != nil {
		w.t.Fatal(err)
	}
	w.awaitOutput("swapper", "swapping")
}

func overwriteBinary(w *world) string {
	binary := w.o.RunDir + "/binary"
	w.copySelf("binary")
	before, err := os.Stat(binary)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.evil("evil", "binary", "", "security: {userns: host, capabilities: {add: [SYS_PTRACE]}}"); err != nil {
		w.t.Fatal(err)
	}
	w.awaitOutput("evil", "ready")
	for range 5 { // what it has as a shell is a link to /proc/self/exe
		if _, _, _, err := w.exec("evil", "", ExecOptions{Argv: []string{"/tmp/sh"}, Env: []string{"INSIDE=pause"}}); err != nil {
			w.t.Log(err)
		}
	}
	w.awaitOutput("evil", "holding")
	// While the keeper runs its binary nobody can write to it. The next keeper
	// has another copy.
	os.Rename(binary, binary+".old")
	w.copySelf("binary")
	pid, _, err := w.keeper.Ping(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	unix.Kill(pid, unix.SIGKILL)
	if err := os.WriteFile(w.dir("evil")+"/upper/tmp/now", nil, 0o644); err != nil {
		w.t.Fatal(err)
	}
	w.awaitOutput("evil", "tried")
	after, err := os.Stat(binary + ".old")
	if err != nil || after.Size() != before.Size() {
		return fmt.Sprintf("the binary has %d bytes, it had %d (%v)", after.Size(), before.Size(), err)
	}
	return w.escapes("evil")
}

func traceExec(w *world) string {
	marker := w.path("marker")
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := w.evil("evil", "trace", "", "args: ["+marker+"]\nsecurity: {userns: host, capabilities: {add: [SYS_PTRACE]}}"); err != nil {
		w.t.Fatal(err)
	}
	w.awaitOutput("evil", "watching")
	for range 2 * rounds() {
		if code, out, _, err := w.exec("evil", "", ExecOptions{Argv: []string{"echo", "hello"}}); code != 0 || out != "hello\n" || err != nil {
			w.t.Fatal(code, out, err)
		}
	}
	if escaped := w.escapes("evil"); escaped != "" {
		return escaped
	}
	if err := os.WriteFile(w.dir("evil")+"/upper/tmp/now", nil, 0o644); err != nil {
		w.t.Fatal(err)
	}
	w.awaitOutput("evil", "seen")
	if strings.Contains(w.output("evil"), "seen 0") {
		w.t.Error("it saw no process at all: the test proves nothing")
	}
	return w.escapes("evil")
}

func mountOverProc(w *world) string {
	root := w.hostileRoot("root", "x -> proc", "y -> ./usr/../proc", "proc/")
	fake := w.hostileRoot("fake", "self/", "sys/kernel/")
	for _, x := range []string{"x", "y"} {
		if err := w.evil(x, "proc", usr+", /"+x+": {source: "+fake+"}", "rootfs: {path: "+root+"}"); err != nil {
			w.t.Log(err)
			continue
		}
		w.await(x, Exited)
	}
	return w.escapes("x") + w.escapes("y")
}

func swapProc(w *world) string {
	root := w.hostileRoot("root", "proc/", "other/", "evil -> other")
	w.swapper(root, "proc", "evil")
	w.evil("victim", "procs", usr, "rootfs: {path: "+root+"}\nargs: [/proc, /evil, /other]")
	w.await("victim", Exited)
	w.again("victim", rounds())
	return w.escapes("victim")
}

func linkProc(w *world) string {
	root := w.hostileRoot("root", "proc -> vol/x", "sys -> vol/x/../s", "vol/")
	volume := w.hostileRoot("volume", "a/", "b/", "s/", "x -> a", "y -> b")
	w.swapper(volume, "x", "y")
	w.evil("victim", "procs", usr+", /vol: {source: "+volume+"}", "rootfs: {path: "+root+"}\nargs: [/proc, /vol/a, /vol/b]")
	w.await("victim", Exited)
	w.again("victim", rounds())
	return w.escapes("victim")
}

func swapTarget(w *world) string {
	volume := w.hostileRoot("volume", "x/", "y -> /empty") // which is what hides directories, outside of the root
	gotcha := w.hostileRoot("gotcha", "gotcha/")
	w.swapper(volume, "x", "y")
	w.evil("victim", "gotcha", ", /data: {source: "+volume+"}, /data/x: {source: "+gotcha+"}", "")
	w.await("victim", Exited)
	w.again("victim", rounds())
	return w.escapes("victim")
}

func linkSource(w *world) string {
	secret := w.hostileRoot("secret", "gotcha/")
	volume := w.hostileRoot("volume", "x/", "y -> "+secret, "z -> x")
	w.swapper(volume, "x", "y")
	for _, at := range []string{"x", "y", "z"} {
		// That refuses links to a place where it may have been, too.
		w.evil(at, "gotcha", ", /mnt: {source: "+volume+"/"+at+"}", "")
		w.again(at, rounds()/3)
	}
	// Its maker may be gone; what it made is not to be trusted for that.
	if err := w.Remove(ctx, "swapper"); err != nil {
		w.t.Fatal(err)
	}
	w.reopen()
	os.RemoveAll(volume + "/y")
	os.Symlink(secret, volume+"/y")
	err := w.evil("later", "gotcha", ", /mnt: {source: "+volume+"/y}", "")
	if err == nil {
		w.await("later", Exited)
		return "later " + w.escapes("later")
	} else if !strings.Contains(err.Error(), volume+"/y is a symbolic link, and a container can write to "+volume+", or once could; name the place that it means") {
		w.t.Error(err)
	}
	return w.escapes("x") + w.escapes("y") + w.escapes("z")
}

func makeOutside(w *world) string {
	host := w.path("host")
	os.Mkdir(host, 0o755)
	root := w.hostileRoot("root", "data/x/", "data/y -> "+host, "data/z -> ../../host")
	w.swapper(root+"/data", "x", "y")
	for i := range rounds() {
		target := "/data/" + []string{"x", "x", "y", "z"}[i%4]
		if w.evil("victim", "nothing", fmt.Sprintf("%s, %s/new-%d: {tmpfs: {}}", usr, target, i), "rootfs: {path: "+root+"}") == nil {
			w.await("victim", Exited)
		}
		if err := w.Remove(ctx, "victim"); err != nil {
			w.t.Fatal(err)
		}
		if made, _ := os.ReadDir(host); len(made) > 0 {
			return fmt.Sprint("on the host: ", made)
		}
	}
	return ""
}

func releaseAgent(w *world) string {
	touched, agent := w.path("touched"), w.path("agent")
	if err := os.WriteFile(agent, []byte("#!/bin/sh\ntouch "+touched+"\n"), 0o755); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.clearHierarchy(w.o.CgroupParent) })
	for name, security := range map[string]string{
		"default": "{}", "admin": "{capabilities: {add: [SYS_ADMIN]}}", "unconfined": "{seccomp: unconfined}",
		"host": "{userns: host, capabilities: {add: [SYS_ADMIN]}}",
	} {
		if err := w.evil(name, "cgroup", "", "args: ["+agent+", "+w.o.CgroupParent+"]\nsecurity: "+security); err != nil {
			w.t.Fatal(err)
		}
		w.await(name, Exited)
		w.t.Log(name, ": ", w.output(name))
	}
	for range 50 {
		if _, err := os.Stat(touched); err == nil {
			return "a program of the host ran"
		}
		if !weak.Built && strings.Contains(w.output("host"), "refused") {
			break // nothing to wait for
		}
		time.Sleep(20 * time.Millisecond)
	}
	return w.escapes("default") + w.escapes("admin") + w.escapes("unconfined")
}

// clearHierarchy takes away what a successful attack made.
func (w *world) clearHierarchy(name string) {
	there := func() bool {
		b, _ := os.ReadFile("/proc/self/cgroup")
		return strings.Contains(string(b), "name="+name+":")
	}
	at := w.t.TempDir()
	if there() && unix.Mount("cgroup", at, "cgroup", 0, "none,name="+name) == nil {
		os.Remove(at + "/x")
		time.Sleep(100 * time.Millisecond) // it goes with its last mount, if by then its groups are quite gone
		unix.Unmount(at, 0)
	}
	for end := time.Now().Add(10 * time.Second); there(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Error("left over: hierarchy ", name)
			return
		}
	}
}

func inheritCaps(w *world) string {
	escaped := ""
	for name, more := range map[string]string{"root": "", "nobody": "user: nobody\n", "adds": "user: nobody\n"} {
		add := ""
		if name == "adds" { // is what it has to inherit, and nothing else
			add = ", capabilities: {add: [NET_BIND_SERVICE]}"
		}
		if err := w.evil(name, "caps", "", more+"args: ["+name+", wait]\nsecurity: {noNewPrivileges: false"+add+"}"); err != nil {
			w.t.Fatal(err)
		}
		w.awaitOutput(name, "waiting")
		escaped += w.escapes(name)
		code, out, _, err := w.exec(name, "", ExecOptions{Argv: []string{"/attack", name}})
		if err != nil || strings.Contains(out, "ESCAPED") {
			escaped += fmt.Sprint("in an exec: ", code, out, err)
		}
	}
	return escaped
}

func leakedDirectory(w *world) string {
	secret := w.path("secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o644); err != nil {
		w.t.Fatal(err)
	}
	if err := w.evil("shell", "nothing", "", "args: [wait]\nsecurity: {userns: host}"); err != nil {
		w.t.Fatal(err)
	}
	for fd := range 40 {
		dir := fmt.Sprintf("/proc/self/fd/%d", fd)
		if fd%2 == 1 {
			dir = fmt.Sprintf("/proc/thread-self/fd/%d", fd)
		}
		if w.evil("evil", "cwd", "", "args: ["+secret+"]\nworkingDir: "+dir+"\nsecurity: {userns: host}") == nil {
			w.await("evil", Exited)
		}
		escaped := w.escapes("evil")
		if err := w.Remove(ctx, "evil"); err != nil {
			w.t.Fatal(err)
		}
		_, out, _, _ := w.exec("shell", "", ExecOptions{Argv: []string{"/attack", secret}, WorkingDir: dir, Env: []string{"INSIDE=cwd"}})
		if strings.Contains(out, "ESCAPED") {
			escaped += "in an exec: " + out
		}
		if escaped != "" {
			return escaped
		}
	}
	return ""
}

func linkNull(w *world) string {
	root := w.hostileRoot("root", "dev/null -> ../proc/sys/kernel/core_pattern", "dev/zero -> ../proc/sysrq-trigger", "proc/")
	if err := w.evil("evil", "proc", usr, "rootfs: {path: "+root+"}\nsecurity: {userns: host}"); err != nil {
		w.t.Fatal(err)
	}
	w.await("evil", Exited)
	return w.escapes("evil")
}

func linkConsole(w *world) string {
	const target = "proc/sys/kernel/core_pattern"
	root := w.hostileRoot("root", "dev/pts/0 -> ../../"+target, "dev/console -> ../"+target, "dev/tty -> ../"+target, "dev/ptmx -> ../"+target, "proc/")
	if err := w.evil("evil", "console", usr, "rootfs: {path: "+root+"}\nsecurity: {userns: host, capabilities: {add: [SYS_ADMIN]}}"); err != nil {
		w.t.Fatal(err)
	}
	w.awaitOutput("evil", "waiting")
	escaped := w.escapes("evil")
	// By now its /dev/pts/ptmx is a link to a file of the kernel's.
	x, err := w.Exec(ctx, "evil", ExecOptions{Argv: []string{"true"}})
	if err == nil {
		x.Terminal.Close()
		x.Wait()
		escaped += "a terminal was made of it"
	}
	return escaped
}

func redirectLabel(w *world) string {
	victim := w.path("victim")
	if err := os.WriteFile(victim, nil, 0o600); err != nil {
		w.t.Fatal(err)
	}
	os.Chown(victim, 1000, 1000) // the container's root has no capability to get at it
	if err := w.evil("evil", "label", ", /victim: {source: "+victim+"}", "security: {capabilities: {drop: [ALL], add: [SYS_ADMIN]}}"); err != nil {
		w.t.Fatal(err)
	}
	w.awaitOutput("evil", "waiting")
	_, out, _, err := w.exec("evil", "", ExecOptions{Argv: []string{"/attack"}, Env: []string{"INSIDE=confined"}})
	if b, _ := os.ReadFile(victim); len(b) > 0 {
		return fmt.Sprintf("%q was written for it", b)
	}
	if err != nil || out != "confined\n" {
		return fmt.Sprintf("an exec is not confined: %q %v", out, err)
	}
	return w.escapes("evil")
}

func numericName(w *world) string {
	root := w.hostileRoot("root")
	os.WriteFile(root+"/etc/passwd", []byte("1000:x:0:0:root:/root:/bin/sh\nroot:x:0:0::/:/bin/sh\n"), 0o644)
	os.WriteFile(root+"/etc/group", []byte("1000:x:0:\nroot:x:0:1000\n"), 0o644)
	for name, user := range map[string]string{"user": "'1000'", "group": "'1000:1000'"} {
		if err := w.evil(name, "id", usr, "user: "+user+"\nrootfs: {path: "+root+"}"); err != nil {
			w.t.Fatal(err)
		}
		w.await(name, Exited)
	}
	return w.escapes("user") + w.escapes("group")
}

func abstractSocket(w *world) string {
	if err := w.evil("evil", "abstract", "", "network: {mode: host}\nargs: ["+filepath.Base(w.o.RunDir)+"]\nsecurity: {userns: host}"); err != nil {
		w.t.Fatal(err)
	}
	w.await("evil", Exited)
	return w.escapes("evil")
}
