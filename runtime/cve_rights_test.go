package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"stead/runtime/roottest"
	"stead/runtime/status"
	"stead/runtime/weak"

	"golang.org/x/sys/unix"
)

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
	for range races(2 * rounds()) {
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
		w.await(name, status.Exited)
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
	for end := time.Now().Add(roottest.Patience); there(); time.Sleep(20 * time.Millisecond) {
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
	for fd := range 2*min(rounds(), 14) + 4 { // the keeper has no more open
		dir := fmt.Sprintf("/proc/self/fd/%d", fd)
		if fd%2 == 1 {
			dir = fmt.Sprintf("/proc/thread-self/fd/%d", fd)
		}
		if w.evil("evil", "cwd", "", "args: ["+secret+"]\nworkingDir: "+dir+"\nsecurity: {userns: host}") == nil {
			w.await("evil", status.Exited)
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
		w.await(name, status.Exited)
	}
	return w.escapes("user") + w.escapes("group")
}

func abstractSocket(w *world) string {
	if err := w.evil("evil", "abstract", "", "network: {mode: host}\nargs: ["+filepath.Base(w.o.RunDir)+"]\nsecurity: {userns: host}"); err != nil {
		w.t.Fatal(err)
	}
	w.await("evil", status.Exited)
	return w.escapes("evil")
}
