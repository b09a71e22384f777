package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func init() { insiders["probe"] = probe }

// probe tells what a workload has: lines of a key, a tab and a value. Its
// arguments are the namespaces of the host, as in /proc/self/ns.
func probe() {
	say := func(key string, value any) { fmt.Printf("%s\t%v\n", key, value) }
	say("descriptors", descriptors()) // before anything is opened
	var names []string
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		names = append(names, name)
	}
	slices.Sort(names)
	say("environment", strings.Join(names, " "))
	here, err := os.Getwd()
	say("working directory", fmt.Sprint(here, " ", err))
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"} {
		say(set, strings.TrimLeft(procStatus(set)[:len(procStatus(set))-1], "0")+procStatus(set)[len(procStatus(set))-1:])
	}
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
		own, err := os.Readlink("/proc/self/ns/" + ns)
		switch {
		case err != nil:
			say("namespace "+ns, err)
		case slices.Contains(os.Args, own):
			say("namespace "+ns, "the host's")
		default:
			say("namespace "+ns, "its own")
		}
	}
	var inside, outside, n int
	b, _ := os.ReadFile("/proc/self/uid_map")
	fmt.Sscan(string(b), &inside, &outside, &n)
	say("its root is the host's", map[bool]string{true: "yes", false: "no"}[inside == outside])
	for _, c := range forbidden {
		say("call "+c.name, c.outcome())
	}
	probeMounts(say)
	say("hidden files that can be read", list(hiddenFiles()))
	say("kernel files that can be written", list(writable("/proc", "/sys")))
	probeDevices(say)
}

// descriptors are those that are open, but for what the Go runtime polls with and
// reads its CPU limit from.
func descriptors() (all []int) {
	for fd := range 1024 {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		what, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err == nil && what != "anon_inode:[eventpoll]" && what != "anon_inode:[eventfd]" && !strings.HasPrefix(what, "/sys/fs/cgroup/") {
			all = append(all, fd)
		}
	}
	return all
}

// list is the first of a list, for people.
func list(all []string) string {
	if len(all) == 0 {
		return "none"
	}
	slices.Sort(all)
	if len(all) > 4 {
		return fmt.Sprintf("%d: %s, …", len(all), strings.Join(all[:4], ", "))
	}
	return strings.Join(all, ", ")
}

// forbiddenCall is a system call in a form that does no harm where it is allowed.
type forbiddenCall struct {
	name string
	call func() error
}

func (c forbiddenCall) outcome() string {
	err := c.call()
	switch {
	case err == nil:
		return "works"
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EACCES):
		return "refused"
	}
	return "reaches the kernel" // which dislikes the arguments
}

// number calls by number, with arguments that are mostly nothing.
func number(nr uintptr, args ...uintptr) func() error {
	return func() error {
		var a [5]uintptr
		copy(a[:], args)
		if _, _, e := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], 0); e != 0 {
			return e
		}
		return nil
	}
}

const bad = ^uintptr(0) // no descriptor, no flags that exist

