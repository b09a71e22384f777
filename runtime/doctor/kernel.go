package doctor

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

func (h *host) user() []Check {
	found := fmt.Sprintf("uid %d", h.uid)
	return single("root", levelIf(h.uid == 0, Missing), found, "run stead as root; plan, validate and schema need no root")
}

// oldestMajor and oldestMinor are the first kernel version with all system calls of a launch;
// mount_setattr came last.
const oldestMajor, oldestMinor = 5, 12

func (h *host) kernel() []Check {
	major, minor, release := version()
	return single("kernel", levelIf(atLeast(major, minor, oldestMajor, oldestMinor), Missing), "Linux "+release,
		fmt.Sprintf("install Linux %d.%d or later", oldestMajor, oldestMinor))
}

func version() (major, minor int, release string) {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return 0, 0, "unknown"
	}
	release = unix.ByteSliceToString(u.Release[:])
	fmt.Sscanf(release, "%d.%d", &major, &minor)
	return major, minor, release
}

func atLeast(major, minor, wantMajor, wantMinor int) bool {
	return major > wantMajor || major == wantMajor && minor >= wantMinor
}

// calls tries each system call with invalid arguments. Only ENOSYS, or EPERM from a filter, means
// that the call is missing.
func (h *host) calls() []Check {
	bad := ^uintptr(0)
	var lacking, have []string
	for _, c := range []struct {
		name   string
		number uintptr
		args   [5]uintptr
	}{
		{"clone3", unix.SYS_CLONE3, [5]uintptr{}},
		{"openat2", unix.SYS_OPENAT2, [5]uintptr{bad}},
		{"pidfd_open", unix.SYS_PIDFD_OPEN, [5]uintptr{bad}},
		{"pidfd_send_signal", unix.SYS_PIDFD_SEND_SIGNAL, [5]uintptr{bad}},
		{"open_tree", unix.SYS_OPEN_TREE, [5]uintptr{bad, 0, bad}},
		{"move_mount", unix.SYS_MOVE_MOUNT, [5]uintptr{bad, 0, bad, 0, bad}},
		{"fsopen", unix.SYS_FSOPEN, [5]uintptr{0, bad}},
		{"fsmount", unix.SYS_FSMOUNT, [5]uintptr{bad}},
		{"mount_setattr", unix.SYS_MOUNT_SETATTR, [5]uintptr{bad, 0, bad}},
		{"close_range", unix.SYS_CLOSE_RANGE, [5]uintptr{1, 0}},
		{"memfd_create", unix.SYS_MEMFD_CREATE, [5]uintptr{0, bad}},
	} {
		_, _, e := unix.RawSyscall6(c.number, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], 0)
		if e == unix.ENOSYS || e == unix.EPERM && h.uid == 0 {
			lacking = append(lacking, c.name)
		} else {
			have = append(have, c.name)
		}
	}
	if len(lacking) > 0 {
		return append(single("system calls", Missing, "missing: "+strings.Join(lacking, ", "),
			"install a newer kernel, or remove the filter that blocks them (stead may run in a container here)"), h.exitInfo()...)
	}
	return append(single("system calls", OK, strings.Join(have, ", "), ""), h.exitInfo()...)
}

// exitInfo checks for PIDFD_GET_INFO, which returns the exit code of a process that is not a
// child.
func (h *host) exitInfo() []Check {
	major, minor, _ := version()
	return single("exit codes", levelIf(hasPidfdInfo() && atLeast(major, minor, 6, 15), Warning), map[bool]string{
		true: "known even if no keeper runs (PIDFD_GET_INFO)", false: "unknown for containers that end while no keeper runs",
	}[hasPidfdInfo() && atLeast(major, minor, 6, 15)], "install Linux 6.15 or later; until then such a container's reason is ExitUnknown")
}

func hasPidfdInfo() bool {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_PID}
	return unix.IoctlPidfdInfo(fd, &info) == nil
}

func (h *host) userNamespaces() []Check {
	n, err := h.number("/proc/sys/user/max_user_namespaces")
	switch {
	case errors.Is(err, os.ErrNotExist):
		return single("user namespaces", Warning, "the kernel has none", "use a kernel with CONFIG_USER_NS, or say security: {userns: host} in the manifests")
	case err != nil:
		return single("user namespaces", Warning, err.Error(), "make /proc/sys readable")
	case n == 0:
		return single("user namespaces", Warning, "switched off", "sysctl -w user.max_user_namespaces=15000, or say security: {userns: host} in the manifests")
	}
	return single("user namespaces", OK, fmt.Sprintf("at most %d", n), "")
}

func (h *host) seccomp() []Check {
	b, err := os.ReadFile(h.path("/proc/sys/kernel/seccomp/actions_avail"))
	there := err == nil && strings.Contains(string(b), "errno")
	return single("seccomp", levelIf(there, Missing), map[bool]string{true: "filters system calls", false: "not available"}[there],
		"use a kernel with CONFIG_SECCOMP_FILTER")
}

// visible checks that nothing covers a part of /proc, as container runtimes do: the kernel then
// refuses a new proc or sysfs in a user namespace (mount_namespaces(7)).
func (h *host) visible() []Check {
	var covered []string
	for _, m := range h.mounts() {
		if m.kind == "autofs" || m.kind == "binfmt_misc" || m.kind == "nfsd" {
			continue // on empty directories that exist for them
		}
		if strings.HasPrefix(m.point, "/proc/") {
			covered = append(covered, m.point)
		}
	}
	if len(covered) > 0 {
		return single("proc", Missing, "covered at "+strings.Join(covered, ", "), "run stead on the host itself, not in a container that hides parts of /proc")
	}
	return single("proc", OK, "fully visible", "")
}
