package launch

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"stead/runtime/roottest"

	"golang.org/x/sys/unix"
)

// What is renamed between being found and being mounted on is noticed.
func TestVerify(t *testing.T) {
	roottest.Need(t)
	done := make(chan struct{})
	go func() { // on a thread with a mount namespace of its own, which ends with it
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			t.Error(err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Error(err)
			return
		}
		for _, tt := range []struct{ summary, copyIn, proc, gone, want string }{
			{"as it should be", "data/x", "proc", "", ""},
			{"another of its own on it", "data/x data/x", "proc", "", ""},
			{"a target that was renamed", "data/y", "proc", "data/x", "mount at /data/x: no such file or directory"},
			{"a target that was exchanged", "data/y", "proc", "", "mount at /data/x: stale file handle (the target was moved during the start"},
			{"a directory above that was", "other/x", "proc", "", "mount at /data/x: stale file handle"},
			{"proc that was", "data/x", "other", "", "mount at /proc: stale file handle"},
		} {
			verifyOne(t, tt.summary, strings.Fields(tt.copyIn), tt.proc, tt.gone, tt.want)
		}
	}()
	<-done
}

// verifyOne mounts where the targets are by now: what another namespace's rename
// comes to here is that a mount is on a directory of another name.
func verifyOne(t *testing.T, summary string, data []string, proc, gone, want string) {
	dir, at := t.TempDir(), t.TempDir()
	for _, d := range []string{"data/x", "data/y", "other/x", "proc"} {
		os.MkdirAll(filepath.Join(dir, d), 0o755)
	}
	root, err := copyMount(unix.AT_FDCWD, dir, 0, -1)
	if err == nil {
		err = unix.MoveMount(root, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	if err != nil {
		t.Error(err)
		return
	}
	b := &startJob{c: &Config{}, rootFD: root, opened: []int{root}}
	defer func() {
		unix.Unmount(at, unix.MNT_DETACH)
		for _, fd := range b.opened {
			unix.Close(fd)
		}
	}()
	attach := func(target, where string) {
		m, err := newFilesystem("tmpfs", 0)
		b.opened = append(b.opened, m)
		if err == nil {
			var fd int
			if fd, err = openBeneath(root, where, 0); err == nil {
				err = moveMount(m, fd)
				unix.Close(fd)
			}
		}
		if err != nil {
			t.Error(summary, err)
		}
		b.visibleMount = append(b.visibleMount, visibleMount{target: target, mount: m})
	}
	for _, where := range data {
		attach("/data/x", where)
	}
	attach("proc", proc)
	if gone != "" {
		os.Remove(filepath.Join(dir, gone))
	}
	err = b.verify()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%s: %v, want %q", summary, err, want)
	}
}
