package runtime

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// insiders are what a container of TestCVE does. What must not be possible is
// told in a line that begins with ESCAPED.
var insiders = map[string]func(){
	"nothing": func() { wait() }, "pause": func() { time.Sleep(200 * time.Millisecond) },
	"swap": swap, "binary": holdBinary, "trace": traceAll, "proc": func() { lookAtProc("/proc") }, "procs": lookAtProcs, "gotcha": lookForGotcha,
	"cgroup": mountCgroup, "caps": lookAtCaps, "cwd": lookAround, "console": lookAtConsole, "label": fakeProc,
	"confined": lookAtConfinement, "id": lookAtID, "abstract": dialAbstract,
}

func escaped(format string, args ...any) { fmt.Printf("ESCAPED "+format+"\n", args...) }

// wait waits for ever if the last argument says so.
func wait() {
	if os.Args[len(os.Args)-1] == "wait" {
		fmt.Println("waiting")
		unix.Pause()
	}
}

// swap exchanges two names in /shared for ever.
func swap() {
	fmt.Println("swapping")
	x, y := "/shared/"+os.Args[1], "/shared/"+os.Args[2]
	for {
		if err := unix.Renameat2(unix.AT_FDCWD, x, unix.AT_FDCWD, y, unix.RENAME_EXCHANGE); err != nil {
			fmt.Println(err)
		}
		time.Sleep(100 * time.Microsecond) // a start takes some milliseconds
	}
}

// lookAtProc looks whether proc is proc, with what protects and hides. By
// descriptors: in between, somebody may swap it.
func lookAtProc(at string) {
	var fs unix.Statfs_t
	dir, err := unix.Open(at, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err == nil {
		defer unix.Close(dir)
		err = unix.Fstatfs(dir, &fs)
	}
	if err != nil || fs.Type != unix.PROC_SUPER_MAGIC {
		if len(os.Args) == 1 {
			escaped("%s is no proc: %v", at, err)
		}
		return // whoever shares a root may always take /proc away
	}
	sys, err := unix.Openat(dir, "sys", unix.O_PATH, 0)
	if err == nil {
		defer unix.Close(sys)
		err = unix.Fstatfs(sys, &fs)
	}
	if err != nil || fs.Flags&unix.ST_RDONLY == 0 {
		escaped("%s/sys is writable: %v", at, err)
	}
	for _, name := range []string{"kcore", "keys", "timer_list"} {
		var st unix.Stat_t
		if err := unix.Fstatat(dir, name, &st, 0); err == nil && st.Rdev != unix.Mkdev(1, 3) {
			escaped("%s/%s is not hidden, its mode is %o", at, name, st.Mode)
		}
	}
}

func lookAtProcs() {
	for _, at := range os.Args[1:] {
		lookAtProc(at)
	}
}

func lookForGotcha() {
	for _, dir := range []string{"/proc/acpi", "/proc/scsi", "/proc/asound", "/sys/firmware", "/mnt"} {
		if _, err := os.Stat(dir + "/gotcha"); err == nil {
			escaped("what was to be mounted elsewhere is at %s", dir)
		}
	}
}

// lookAround looks for the host above its working directory.
func lookAround() {
	up := strings.Repeat("../", 10)
	if b, err := os.ReadFile(up + strings.TrimPrefix(os.Args[1], "/")); err == nil {
		escaped("it read %q of the host", b)
	}
	var here, root unix.Stat_t
	unix.Stat(up, &here)
	unix.Stat("/", &root)
	if here.Ino != root.Ino || here.Dev != root.Dev {
		escaped("its working directory is not below its root")
	}
}

// lookAtConsole looks where its terminals lead, and puts a link in their place.
func lookAtConsole() {
	for name, want := range map[string]uint64{"tty": unix.Mkdev(5, 0), "ptmx": unix.Mkdev(5, 2), "console": 0} {
		var st unix.Stat_t
		if err := unix.Stat("/dev/"+name, &st); err == nil && (st.Rdev != want || st.Mode&unix.S_IFMT != unix.S_IFCHR) {
			f, err := os.OpenFile("/dev/"+name, os.O_WRONLY, 0)
			f.Close()
			escaped("/dev/%s is device %x, mode %o; to write to it: %v", name, st.Rdev, st.Mode, err)
		}
	}
	fmt.Println(unix.Mount("t", "/dev/pts", "tmpfs", 0, ""), os.Symlink("/proc/self/comm", "/dev/pts/ptmx"))
	fmt.Println("waiting")
	unix.Pause()
}

// fakeProc puts a tree of its own in the place of /proc, in which a file that
// runtimes write to is a link.
func fakeProc() {
	if f, err := os.OpenFile("/victim", os.O_WRONLY, 0); err == nil {
		f.Close()
		fmt.Println("it could write to the file without a trick")
	}
	fmt.Println(unix.Mount("t", "/proc", "tmpfs", 0, ""), os.MkdirAll("/proc/self/attr", 0o755), os.Symlink("/victim", "/proc/self/attr/exec"))
	os.Symlink("self", "/proc/thread-self")
	os.Symlink("self", "/proc/1")
	fmt.Println("waiting")
	unix.Pause()
}

// lookAtConfinement asks the kernel, as /proc may lie.
func lookAtConfinement() {
	mode, _ := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	privs, _ := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	chown, _ := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_CHOWN, 0, 0, 0)
	if mode == unix.SECCOMP_MODE_FILTER && privs == 1 && chown == 0 {
		fmt.Println("confined")
	}
}

func lookAtID() {
	groups, _ := os.Getgroups()
	fmt.Println(os.Getuid(), os.Getgid(), groups)
	if os.Getuid() != 1000 {
		escaped("it is user %d", os.Getuid())
	}
	for _, g := range append(groups, os.Getgid()) {
		if g == 0 && os.Getgid() != 0 {
			escaped("it is in group 0")
		}
	}
}

// dialAbstract asks whoever listens on an abstract socket of this test's.
func dialAbstract() {
	b, err := os.ReadFile("/proc/net/unix")
	fmt.Println(strings.Count(string(b), "@"), "abstract sockets", err)
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		name := fields[len(fields)-1]
		if !strings.HasPrefix(name, "@") || !strings.Contains(name, os.Args[1]) {
			continue
		}
		for _, kind := range []string{"unix", "unixpacket"} {
			c, err := net.Dial(kind, name)
			if err != nil {
				continue
			}
			c.Write([]byte(`{"op":"list"}`))
			c.SetReadDeadline(time.Now().Add(5 * time.Second))
			answer := make([]byte, 1024)
			n, err := c.Read(answer)
			escaped("%s answers %q %v", name, answer[:n], err)
		}
	}
}
