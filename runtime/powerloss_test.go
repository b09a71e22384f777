package runtime

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"stead/runtime/roottest"
	"stead/runtime/status"
	"stead/runtime/store"

	"golang.org/x/sys/unix"
)

// disk is a file system of its own that can lose power.
type disk struct {
	t          testing.TB
	image, dir string
}

func newDisk(t testing.TB) *disk {
	for _, tool := range []string{"mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	d := &disk{t: t, dir: t.TempDir()}
	image, err := os.CreateTemp("/var/tmp", roottest.Mark()+"*.img")
	if err != nil {
		t.Fatal(err)
	}
	d.image = image.Name()
	t.Cleanup(func() { os.Remove(d.image) })
	if err := image.Truncate(32 << 20); err != nil {
		t.Fatal(err)
	}
	image.Close()
	d.run("mkfs.ext4", "-q", d.image)
	d.mount()
	t.Cleanup(func() { _ = unix.Unmount(d.dir, unix.MNT_DETACH) })
	return d
}

func (d *disk) run(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s: %v: %s", name, err, out)
	}
}

func (d *disk) mount() { d.t.Helper(); d.run("mount", "-o", "loop", d.image, d.dir) }

// losePower has it forget all that is not on the disk: EXT4_IOC_SHUTDOWN without
// flushing the journal (fs/ext4/ioctl.c, Linux 4.11).
func (d *disk) losePower() {
	d.t.Helper()
	const shutdown, noFlush = 0x8004587d, 2
	root, err := unix.Open(d.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	defer unix.Close(root)
	if err := unix.IoctlSetPointerInt(root, shutdown, noFlush); err != nil {
		d.t.Fatal(err)
	}
}

// A host that loses power knows afterwards what it was told and what it began:
// what an admin stopped stays stopped, what is on hold stays so, and a job that
// may run once is known to have run.
func TestPowerLossForgetsNothing(t *testing.T) {
	w := newWorld(t)
	d := newDisk(t)
	state := w.o.StateDir
	w.Close()
	w.o.StateDir = d.dir + "/state"
	w.open()
	w.create("job", script("sleep 1000")+"\nrestart: {policy: never}")
	w.create("web", script("sleep 1000")+"\nstop: {signal: KILL}")
	unix.Sync() // what follows is all that is not on the disk for sure
	_, err := w.saveAdminIntent(w.byName["web"], true)
	w.must(err)
	w.must(w.Holds.Hold([]string{"web"}, "looking at it"))
	w.create("late", script("sleep 1000")+"\nrestart: {policy: never}")
	d.losePower()

	for _, name := range []string{"job", "web", "late"} { // as they end with a host
		s, _ := w.Get(name)
		w.must(unix.Kill(s.Pid, unix.SIGKILL))
		w.await(name, status.Exited)
	}
	stop, cancel := context.WithTimeout(ctx, roottest.Patience)
	defer cancel()
	w.must(w.QuitKeeper(stop))
	w.Close()
	w.must(unix.Unmount(d.dir, 0))
	d.mount()
	for _, name := range []string{"job", "web", "late"} {
		f, err := store.ReadFacts(d.dir + "/state/containers/" + name)
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case name == "web" && f.StoppedAt == nil:
			t.Error("web: not known to be stopped")
		case name != "web" && f.LastRun == nil:
			t.Errorf("%s: not known to have run", name)
		}
	}
	w.open()
	if h := w.Holds.Holds().Of("web"); h == nil || h.Reason != "looking at it" {
		t.Errorf("web is not on hold: %+v", h)
	}
	for _, s := range w.List() {
		w.must(w.Remove(ctx, s.Name))
	}
	w.must(w.QuitKeeper(stop))
	w.Close()
	w.must(unix.Unmount(d.dir, 0))
	w.o.StateDir = state
	w.open()
}

// A host root whose start a power cut interrupted has all its files at the next start.
func TestPowerLossKeepsHostRoots(t *testing.T) {
	w := newWorld(t)
	d := newDisk(t)
	state := w.o.StateDir
	w.Close()
	w.o.StateDir = d.dir + "/state"
	w.open()
	unix.Sync()
	w.create("web", script("sleep 1000")+"\nstop: {signal: KILL}")
	etc := func() map[string]string {
		files := map[string]string{}
		for _, name := range []string{"passwd", "group", "nsswitch.conf", "hosts", "hostname"} {
			b, _ := os.ReadFile(w.o.StateDir + "/containers/web/upper/etc/" + name)
			files[name] = string(b)
		}
		return files
	}
	before := etc()
	d.losePower()
	s, _ := w.Get("web")
	w.must(unix.Kill(s.Pid, unix.SIGKILL))
	w.await("web", status.Exited)
	stop, cancel := context.WithTimeout(ctx, roottest.Patience)
	defer cancel()
	w.must(w.QuitKeeper(stop))
	w.Close()
	w.must(unix.Unmount(d.dir, 0))
	d.mount()
	w.open()
	w.must(w.Start(ctx, "web", status.StartOptions{}))
	for name, text := range etc() {
		if text != before[name] || text == "" {
			t.Errorf("/etc/%s is %q, was %q", name, text, before[name])
		}
	}
	w.must(w.Remove(ctx, "web"))
	w.must(w.QuitKeeper(stop))
	w.Close()
	w.must(unix.Unmount(d.dir, 0))
	w.o.StateDir = state
	w.open()
}
