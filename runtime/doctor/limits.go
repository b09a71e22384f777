package doctor

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"stead/runtime/keeper"

	"golang.org/x/sys/unix"
)

const enoughContainers = 500 // how many containers a host should have room for

// files checks how many containers the keeper's open-file limit has room for.
func (h *host) files() []Check {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return single("open files", Warning, err.Error(), "")
	}
	room := keeper.Room(l.Max)
	return single("open files", levelIf(room >= enoughContainers, Warning), fmt.Sprintf("at most %d: room for %d containers", l.Max, room),
		"raise the hard limit: LimitNOFILE= in the unit, or ulimit -Hn")
}

// hardLimits checks whether containers can have higher limits than the hard limits of this
// process.
func (h *host) hardLimits() []Check {
	const name = "resource limits"
	status, err := os.ReadFile(h.path("/proc/self/status"))
	if err != nil {
		return single(name, Warning, err.Error(), "make /proc readable")
	}
	_, mask, _ := strings.Cut(string(status), "\nCapEff:")
	mask, _, _ = strings.Cut(strings.TrimSpace(mask), "\n")
	if caps, err := strconv.ParseUint(mask, 16, 64); err == nil && caps>>unix.CAP_SYS_RESOURCE&1 == 1 {
		return single(name, OK, "hard limits can be raised", "")
	}
	return single(name, Warning, "hard limits can't be raised: CAP_SYS_RESOURCE is missing",
		"ulimits above those of the daemon are refused, and defaults are cut to them; give it the capability, or higher limits")
}

func (h *host) processes() []Check {
	pids, err := h.number("/proc/sys/kernel/pid_max")
	if err != nil {
		return single("processes", Warning, err.Error(), "make /proc/sys readable")
	}
	threads, err := h.number("/proc/sys/kernel/threads-max")
	if err == nil {
		pids = min(pids, threads)
	}
	return single("processes", levelIf(pids >= 32768, Warning), fmt.Sprintf("at most %d", pids), "sysctl -w kernel.pid_max=4194304 kernel.threads-max=4194304")
}