var forbidden = []forbiddenCall{
	{"mount", func() error { return unix.Mount("t", "/tmp", "tmpfs", 0, "") }},
	{"umount2", func() error { return unix.Unmount("/proc/sys", unix.MNT_DETACH) }},
	{"pivot_root", func() error { return unix.PivotRoot("/", "/tmp") }},
	{"unshare user", func() error { return unix.Unshare(unix.CLONE_NEWUSER) }},
	{"unshare mnt", func() error { return unix.Unshare(unix.CLONE_NEWNS) }},
	{"setns", number(unix.SYS_SETNS, bad, 0)},
	{"open_tree", number(unix.SYS_OPEN_TREE, bad, 0, unix.OPEN_TREE_CLONE)},
	{"fsopen", number(unix.SYS_FSOPEN, 0, 0)},
	{"move_mount", number(unix.SYS_MOVE_MOUNT, bad, 0, bad, 0, 0)},
	{"mount_setattr", number(unix.SYS_MOUNT_SETATTR, bad, 0, 0, 0, 0)},
	{"sethostname", func() error { return unix.Sethostname([]byte("x")) }},
	{"bpf", number(unix.SYS_BPF, bad, 0, 0)},
	{"perf_event_open", number(unix.SYS_PERF_EVENT_OPEN, 0, 0, bad, bad, 0)},
	{"userfaultfd", number(unix.SYS_USERFAULTFD, 0)},
	{"io_uring_setup", number(unix.SYS_IO_URING_SETUP, 1, 0)},
	{"keyctl", number(unix.SYS_KEYCTL, bad)},
	{"add_key", number(unix.SYS_ADD_KEY, 0, 0, 0, 0, 0)},
	{"request_key", number(unix.SYS_REQUEST_KEY, 0, 0, 0, 0)},
	{"init_module", number(unix.SYS_INIT_MODULE, 0, 0, 0)},
	{"finit_module", number(unix.SYS_FINIT_MODULE, bad, 0, 0)},
	{"delete_module", number(unix.SYS_DELETE_MODULE, 0, 0)},
	{"kexec_load", number(unix.SYS_KEXEC_LOAD, 0, 0, 0, bad)},
	{"reboot", number(unix.SYS_REBOOT, 0, 0, 0, 0)},
	{"swapon", number(unix.SYS_SWAPON, 0, 0)},
	{"acct", number(unix.SYS_ACCT, 1)},
	{"quotactl", number(unix.SYS_QUOTACTL, bad, 0, 0, 0)},
	{"clock_settime", number(unix.SYS_CLOCK_SETTIME, 0, 0)},
	{"settimeofday", number(unix.SYS_SETTIMEOFDAY, 1, 0)},
	{"syslog", number(unix.SYS_SYSLOG, 10, 0, 0)},
	{"vhangup", number(unix.SYS_VHANGUP)},
	{"open_by_handle_at", number(unix.SYS_OPEN_BY_HANDLE_AT, bad, 0, 0)},
	{"process_vm_readv", number(unix.SYS_PROCESS_VM_READV, 1, 0, 0, 0, 0)},
	{"personality", number(unix.SYS_PERSONALITY, 0x0400000)}, // ADDR_NO_RANDOMIZE and more
	{"socket AF_VSOCK", func() error { _, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0); return err }},
	{"mknod of a device", func() error { return unix.Mknod("/tmp/probe-node", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) }},
}

func probeMounts(say func(string, any)) {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	at := map[string]string{}
	for line := range strings.Lines(string(b)) {
		left, right, _ := strings.Cut(line, " - ")
		fields := strings.Fields(left)
		var flags []string
		for _, f := range strings.Split(fields[5], ",") {
			if slices.Contains([]string{"ro", "rw", "nosuid", "nodev", "noexec"}, f) {
				flags = append(flags, f)
			}
		}
		at[fields[4]] = strings.Join(flags, ",")
		if kind := strings.Fields(right)[0]; kind != "ext4" {
			at[fields[4]] = kind + " " + at[fields[4]]
		}
	}
	for _, target := range []string{"/", "/proc", "/proc/sys", "/sys", "/sys/fs/cgroup", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"} {
		if at[target] == "" {
			at[target] = "no mount"
		}
		say("mount "+target, at[target])
	}
}

// hiddenFiles are those that tell of the host and can be read.
func hiddenFiles() (all []string) {
	for _, name := range []string{"acpi", "asound", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list", "interrupts"} {
		file := "/proc/" + name
		st, err := os.Stat(file)
		if err != nil || st.Mode()&os.ModeCharDevice != 0 {
			continue
		}
		if entries, _ := os.ReadDir(file); st.IsDir() && len(entries) == 0 {
			continue
		}
		if f, err := os.Open(file); err == nil {
			f.Close()
			all = append(all, file)
		}
	}
	if entries, _ := os.ReadDir("/sys/firmware"); len(entries) > 0 {
		all = append(all, "/sys/firmware")
	}
	return all
}

// writable are the kernel's files that may be opened for writing, but for those
// of processes.
func writable(trees ...string) (all []string) {
	for _, tree := range trees {
		filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			name, _, _ := strings.Cut(strings.TrimPrefix(path, "/proc/"), "/")
			if tree == "/proc" && name != "" && (name[0] >= '0' && name[0] <= '9' || strings.HasSuffix(name, "self")) {
				return fs.SkipDir
			}
			if st, err := os.Lstat(path); err == nil && st.Mode().IsRegular() && unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS) == nil {
				all = append(all, path)
			}
			return nil
		})
	}
	return all
}

// probeDevices tells which nodes open, but for terminals.
func probeDevices(say func(string, any)) {
	var open []string
	filepath.WalkDir("/dev", func(path string, _ fs.DirEntry, err error) error {
		st, e := os.Lstat(path) // the entry only tells what the mount of the node covers
		if err != nil || e != nil || st.Mode()&fs.ModeDevice == 0 || strings.HasPrefix(path, "/dev/pts/") {
			return nil
		}
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		if err == nil {
			unix.Close(fd)
			open = append(open, strings.TrimPrefix(path, "/dev/"))
		}
		return nil
	})
	slices.Sort(open)
	say("devices that open", strings.Join(open, " "))
}
