package roottest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Every package whose tests may act on the system checks what they leave.
func TestEveryPackageIsChecked(t *testing.T) {
	dirs := map[string]bool{}
	for _, top := range []string{"../../cmd", "../../reconcile", "../../runtime"} {
		err := filepath.WalkDir(top, func(path string, _ os.DirEntry, err error) error {
			if strings.HasSuffix(path, "_test.go") {
				b, e := os.ReadFile(path)
				if e != nil {
					return e
				}
				dirs[filepath.Dir(path)] = dirs[filepath.Dir(path)] || strings.Contains(string(b), "Main(m))\n") || strings.Contains(string(b), "Main(m)) }\n")
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for dir, checked := range dirs {
		if !checked {
			t.Errorf("%s has tests, and no TestMain that calls roottest.Main", dir)
		}
	}
	if len(dirs) < 10 {
		t.Errorf("found packages %v only", dirs)
	}
}

// damaging marks the process whose tests do what no test may, in namespaces of its
// own and with a /dev that is not the host's.
const damaging = "STEAD_TEST_DAMAGING"

func TestMain(m *testing.M) {
	if os.Getenv(damaging) == "" {
		os.Exit(Main(m))
	}
	for _, err := range []error{
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("tmpfs", "/dev", "tmpfs", 0, ""),
		unix.Mknod("/dev/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))), os.Chmod("/dev/null", 0o666),
		os.Mkdir("/dev/shm", 0o1777),
	} {
		if err != nil {
			panic(err)
		}
	}
	os.Exit(check(m, 50*time.Millisecond))
}

// damages are what tests might do, and what is said of it. MARK stands for theirs.
var damages = []struct {
	summary string
	do      func() error
	want    string
}{
	{"a device node's mode", func() error { return os.Chmod("/dev/null", 0o644) }, "/dev/null is now mode 20644, owner 0:0, device 103 (was mode 20666, owner 0:0, device 103)"},
	{"a mount on the host's", func() error { return unix.Mount("tmpfs", "/opt", "tmpfs", 0, "mode=755") }, "mount /opt is now / /opt rw,relatime tmpfs tmpfs rw,mode=755 (was none)"},
	{"a mount of the test's own", func() error {
		if err := os.Mkdir("/dev/shm/"+Mark()+"x", 0o700); err != nil {
			return err
		}
		return unix.Mount("tmpfs", "/dev/shm/"+Mark()+"x", "tmpfs", 0, "")
	}, "left over: mount / /dev/shm/MARKx rw,relatime tmpfs tmpfs rw"},
	{"a directory", func() error { return nil }, "left over: /dev/shm/MARKx"},
	{"a sysctl", func() error { return os.WriteFile("/proc/sys/kernel/hostname", []byte("damaged"), 0) }, "sysctl kernel/hostname is now damaged"},
	{"a link", func() error {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		r, err := unix.NewIfreq("lo")
		if err != nil {
			return err
		}
		r.SetUint32(1000)
		return unix.IoctlIfreq(s, unix.SIOCSIFMTU, r)
	}, "link lo is now up false, MTU 1000, address  (was up false, MTU 65536, address )"},
	{"a cgroup", func() error { return os.Mkdir(hierarchy()+"/"+Mark()+"x", 0o755) }, "left over: cgroup HIERARCHY/MARKx"},
	{"a child", exec.Command("sleep", "1234").Start, `: "sleep 1234 "`},
	{"an orphan", func() error { return exec.Command("sh", "-c", "sleep 1235 & echo").Run() }, `: "sleep 1235 "`},
}

// hierarchy is where a cgroup can be made.
func hierarchy() string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.procs"); err == nil {
		return "/sys/fs/cgroup"
	}
	return "/sys/fs/cgroup/memory"
}

// TestDamage is run in a process of its own, by TestDamageIsNoticed.
func TestDamage(t *testing.T) {
	if os.Getenv(damaging) == "" {
		t.Skip("does what no test may")
	}
	for _, d := range damages {
		if err := d.do(); err != nil {
			t.Errorf("%s: %v", d.summary, err)
		}
	}
}

// What tests do to the host, or leave on it, fails their package and is named.
func TestDamageIsNoticed(t *testing.T) {
	Need(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestDamage$", "-test.v")
	cmd.Env = append(os.Environ(), damaging+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS}
	b, err := cmd.CombinedOutput()
	out := string(b)
	mark := strings.Replace(Mark(), fmt.Sprint(os.Getpid()), fmt.Sprint(cmd.Process.Pid), 1)
	for _, m := range regexp.MustCompile(`left over: process (\d+): "sleep`).FindAllStringSubmatch(out, -1) {
		pid, _ := strconv.Atoi(m[1])
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	_ = os.Remove(hierarchy() + "/" + mark + "x")
	if !strings.Contains(out, "--- PASS: TestDamage ") || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("%v, want exit status 1 after a test that passes", err)
	}
	for _, d := range damages {
		if want := strings.NewReplacer("MARK", mark, "HIERARCHY", hierarchy()).Replace(d.want); !strings.Contains(out, want) {
			t.Errorf("%s: not noticed: %s", d.summary, want)
		}
	}
	if n := strings.Count(out, "\n\t"); n != len(damages) {
		t.Errorf("%d changes, want %d", n, len(damages))
	}
	if t.Failed() {
		t.Log(out)
	}
}
