package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"stead/runtime/keeper"
	"stead/runtime/record"
	"stead/runtime/status"

	"golang.org/x/sys/unix"
)

// A mount that somebody takes away or changes is seen, and a restart puts it right.
func TestLostMounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	source := filepath.Dir(w.StateDir) + "/source"
	if err := os.MkdirAll(source, 0o755); err != nil {
		t.Fatal(err)
	}
	body := script(forever) + "\nmounts: {/data: {tmpfs: {}}, /var/data: {tmpfs: {}}, /srv: {source: " + source + ", readOnly: true}, /mnt: {source: " + source + "}, \"/a b\": {tmpfs: {}}}\n"
	mounter := "\nsecurity: {userns: host, capabilities: {add: [SYS_ADMIN]}}"
	for _, test := range []struct {
		summary string
		more    string
		do      func(s status.Status)
		want    string // of Lost
	}{
		{"nothing happens", "", func(status.Status) {}, ""},
		{"the directory that it is on is deleted on the host", "", func(status.Status) { w.must(os.Remove(w.dir("web") + "/upper/data")) }, "mount /data is gone"},
		{"one with a blank", "", func(status.Status) { w.must(os.Remove(w.dir("web") + "/upper/a b")) }, "mount /a b is gone"},
		{"unmounted from outside", "\nsecurity: {userns: host}", func(s status.Status) { w.inside(s.Pid, func() error { return unix.Unmount("/mnt", 0) }) }, "mount /mnt is gone"},
		{"made writable", "\nsecurity: {userns: host}", func(s status.Status) {
			w.inside(s.Pid, func() error { return unix.Mount("", "/srv", "", unix.MS_REMOUNT|unix.MS_BIND, "") })
		}, "mount /srv can be written"},
		{"made read-only", "", func(s status.Status) {
			w.inside(s.Pid, func() error {
				return unix.MountSetattr(unix.AT_FDCWD, "/mnt", 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
			})
		}, "mount /mnt is read-only"},
		{"covered", "", func(s status.Status) {
			w.inside(s.Pid, func() error { return unix.Mount("none", "/mnt", "tmpfs", 0, "") })
		}, "mount /mnt is covered by another"},
		{"by one that may mount: it may have been itself", mounter, func(s status.Status) { w.inside(s.Pid, func() error { return unix.Unmount("/mnt", 0) }) }, ""},
	} {
		for _, looked := range []bool{true, false} { // before it happens
			if !looked && (test.summary == "made read-only" || test.summary == "covered") {
				continue // as it may have been from the start
			}
			t.Run(test.summary, func(t *testing.T) {
				s := w.create("web", body+test.more)
				defer func() { w.must(w.Remove(ctx, "web")) }()
				w.awaitOutput("web", "up")
				if looked {
					w.must(w.Check(ctx, true))
				}
				test.do(s)
				w.must(w.Check(ctx, true))
				if s, _ := w.Get("web"); s.Lost.String() != test.want {
					t.Errorf("lost %v, want %q", s.Lost, test.want)
				}
				w.must(w.Restart(ctx, parse(t, "web", body+test.more), origin, false))
				if s, _ := w.Get("web"); len(s.Lost) > 0 {
					t.Errorf("after the restart: lost %v", s.Lost)
				}
				w.must(w.Check(ctx, true))
				if s, _ := w.Get("web"); len(s.Lost) > 0 {
					t.Errorf("after the restart and a look: lost %v", s.Lost)
				}
			})
		}
	}
}

// Targets behind links of the root are where they lead.
func TestMountsBehindLinks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("web", script(`ln -s var/tmp /link; echo up; `+forever))
	w.awaitOutput("web", "up")
	w.must(w.Restart(ctx, parse(t, "web", script(forever)+"\nmounts: {/link/data: {tmpfs: {}}}"), origin, false))
	for range 2 {
		w.must(w.Check(ctx, true))
		if s, _ := w.Get("web"); len(s.Lost) > 0 {
			t.Errorf("lost %v", s.Lost)
		}
	}
	w.must(os.Remove(w.dir("web") + "/upper/var/tmp/data"))
	w.must(w.Check(ctx, true))
	if s, _ := w.Get("web"); s.Lost.String() != "mount /var/tmp/data is gone" {
		t.Errorf("lost %v", s.Lost)
	}
}

// What is deleted beside a container is put back.
func TestStrayedFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	body := script(forever)
	before := w.create("web", body)
	w.awaitOutput("web", "up")
	rec := w.byName["web"].rec
	w.must(os.Remove(w.dir("web") + "/root"))
	w.must(os.Remove(record.Path(w.RunDir, rec.ID())))
	w.must(w.Check(ctx, true))
	if s, _ := w.Get("web"); s.Drift.String() != "root link is gone, boot record is gone" {
		t.Errorf("drift %v", s.Drift)
	}
	w.must(w.Update(ctx, parse(t, "web", body), origin))
	w.must(w.Check(ctx, true))
	if s, _ := w.Get("web"); len(s.Drift) > 0 || s.Pid != before.Pid {
		t.Errorf("after: %+v", s)
	}
	if to, err := os.Readlink(w.dir("web") + "/root"); err != nil || to != w.dir("web")+"/upper" {
		t.Errorf("root leads to %q, %v", to, err)
	}
	w.reopen()
	if s, _ := w.Get("web"); s.State != status.Running || s.Pid != before.Pid {
		t.Errorf("after another start of the daemon: %+v", s)
	}
}

// A keeper whose socket somebody deleted listens again: for the daemon that watches
// it, and for one that is just starting.
func TestDeletedKeeperSocket(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.create("web", script(forever))
	w.awaitOutput("web", "up")
	holder := w.keeperPid()
	for what, do := range map[string]func(){
		"a check":        func() { w.must(w.Check(ctx, true)) },
		"another daemon": w.reopen,
	} {
		w.must(os.Remove(keeper.Socket(w.RunDir)))
		do()
		if now := w.keeperPid(); now != holder {
			t.Errorf("%s: the keeper was process %d and is %d", what, holder, now)
		}
		if s, _ := w.Get("web"); s.State != status.Running || s.Pid != before.Pid {
			t.Errorf("%s: %+v", what, s)
		}
		w.create("other", script(forever))
		w.must(w.Remove(ctx, "other"))
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// inside does something in a process's mount namespace, as nsenter would.
func (w *world) inside(pid int, do func() error) {
	w.t.Helper()
	done := make(chan error)
	enter := func() error {
		ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(ns)
		if err := errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(ns, unix.CLONE_NEWNS)); err != nil {
			return err
		}
		return do()
	}
	var on func()
	on = func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // the main thread never ends: occupied, it leaves the work to another
			defer runtime.UnlockOSThread()
			ended := make(chan bool)
			go func() { defer close(ended); on() }()
			<-ended
			return
		}
		done <- enter() // never unlocked: the thread ends with this
	}
	go on()
	w.must(<-done)
}
