package runtime

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"stead/runtime/status"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// TestAttack: container root with SYS_ADMIN can't undo what the launch made:
// read-only and nodev mounts, binds, masks.
func TestAttack(t *testing.T) {
	w := newWorld(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ro := t.TempDir()
	path := filepath.Join(filepath.Dir(w.o.StateDir), "path-root")
	for _, d := range []string{"usr", "tmp"} {
		os.MkdirAll(filepath.Join(path, d), 0o755)
	}
	const body = `
		mounts: {/attack: {source: %s}, /mnt: {source: %s, readOnly: true}%s}
		security: {capabilities: {add: [SYS_ADMIN]}}
		restart: {policy: never}`
	for _, tt := range []struct{ name, rootfs, extra string }{
		// The binary of a -race build needs the host's libraries, so the path
		// root shows them.
		{"host", "{host: {}}", ""},
		{"path", "{path: " + path + "}", ", /lib64: {source: /lib64, readOnly: true}, /lib: {source: /lib, readOnly: true}"},
		{"image", "", ", /usr: {source: /usr, readOnly: true}"},
	} {
		m := parse(t, tt.name, fmt.Sprintf("command: [/attack]\nrootfs: %s\nenv: {ATTACK: %s}", cmp.Or(tt.rootfs, "{host: {}}"), tt.name)+fmt.Sprintf(body, self, ro, tt.extra))
		if tt.rootfs == "" {
			w.image("attack")
			m.Spec.Rootfs = spec.Rootfs{Image: "attack"}
		}
		if _, err := w.Create(ctx, m, origin); err != nil {
			t.Fatal(err)
		}
		s := w.await(tt.name, status.Exited)
		out := w.output(tt.name)
		refused := strings.Count(out, "refused ")
		if s.Exit.Code != 0 || refused < 25 {
			t.Errorf("%s: exit %+v, %d attempts refused\n%s", tt.name, s.Exit, refused, out)
		}
		t.Logf("%s: %d attempts refused", tt.name, refused)
	}
}

// attack tries what must not work and what must; it exits 0 if all is as it should be.
func attack() int {
	if os.Getenv("ATTACK") == "keyring" {
		return attackKeyring()
	}
	goruntime.LockOSThread() // it gets a mount namespace of its own on the way
	bad := 0
	try := func(want bool, what string, err error) {
		word := map[bool]string{true: "works  ", false: "refused"}[err == nil]
		if (err == nil) != want {
			word, bad = strings.ToUpper(word)+"!", 1
		}
		fmt.Println(word, what, err)
	}
	refused := func(what string, err error) { try(false, what, err) }
	clearFlag := func(p string, flag uint64) {
		refused(fmt.Sprintf("clear flag %#x of %s", flag, p), unix.MountSetattr(unix.AT_FDCWD, p, 0, &unix.MountAttr{Attr_clr: flag}))
	}
	unmount := func(p string) { refused("unmount "+p, unix.Unmount(p, unix.MNT_DETACH)) }
	write := func(p string) {
		f, err := os.OpenFile(p, os.O_WRONLY, 0)
		if err == nil {
			f.Close()
		}
		refused("open for writing "+p, err)
	}
	create := func(p string) {
		f, err := os.Create(p)
		if err == nil {
			f.Close()
		}
		refused("create "+p, err)
	}
	if os.Getenv("ATTACK") == "host" {
		clearFlag("/usr", unix.MOUNT_ATTR_RDONLY)
		unmount("/usr")
		create("/usr/new")
		clearFlag("/etc/ssl/certs", unix.MOUNT_ATTR_RDONLY)
		write("/etc/ld.so.cache")
	}
	clearFlag("/", unix.MOUNT_ATTR_NODEV)
	refused("remount / without flags", unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND, ""))
	refused("remount the file system of /", unix.Mount("", "/", "", unix.MS_REMOUNT, ""))
	refused("set an attribute of overlays", unix.Setxattr("/tmp", "trusted.overlay.opaque", []byte("y"), 0))
	clearFlag("/mnt", unix.MOUNT_ATTR_RDONLY)
	clearFlag("/mnt", unix.MOUNT_ATTR_NOSUID)
	unmount("/mnt")
	refused("move /mnt", unix.Mount("/mnt", "/tmp", "", unix.MS_MOVE, ""))
	create("/mnt/new")
	clearFlag("/proc/sys", unix.MOUNT_ATTR_RDONLY)
	for _, p := range []string{"/proc/sys", "/proc/keys", "/proc/timer_list", "/proc", "/sys/firmware", "/sys"} {
		unmount(p)
	}
	clearFlag("/sys", unix.MOUNT_ATTR_RDONLY)
	refused("move /proc/sys", unix.Mount("/proc/sys", "/tmp", "", unix.MS_MOVE, ""))
	refused("bind /proc without what covers it", unix.Mount("/proc", "/tmp", "", unix.MS_BIND, ""))
	_, err := unix.OpenTree(unix.AT_FDCWD, "/proc", unix.OPEN_TREE_CLONE)
	refused("copy /proc without what covers it", err)
	refused("mount a second proc", unix.Mount("proc", "/tmp", "proc", 0, ""))
	refused("mount a second sysfs", unix.Mount("sysfs", "/tmp", "sysfs", 0, ""))
	refused("mount the host's disk", unix.Mount("/dev/vda", "/tmp", "ext4", 0, ""))
	write("/proc/sys/kernel/hostname")
	write("/proc/sysrq-trigger")
	write("/sys/kernel/uevent_helper")
	if unix.Mount("/proc", "/tmp", "", unix.MS_BIND|unix.MS_REC, "") == nil { // allowed, but it stays covered
		write("/tmp/sys/kernel/hostname")
		unmount("/tmp/sys")
		clearFlag("/tmp/sys", unix.MOUNT_ATTR_RDONLY)
		unix.Unmount("/tmp", unix.MNT_DETACH)
	}
	refused("mknod null on /tmp", unix.Mknod("/tmp/node", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	refused("mknod zero in /dev", unix.Mknod("/dev/node", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
	if unix.Unshare(unix.CLONE_NEWNS) == nil {
		clearFlag("/", unix.MOUNT_ATTR_NODEV)
		clearFlag("/mnt", unix.MOUNT_ATTR_RDONLY)
		unmount("/proc/sys")
		unmount("/mnt")
	}
	if unix.Mount("cgroup", "/tmp", "cgroup", 0, "memory") == nil { // shows its own group, of which it may read
		write("/tmp/memory.limit_in_bytes")
		write("/tmp/cgroup.procs")
		write("/tmp/release_agent") // CVE-2022-0492
		unix.Unmount("/tmp", unix.MNT_DETACH)
	}
	kcore, err := os.ReadFile("/proc/kcore")
	if err == nil && len(kcore) == 0 { // it is /dev/null
		err = io.EOF
	}
	refused("read /proc/kcore", err)
	works := func(what string, err error) { try(true, what, err) }
	for _, p := range []string{"/dev/null", "/dev/stdout", "/dev/stderr", "/dev/ptmx"} {
		fd, err := unix.Open(p, unix.O_WRONLY|unix.O_NOCTTY, 0)
		works("open "+p, err)
		unix.Close(fd)
	}
	works("mount a tmpfs of one's own", unix.Mount("t", "/tmp", "tmpfs", 0, ""))
	works("unmount it", unix.Unmount("/tmp", 0))
	return bad
}

// TestHostDevices: root without a user namespace can't change the host's device
// nodes, which chmod would do for all of the host's programs.
func TestHostDevices(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct{ userns, want string }{
		{"host", "changed its own"},
		{"auto", "refused"},
	} {
		var before, after unix.Stat_t
		if err := unix.Stat("/dev/full", &before); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond) // a clock tick
		const attempt = "chmod 666 /dev/full && echo changed its own || echo refused; stat -c '%F %a %t:%T' /dev/null; echo x >/dev/null; head -c1 /dev/zero | wc -c"
		name := "in-" + tt.userns
		w.create(name, script(attempt)+"\nsecurity: {userns: "+tt.userns+"}\nrestart: {policy: never}") // 666 as it is: no harm
		w.await(name, status.Exited)
		if err := unix.Stat("/dev/full", &after); err != nil {
			t.Fatal(err)
		}
		if before.Ctim != after.Ctim {
			t.Errorf("userns %s: the container changed the host's /dev/full", tt.userns)
		}
		null := unix.Stat_t{Mode: 0o666} // its own
		if tt.userns == "auto" {
			w.must(unix.Stat("/dev/null", &null)) // the host's, which a compiler's linker, say, may have changed
		}
		works := fmt.Sprintf("character special file %o 1:3\n1\n", null.Mode&0o7777)
		if out := w.output(name); !strings.Contains(out, tt.want) || !strings.Contains(out, works) {
			t.Errorf("userns %s: got %q, want %s and a /dev/null that works", tt.userns, out, tt.want)
		}
	}
}

const adminsKey = "stead-test-secret"

// TestKeyring: a container does not hold the session keyring of whoever started
// the keeper, nor does an exec. Who holds one may read its keys, whatever their
// owner; only the seccomp filter would stand between.
func TestKeyring(t *testing.T) {
	w := newWorld(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	goruntime.LockOSThread() // keyrings are a thread's; this one ends with the test
	if _, err := unix.KeyctlJoinSessionKeyring("stead-test"); err != nil {
		t.Skip("no session keyrings: ", err)
	}
	if _, err := unix.AddKey("user", adminsKey, []byte("s3cret"), unix.KEY_SPEC_SESSION_KEYRING); err != nil {
		t.Fatal(err)
	}
	w.create("web", script("/attack; sleep 1000")+"\nenv: {ATTACK: keyring}\nmounts: {/attack: {source: "+self+"}}\nsecurity: {seccomp: unconfined}")
	w.awaitOutput("web", "key")
	if out := w.output("web"); !strings.Contains(out, "no such key") {
		t.Error("in the container: ", out)
	}
	if code, out, _, err := w.exec("web", "", ExecOptions{Argv: []string{"/attack"}}); code != 0 {
		t.Error("in an exec: ", out, err)
	}
}

func attackKeyring() int {
	id, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", adminsKey, 0)
	if err != nil {
		fmt.Println("no such key:", err)
		return 0
	}
	b := make([]byte, 64)
	n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, id, b, 0)
	fmt.Printf("found the admin's key: %q %v\n", b[:max(n, 0)], err)
	return 1
}
