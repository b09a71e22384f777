package roottest

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Mark begins the names of all that the tests of this process make outside of
// t.TempDir: directories, cgroups, links. By it Main tells what they left from
// what belongs to others who use the machine.
func Mark() string { return fmt.Sprintf("stead-test-%d-", os.Getpid()) }

// markVariable carries the mark to every process that the tests start.
const markVariable = "STEAD_TEST_MARK"

// TempDir makes a directory in parent and removes it when the test is over. Unlike
// t.TempDir, it has a short path, and its removal never enters what is mounted
// below it, which may be the host's.
func TempDir(t testing.TB, parent string) string {
	t.Helper()
	dir, err := os.MkdirTemp(parent, Mark())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, m := range slices.Backward(mounts()) {
			if m.at == dir || strings.HasPrefix(m.at, dir+"/") {
				t.Errorf("left over: mount %s", m.at)
				_ = unix.Unmount(m.at, unix.MNT_DETACH)
			}
		}
		if slices.ContainsFunc(mounts(), func(m mount) bool { return strings.HasPrefix(m.at, dir+"/") }) {
			t.Errorf("cannot remove %s: something is mounted in it", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Main runs the tests of a package and returns the exit code. The package fails if
// the host is not what it was before, or if something with the mark is left.
func Main(m *testing.M) int { return check(m, 10*time.Second) }

// check is Main. What is left may take its time to end by itself.
func check(m *testing.M, patience time.Duration) int {
	os.Setenv(markVariable, Mark())
	before := host()
	code := m.Run()
	var wrong []string
	after := host()
	for _, what := range slices.Sorted(maps.Keys(before)) {
		if now, ok := after[what]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s is gone (was %s)", what, before[what]))
		} else if now != before[what] {
			wrong = append(wrong, fmt.Sprintf("%s is now %s (was %s)", what, now, before[what]))
		}
	}
	left := leftovers()
	for end := time.Now().Add(patience); len(left) > 0 && time.Now().Before(end); left = leftovers() {
		time.Sleep(20 * time.Millisecond)
	}
	for _, what := range left {
		wrong = append(wrong, "left over: "+what)
	}
	if len(wrong) == 0 {
		return code
	}
	fmt.Printf("FAIL: the host changed while the tests of %s ran (what is not left over may also be the work of tests that ran beside them):\n\t%s\n",
		filepath.Base(os.Args[0]), strings.Join(wrong, "\n\t"))
	return max(code, 1)
}

// hostPaths are files and directories of the host that tests point at, besides
// the device nodes.
var hostPaths = strings.Fields(`/ /bin /boot /dev /dev/fd /dev/mqueue /dev/pts /dev/shm /dev/stderr /dev/stdin /dev/stdout
	/etc /etc/group /etc/hostname /etc/hosts /etc/passwd /etc/resolv.conf /etc/shadow /home /lib /mnt /opt /proc /root /run /srv
	/sys /sys/fs/cgroup /tmp /usr /usr/bin /usr/bin/sh /usr/lib /usr/lib/os-release /var /var/lib /var/run /var/tmp`)

// sysctls that change by themselves, or with what others do.
var busySysctls = map[string]bool{
	"kernel/hung_task_warnings": true, "kernel/ns_last_pid": true, "kernel/perf_cpu_time_max_percent": true, "kernel/perf_event_max_sample_rate": true,
	"kernel/random": true, "kernel/tainted": true, "fs/binfmt_misc": true, "vm/drop_caches": true, "net/ipv4/neigh": true, "net/ipv6/neigh": true, "net/ipv4/tcp_fastopen_key": true,
}

// host describes, by name, what no test may change and what nobody else is likely
// to change during a test. What comes and goes (terminals, disks, the links and
// mounts of other programs) is not in it.
func host() map[string]string {
	h := map[string]string{}
	file := func(path string) {
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil {
			return
		}
		h[path] = fmt.Sprintf("mode %o, owner %d:%d, device %x", st.Mode, st.Uid, st.Gid, st.Rdev)
		if to, err := os.Readlink(path); err == nil {
			h[path] += ", link to " + to
		}
	}
	for _, path := range hostPaths {
		file(path)
		h["mount "+path] = "none"
	}
	for _, m := range mounts() {
		if slices.Contains(hostPaths, m.at) || strings.HasPrefix(m.at, "/sys/fs/cgroup/") {
			h["mount "+m.at] = m.text
		}
	}
	const memory, terminal, misc = 1, 5, 10 // majors of /dev/null, /dev/tty, /dev/fuse
	filepath.WalkDir("/dev", func(path string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		switch {
		case err != nil:
		case path == "/dev/pts" || path == "/dev/shm" || path == "/dev/mqueue" || strings.HasPrefix(path, "/dev/stead-test-"):
			if d.IsDir() {
				return fs.SkipDir
			}
		case d.Type()&fs.ModeCharDevice != 0 && unix.Lstat(path, &st) == nil:
			if major := unix.Major(st.Rdev); major == memory || major == terminal || major == misc {
				file(path)
			}
		}
		return nil
	})
	for _, dir := range []string{"kernel", "vm", "fs", "user", "net/core", "net/ipv4", "net/ipv6"} {
		filepath.WalkDir("/proc/sys/"+dir, func(path string, d fs.DirEntry, err error) error {
			name := strings.TrimPrefix(path, "/proc/sys/")
			link, ofLink := strings.CutPrefix(filepath.ToSlash(name), dir+"/conf/")
			if err != nil || busySysctls[name] || ofLink && d.IsDir() && link != "all" && link != "default" && link != "lo" {
				if d != nil && d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			if info, err := d.Info(); err == nil && info.Mode().IsRegular() && info.Mode()&0o200 != 0 && info.Mode()&0o400 != 0 {
				if b, err := os.ReadFile(path); err == nil {
					h["sysctl "+name] = string(bytes.TrimSpace(b))
				}
			}
			return nil
		})
	}
	for _, pattern := range []string{"/sys/fs/cgroup/*/release_agent", "/sys/fs/cgroup/*/notify_on_release"} {
		files, _ := filepath.Glob(pattern)
		for _, f := range files {
			if b, err := os.ReadFile(f); err == nil && !strings.Contains(f, "/stead-test-") {
				h[f] = string(bytes.TrimSpace(b))
			}
		}
	}
	links, _ := net.Interfaces()
	for _, l := range links {
		if _, err := os.Stat("/sys/class/net/" + l.Name + "/device"); err == nil || l.Name == "lo" {
			h["link "+l.Name] = fmt.Sprintf("up %v, MTU %d, address %s", l.Flags&net.FlagUp != 0, l.MTU, l.HardwareAddr)
		}
	}
	return h
}

// leftovers lists what carries this process's mark.
func leftovers() (all []string) {
	mark := Mark()
	for _, dir := range []string{"/tmp", "/var/tmp", "/dev/shm", "/dev", "/run"} {
		files, _ := filepath.Glob(dir + "/" + mark + "*")
		all = append(all, files...)
	}
	filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), mark) {
			all = append(all, "cgroup "+path)
		}
		return nil
	})
	for _, m := range mounts() {
		if strings.Contains(m.text, mark) {
			all = append(all, "mount "+m.text)
		}
	}
	backing, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range backing {
		if b, _ := os.ReadFile(f); strings.Contains(string(b), mark) {
			all = append(all, fmt.Sprintf("loop device %s of %s", strings.Split(f, "/")[3], bytes.TrimSpace(b)))
		}
	}
	links, _ := net.Interfaces()
	for _, l := range links {
		if alias, _ := os.ReadFile("/sys/class/net/" + l.Name + "/ifalias"); strings.Contains(string(alias), mark) {
			all = append(all, "link "+l.Name)
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		stat, _ := os.ReadFile(p + "/stat")
		_, state, _ := strings.Cut(string(stat), ") ")
		if p == fmt.Sprintf("/proc/%d", os.Getpid()) || len(state) < 2 || state[0] == 'Z' {
			continue
		}
		child := strings.HasPrefix(state[2:], fmt.Sprintf("%d ", os.Getpid()))
		var text []byte
		for _, f := range []string{"cmdline", "cgroup", "environ"} {
			b, _ := os.ReadFile(p + "/" + f)
			text = append(text, b...)
		}
		root, _ := os.Readlink(p + "/root")
		if child || strings.Contains(string(text)+root, mark) {
			line, _ := os.ReadFile(p + "/cmdline")
			all = append(all, fmt.Sprintf("process %s: %q", filepath.Base(p), bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return all
}

type mount struct{ at, text string }

// mounts are those of this mount namespace, in their order. The text is without
// the numbers that the kernel gives.
func mounts() (all []mount) {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 6 {
			all = append(all, mount{f[4], strings.Join(f[3:6], " ") + " " + strings.Join(f[slices.Index(f, "-")+1:], " ")})
		}
	}
	return all
}
