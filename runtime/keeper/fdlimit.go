package keeper

import (
	"fmt"
	"math"
	"os"
	goruntime "runtime"

	"stead/runtime/launch"

	"golang.org/x/sys/unix"
)

// A keeper without a free descriptor can do nothing. It therefore refuses to start more
// containers than its open-file limit allows.

const (
	filesPerContainer = 3   // for each container: two pipes and a pidfd
	filesOfKeeper     = 26  // of a keeper without containers, not counting its workers
	filesReserve      = 32  // kept free for starts and stops
	maxOpenLogs       = 256 // log files that are open at the same time
)

const raiseAdvice = ": raise the hard limit of the daemon (LimitNOFILE= of its unit, or ulimit -Hn) and restart that"

// workers returns how many starts a keeper runs at the same time.
func workers() int { return max(2, goruntime.NumCPU()) }

// Room returns how many containers a keeper can hold on this host at a limit of open files
// (RLIMIT_NOFILE). It reserves an eighth for launches, execs, clients and logs.
func Room(limit uint64) int {
	n, own := int(min(limit, math.MaxInt32)), filesOfKeeper+launch.FilesEach*workers()
	return max(0, n-n/8-2*own) / filesPerContainer
}

// openLogs returns how many log files may be open at a limit of open files.
func openLogs(limit uint64) int { return int(max(8, min(maxOpenLogs, limit/32))) }

// openFiles returns the open-file limit of this process; the highest descriptor is one less.
func openFiles() uint64 {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	return l.Cur
}

// checkRoom returns an error if the open-file limit leaves no room for one more container.
func (l *loop) checkRoom() error {
	limit, n := openFiles(), len(l.byID)
	for id := range l.starting {
		if _, ok := l.byID[id]; !ok {
			n++
		}
	}
	if n >= Room(limit) {
		return fmt.Errorf("the keeper is full: it holds %d containers at its limit of %d open files"+raiseAdvice, n, limit)
	}
	return nil
}

// checkAdoptable returns an error if the open-file limit is too low to adopt n containers.
// They keep running without a keeper.
func checkAdoptable(n int) error {
	if limit := openFiles(); uint64(n*filesPerContainer+filesOfKeeper+launch.FilesEach*workers()) > limit {
		return fmt.Errorf("%d containers run, and the limit of %d open files is too low to adopt them"+raiseAdvice, n, limit)
	}
	return nil
}

// RaiseLimit raises the open-file limit of a running keeper to the hard limit of this
// process. The keeper may have inherited a lower one from an earlier daemon.
func RaiseLimit(pid int) error {
	var own, its unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own)
	if err == nil {
		err = unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &its)
	}
	if err == nil && own.Max > its.Cur {
		err = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: own.Max, Max: max(own.Max, its.Max)}, nil)
	}
	return os.NewSyscallError("prlimit", err)
}

// checkSpare returns an error if few descriptors are free, so that the rest stays for starts
// and stops. fd is a new descriptor, the lowest that was free.
func checkSpare(fd int) error {
	if limit := openFiles(); uint64(fd)+max(limit/16, filesReserve) >= limit {
		return fmt.Errorf("the keeper is too busy for its limit of %d open files; try again", limit)
	}
	return nil
}
