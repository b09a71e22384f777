package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stead/runtime/roottest"
)

// keeping is a container with a host root that writes a file and stays.
const keeping = `apiVersion: stead/v1
kind: Container
metadata: {name: web} # the shop
spec:
  rootfs: {host: {}}
  command: [sh, -c, "echo first > /var/data; while :; do sleep 1; done"]
  network: {mode: none}
  stop: {signal: KILL}
`

// await waits until a file of the host has a content.
func (h *testHost) awaitFile(file, want string) {
	h.t.Helper()
	for end := time.Now().Add(roottest.Patience); ; time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(file)
		if err == nil && strings.TrimSpace(string(b)) == want {
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("%s: %q %v, want %q", file, b, err, want)
		}
	}
}

// archiveOf backs a container up and returns the file.
func (h *testHost) archiveOf(name string) string {
	h.t.Helper()
	out := h.ok("backup", name, "-o", h.t.TempDir())
	_, file, _ := strings.Cut(strings.SplitN(out, ",", 2)[0], ": ")
	return file
}

// A container comes back from an archive: after it was removed and purged, with its own data
// replaced, and under another name, with and without a daemon.
func TestBackupAndRestore(t *testing.T) {
	for _, daemon := range []bool{true, false} {
		t.Run(fmt.Sprintf("daemon %v", daemon), func(t *testing.T) {
			h := newHost(t)
			apply := func() {
				t.Helper()
				if !daemon {
					h.ok("apply", "--confirm-removal=all")
				}
			}
			if daemon {
				h.startDaemon()
			}
			h.write("web.yaml", keeping)
			apply()
			data := h.dir + "/state/containers/web/upper/var/data"
			h.awaitFile(data, "first")
			file := h.archiveOf("web")
			if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
				t.Fatalf("%v %v", st, err)
			}
			if out := h.ok("backup", "verify", file); !strings.Contains(out, "is whole: web") {
				t.Error(out)
			}
			if err := os.WriteFile(data, []byte("second\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(data+"-new", nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if c := h.stead("restore", file); c.code == 0 || !strings.Contains(c.err, "--replace") {
				t.Fatalf("without --replace: %d %s", c.code, c.err)
			}
			if c := h.stead("restore", "--replace", file); c.code == 0 || !strings.Contains(c.err, "it runs; run stead stop web") {
				t.Fatalf("while it runs: %d %s", c.code, c.err)
			}
			h.awaitFile(data, "second")
			h.ok("stop", "web")
			h.ok("restore", "--replace", file)
			h.awaitFile(data, "first")
			if _, err := os.Stat(data + "-new"); err == nil {
				t.Error("a file that the backup does not have is there")
			}
			olds, _ := filepath.Glob(h.dir + "/state/removed/web@*/upper/var/data")
			if len(olds) != 1 {
				t.Fatalf("the data from before: %v", olds)
			}
			h.awaitFile(olds[0], "second")
			h.ok("start", "web")

			// another one
			h.ok("restore", file, "--as", "shop")
			apply()
			h.awaitFile(h.dir+"/state/containers/shop/upper/var/data", "first")
			b, err := os.ReadFile(h.manifests + "/shop.yaml")
			if err != nil || string(b) != strings.Replace(keeping, "name: web", "name: shop", 1) {
				t.Errorf("%s %v", b, err)
			}

			// and one that is gone
			h.ok("stop", "web")
			if err := os.Remove(h.manifests + "/web.yaml"); err != nil {
				t.Fatal(err)
			}
			apply()
			for end := time.Now().Add(roottest.Patience); ; time.Sleep(10 * time.Millisecond) {
				if _, err := os.Stat(h.dir + "/state/containers/web"); err != nil {
					break
				}
				if time.Now().After(end) {
					t.Fatal("it is not removed")
				}
			}
			h.ok("purge", "web")
			in, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if c := h.steadPipe(in, "restore", "-"); c.code != 0 {
				t.Fatal(c.err)
			}
			apply()
			h.awaitFile(data, "first")
			if b, err := os.ReadFile(h.manifests + "/web.yaml"); err != nil || string(b) != keeping {
				t.Errorf("%s %v", b, err)
			}
			if left, _ := filepath.Glob(h.dir + "/state/restore/*"); len(left) > 0 {
				t.Errorf("left over: %v", left)
			}
		})
	}
}

// steadPipe runs a verb with bytes in a pipe.
func (h *testHost) steadPipe(in []byte, args ...string) call {
	h.t.Helper()
	var out, err bytes.Buffer
	cmd := h.command(args...)
	r, w, e := os.Pipe()
	if e != nil {
		h.t.Fatal(e)
	}
	defer r.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r, &out, &err
	go func() {
		w.Write(in)
		w.Close()
	}()
	if e := cmd.Run(); cmd.ProcessState == nil {
		h.t.Fatal(e)
	}
	return call{cmd.ProcessState.ExitCode(), out.String(), err.String()}
}

// goesOn waits until a file that a container writes all the time has other content.
func (h *testHost) goesOn(file string) {
	h.t.Helper()
	was, _ := os.ReadFile(file)
	for end := time.Now().Add(roottest.Patience); ; time.Sleep(time.Millisecond) {
		if b, err := os.ReadFile(file); err == nil && !bytes.Equal(b, was) {
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("%s does not change: the container stands still", file)
		}
	}
}
