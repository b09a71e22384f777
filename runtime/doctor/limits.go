package doctor

import (
	"fmt"

	"stead/runtime/keeper"

	"golang.org/x/sys/unix"
)

const fewest = 500 // containers that a host should have room for

// files says for how many containers there is room in the keeper's limit.
func (h *host) files() []Check {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return one("open files", Warning, err.Error(), "")
	}
	room := keeper.Room(l.Max)
	return one("open files", when(room >= fewest, Warning), fmt.Sprintf("at most %d: room for %d containers", l.Max, room),
		"raise the hard limit: LimitNOFILE= in the unit, or ulimit -Hn")
}

func (h *host) processes() []Check {
	pids, err := h.number("/proc/sys/kernel/pid_max")
	if err != nil {
		return one("processes", Warning, err.Error(), "make /proc/sys readable")
	}
	threads, err := h.number("/proc/sys/kernel/threads-max")
	if err == nil {
		pids = min(pids, threads)
	}
	return one("processes", when(pids >= 32768, Warning), fmt.Sprintf("at most %d", pids), "sysctl -w kernel.pid_max=4194304 kernel.threads-max=4194304")
}
