package launch

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// defaultLimits are the resource limits of a process whose manifest sets no others. The limits
// of the daemon or the keeper never reach a container. The values are those of a systemd
// service, except that core dumps have a soft limit of 0.
var defaultLimits = []Rlimit{
	{"as", unix.RLIMIT_AS, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{"core", unix.RLIMIT_CORE, 0, unix.RLIM_INFINITY},
	{"cpu", unix.RLIMIT_CPU, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{"data", unix.RLIMIT_DATA, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{"fsize", unix.RLIMIT_FSIZE, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{"locks", unix.RLIMIT_LOCKS, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{"memlock", unix.RLIMIT_MEMLOCK, 8 << 20, 8 << 20},
	{"msgqueue", unix.RLIMIT_MSGQUEUE, 819200, 819200},
	{"nice", unix.RLIMIT_NICE, 0, 0},
	{"nofile", unix.RLIMIT_NOFILE, 1024, 524288}, // select(2) breaks above 1024
	{"nproc", unix.RLIMIT_NPROC, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{"rss", unix.RLIMIT_RSS, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{"rtprio", unix.RLIMIT_RTPRIO, 0, 0},
	{"rttime", unix.RLIMIT_RTTIME, unix.RLIM_INFINITY, unix.RLIM_INFINITY},
	{"sigpending", unix.RLIMIT_SIGPENDING, 65536, 65536},
	{"stack", unix.RLIMIT_STACK, 8 << 20, unix.RLIM_INFINITY},
}

// raiseHardLimits sets the hard limits of this process to the highest values and leaves the
// soft limits unchanged. A child in a user namespace can only lower the limits that it
// inherits. Without CAP_SYS_RESOURCE the hard limits stay as they are.
func raiseHardLimits() {
	for _, d := range defaultLimits {
		var own unix.Rlimit
		if unix.Getrlimit(d.Resource, &own) == nil {
			own.Max = highestLimit(d.Resource)
			_ = unix.Setrlimit(d.Resource, &own)
		}
	}
}

// highestLimit returns the highest value of a limit.
func highestLimit(resource int) uint64 {
	switch resource {
	case unix.RLIMIT_NOFILE: // the kernel refuses RLIM_INFINITY
		return maxFiles()
	case unix.RLIMIT_NICE:
		return 40
	case unix.RLIMIT_RTPRIO:
		return 99
	}
	return unix.RLIM_INFINITY
}

var maxFiles = sync.OnceValue(func() uint64 {
	b, _ := os.ReadFile("/proc/sys/fs/nr_open")
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 1 << 20 // the kernel's default
	}
	return n
})

// effectiveLimits returns all limits of a process: the given ones, and stead's defaults for the
// others, which it cuts to the hard limits of this process.
func effectiveLimits(said []Rlimit) []Rlimit {
	all := slices.Clone(said)
	for i, l := range all {
		if l.Resource == unix.RLIMIT_NOFILE {
			all[i].Soft, all[i].Hard = boundFiles(l.Soft), boundFiles(l.Hard)
		}
	}
	for _, d := range defaultLimits {
		if slices.ContainsFunc(said, func(l Rlimit) bool { return l.Resource == d.Resource }) {
			continue
		}
		var own unix.Rlimit
		if unix.Getrlimit(d.Resource, &own) == nil {
			d.Hard = min(d.Hard, own.Max)
			d.Soft = min(d.Soft, d.Hard)
		}
		all = append(all, d)
	}
	return all
}

func boundFiles(n uint64) uint64 {
	if n == unix.RLIM_INFINITY {
		return maxFiles()
	}
	return n
}
