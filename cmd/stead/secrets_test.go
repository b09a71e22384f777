package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"stead/reconcile/view"

	"golang.org/x/sys/unix"
)

// A value of the environment may be a secret: whatever is done with a container
// that has one, and whatever goes wrong, no log, no event and no list tells it.
func TestEnvironmentIsNeverTold(t *testing.T) {
	const secret, newer = "s3cret-of-old", "s3cret-of-today"
	h := newHost(t)
	h.startDaemon("--log-format", "json")
	web := func(value, more string) string { return manifest("web", "  env: {PASSWORD: "+value+"}\n"+more) }
	h.write("web.yaml", web(secret, ""))
	first := h.until("web", "runs", running)
	told := h.stead("plan").out
	h.write("web.yaml", web(newer, ""))
	told += h.stead("plan", "-o", "json").out
	h.until("web", "has started again", func(v view.Container) bool { return running(v) && v.Pid != first.Pid })
	for _, more := range []string{
		"  user: nonsuch\n",                              // can't start
		"  resources: {memory: 1}\n",                     // can't be
		"  env: {PASSWORD: " + newer + "}\n",             // given twice
		"  comand: [x]\n",                                // unknown
		"  mounts: {/x: {source: /nonsuch/$PASSWORD}}\n", // neither
	} {
		h.write("web.yaml", web(newer, more))
		h.until("web", "is refused", func(v view.Container) bool { return v.Sync == view.SyncError })
		told += h.stead("validate", h.manifests).err + h.stead("plan").out + h.stead("plan").err
		h.write("web.yaml", web(newer, ""))
		h.until("web", "is mended", func(v view.Container) bool { return v.Sync == view.Synced })
	}
	// What is wrong with a value is told without it where the value is the secret.
	h.write("web.yaml", web("["+newer+"]", ""))
	h.until("web", "is refused", func(v view.Container) bool { return v.Sync == view.SyncError })
	h.write("web.yaml", web(newer, "  resources: {memory: 64Mi}\n"))
	h.until("web", "is mended", func(v view.Container) bool { return v.Sync == view.Synced })
	h.ok("exec", "-e", "PASSWORD="+secret, "web", "true")
	for _, args := range [][]string{{"ps"}, {"ps", "-o", "wide"}, {"ps", "-o", "json"}, {"status"}, {"status", "web"}, {"events"}, {"events", "-o", "json"}, {"logs", "web"}} {
		told += h.ok(args...)
	}
	os.Remove(h.manifests + "/web.yaml")
	told += h.ok("apply", "--confirm-removal=all", "-o", "json")
	told += h.endDaemon(syscall.SIGTERM)
	for _, dir := range []string{h.dir + "/state", h.run} {
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			// The facts hold the manifest as it was applied, and a record's body the
			// environment; both are root's alone.
			if err != nil || !d.Type().IsRegular() || d.Name() == "container.json" || strings.Contains(path, "/last-good") {
				return nil
			}
			b, _ := os.ReadFile(path)
			if strings.Contains(string(b), secret) || strings.Contains(string(b), newer) {
				t.Errorf("%s tells the secret", path)
			}
			return nil
		})
	}
	for line := range strings.Lines(told) {
		if strings.Contains(line, secret) || strings.Contains(line, newer) {
			t.Errorf("told: %s", line)
		}
	}
	if !strings.Contains(told, "PASSWORD") || !json.Valid([]byte(h.stead("ps", "-o", "json").out)) {
		t.Error("nothing is told of the variable at all: the test proves nothing")
	}
}

// What stead keeps is root's alone: nobody else may open a file, and nobody else
// is answered.
func TestOthersMayNot(t *testing.T) {
	h := newHost(t)
	h.startDaemon()
	h.write("web.yaml", manifest("web", "  env: {PASSWORD: s3cret}\n"))
	h.until("web", "runs", running)
	h.untilLogged("web", "I am web") // its log is there, too
	// The directories that hold these are the test's own and for root alone, too:
	// that is not what is to be tried.
	os.Chmod(h.dir, 0o755)
	os.Chmod(h.dir+"/state", 0o700)
	seen := map[string]bool{}
	for _, dir := range []string{h.dir + "/state", h.run} {
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v %v, want 0700", dir, st.Mode(), err)
		}
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() == "upper" { // a root is as its container likes it, in a directory of 0700
				return fs.SkipDir
			}
			st, err := os.Lstat(path)
			if err != nil || st.Mode()&os.ModeSymlink != 0 {
				return nil
			}
			// A pipe is for any user of its container to write to.
			readable := st.Mode().Perm()&0o077 != 0 && st.Mode()&os.ModeNamedPipe == 0
			if readable || st.Mode().Perm()&0o044 != 0 {
				t.Errorf("%s: %v", path, st.Mode())
			}
			seen[filepath.Base(path)] = true
			return nil
		})
	}
	for _, want := range []string{"daemon.sock", "keeper.sock", "container.json", "log"} {
		if !seen[want] {
			t.Errorf("%s was not looked at: %v", want, seen)
		}
	}
	os.Chmod(h.run, 0o711) // as if the directory did not keep others out
	defer os.Chmod(h.run, 0o700)
	for _, socket := range []string{"daemon.sock", "keeper.sock"} {
		if err := asNobody(t, func() error { return dial(h.run + "/" + socket) }); err != unix.EACCES {
			t.Errorf("user nobody at %s: %v, want EACCES", socket, err)
		}
		if err := dial(h.run + "/" + socket); err != nil {
			t.Errorf("root at %s: %v", socket, err)
		}
	}
}

func dial(socket string) error {
	var err error
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET} {
		var fd int
		if fd, err = unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: socket})
		unix.Close(fd)
		if err != unix.EPROTOTYPE {
			break
		}
	}
	return err
}

// asNobody does something with the rights of another user, on a thread that
// ends with it.
func asNobody(t *testing.T, do func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); e != 0 {
			t.Error(e)
		}
		result <- do()
	}()
	return <-result
}

// status warns of what a container could leave for the host's other users.
func TestExposedIsNoted(t *testing.T) {
	h := newHost(t)
	os.Chmod(h.dir, 0o755)
	os.Mkdir(h.dir+"/data", 0o755)
	h.write("web.yaml", manifest("web", "  mounts: {/data: {source: "+h.dir+"/data}}\n"))
	h.ok("apply")
	const note = "note        web: its root can write to "
	if out := h.ok("status"); !strings.Contains(out, note+h.dir+"/data, where any user of this host can run a set-user-ID file that it leaves") {
		t.Error(out)
	}
	os.Chmod(h.dir, 0o700)
	if out := h.ok("status"); strings.Contains(out, note) {
		t.Error(out)
	}
}
