package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree makes a root for the checks to look at: files by path, and links where the
// text begins with "→".
func tree(t *testing.T, files map[string]string) *host {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, link := strings.CutPrefix(text, "→"); link {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return &host{root: root, uid: 0}
}

// Each host lacks one thing, and the check says which and what to do.
func TestWhatIsLacking(t *testing.T) {
	merged := map[string]string{"bin": "→usr/bin", "lib": "→usr/lib"}
	for _, test := range []struct {
		summary string
		files   map[string]string
		check   func(*host) []Check
		level   Level
		found   string
		advice  string
	}{
		{"user namespaces are switched off", map[string]string{"proc/sys/user/max_user_namespaces": "0\n"}, (*host).userNamespaces, Warning, "switched off", "sysctl -w user.max_user_namespaces"},
		{"the kernel has none", nil, (*host).userNamespaces, Warning, "the kernel has none", "CONFIG_USER_NS"},
		{"they are there", map[string]string{"proc/sys/user/max_user_namespaces": "96365\n"}, (*host).userNamespaces, OK, "at most 96365", ""},
		{"no seccomp", nil, (*host).seccomp, Missing, "not available", "CONFIG_SECCOMP_FILTER"},
		{"seccomp", map[string]string{"proc/sys/kernel/seccomp/actions_avail": "kill_process errno allow\n"}, (*host).seccomp, OK, "filters", ""},
		{"a container hides parts of proc", map[string]string{"proc/self/mounts": "proc /proc proc rw 0 0\ntmpfs /proc/kcore tmpfs ro 0 0\n"}, (*host).visible, Missing, "/proc/kcore", "not in a container"},
		{"what systemd mounts there is no harm", map[string]string{"proc/self/mounts": "systemd-1 /proc/sys/fs/binfmt_misc autofs rw 0 0\n"}, (*host).visible, OK, "fully visible", ""},
		{"/bin is a directory", map[string]string{"bin/sh": "", "lib": "→usr/lib"}, (*host).hostRoot, Warning, "/bin is no link", "usrmerge"},
		{"/usr is merged", merged, (*host).hostRoot, OK, "merged", ""},
		{"overlay is not loaded", map[string]string{"proc/filesystems": "nodev\tproc\n"}, (*host).overlay, Warning, "not available", "modprobe overlay"},
		{"limits can't be raised", map[string]string{"proc/self/status": "Name:\tx\nCapEff:\t000001fffeffffff\nCapBnd:\t000001ffffffffff\n"}, (*host).hardLimits, Warning, "CAP_SYS_RESOURCE is missing", "ulimits above"},
		{"limits can be raised", map[string]string{"proc/self/status": "Name:\tx\nCapEff:\t000001ffffffffff\n"}, (*host).hardLimits, OK, "can be raised", ""},
		{"/ is the directory of a chroot", nil, (*host).rootMount, Missing, "plain directory", "pivot_root"},
		{"no /dev", nil, (*host).devices, Missing, "/dev/null: no such device", "devtmpfs"},
		{"device nodes of root alone", map[string]string{"dev/null": "", "dev/zero": "", "dev/full": "", "dev/random": "", "dev/urandom": "", "dev/tty": ""}, (*host).devices, Warning, "/dev/null has mode 0644", "chmod 666 /dev/null"},
		{"few processes", map[string]string{"proc/sys/kernel/pid_max": "4096", "proc/sys/kernel/threads-max": "100000"}, (*host).processes, Warning, "at most 4096", "sysctl -w kernel.pid_max"},
		{"few threads", map[string]string{"proc/sys/kernel/pid_max": "4194304", "proc/sys/kernel/threads-max": "1000"}, (*host).processes, Warning, "at most 1000", "kernel.threads-max"},
		{"few watches", map[string]string{"proc/sys/fs/inotify/max_user_watches": "8", "proc/sys/fs/inotify/max_user_instances": "128"}, (*host).watches, Warning, "8 watches", "sysctl -w fs.inotify"},
		{"few instances", map[string]string{"proc/sys/fs/inotify/max_user_watches": "8192", "proc/sys/fs/inotify/max_user_instances": "1"}, (*host).watches, Warning, "1 instances", "sysctl -w fs.inotify"},
		{"not root", nil, func(h *host) []Check { h.uid = 1000; return h.user() }, Missing, "uid 1000", "as root"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			got := test.check(tree(t, test.files))[0]
			if got.Level != test.level || !strings.Contains(got.Found, test.found) || !strings.Contains(got.Advice, test.advice) || (got.Level == OK) != (got.Advice == "") {
				t.Errorf("got %+v\nwant %s, %q, %q", got, test.level, test.found, test.advice)
			}
		})
	}
}

// Swap limits are looked for in the hierarchy of their controller, and one level
// down, as root groups lack the files.
func TestSwap(t *testing.T) {
	mounts := "cgroup /cg/memory cgroup rw,memory 0 0\ncgroup2 /cg/unified cgroup2 rw 0 0\n"
	for _, test := range []struct {
		summary, file string
		want          Level
	}{
		{"nowhere", "cg/memory/tasks", Warning},
		{"v1", "cg/memory/memory.memsw.limit_in_bytes", OK},
		{"v2", "cg/unified/system.slice/memory.swap.max", OK},
	} {
		h := tree(t, map[string]string{"proc/self/mounts": mounts, test.file: ""})
		if got := h.swap(); got.Level != test.want {
			t.Errorf("%s: %+v", test.summary, got)
		}
	}
}

// On the host of the tests every check says something, and those that try things
// leave nothing behind.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	checks := Run(Options{StateDir: dir + "/not/there/yet", CgroupParent: "stead-test-doctor", Manifests: []string{dir, dir + "/nonsuch"}}, os.Geteuid())
	seen := map[string]bool{}
	for _, c := range checks {
		if c.Name == "" || c.Found == "" || seen[c.Name] || (c.Level == OK) != (c.Advice == "") {
			t.Errorf("%+v", c)
		}
		seen[c.Name] = true
	}
	if Fit(checks) != (os.Geteuid() == 0) {
		t.Errorf("Fit is %v: %+v", Fit(checks), checks)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
	for _, pattern := range []string{"/sys/fs/cgroup/*/stead-test-doctor", "/sys/fs/cgroup/stead-test-doctor"} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}
