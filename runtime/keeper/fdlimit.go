package keeper

import (
	"fmt"
	"math"
	"os"
	goruntime "runtime"

	"stead/runtime/launch"

	"golang.org/x/sys/unix"
)

// A keeper without a free descriptor could do nothing of what it is for. So it
// holds no more containers than it can, and says so to who starts one more.

const (
	filesPerContainer = 3   // while a container lives: its two pipes, its pidfd
	filesOfKeeper     = 26  // of a keeper that holds nothing, besides its workers'
	filesReserve      = 32  // while one thing is done, twice
	maxOpenLogs       = 256 // logs that are open at once
)

const raiseAdvice = ": raise the hard limit of the daemon (LimitNOFILE= of its unit, or ulimit -Hn) and restart that"

// workers is how many starts a keeper makes at a time.
func workers() int { return max(2, goruntime.NumCPU()) }

// Room is how many containers a keeper holds on this host at a limit of open files
// (RLIMIT_NOFILE). It leaves an eighth to what comes and goes: launches, execs,
// clients, logs.
func Room(limit uint64) int {
	n, own := int(min(limit, math.MaxInt32)), filesOfKeeper+launch.FilesEach*workers()
	return max(0, n-n/8-2*own) / filesPerContainer
}

// openLogs is how many logs may be open at a limit of open files.
func openLogs(limit uint64) int { return int(max(8, min(maxOpenLogs, limit/32))) }

// openFiles is our limit of them: the highest descriptor is one less.
func openFiles() uint64 {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	return l.Cur
}

// full says that no container has room besides those that are held or on their way.
func (l *loop) checkRoom() error {
	limit, n := openFiles(), len(l.byID)
	for id := range l.starting {
		if _, ok := l.byID[id]; !ok {
			n++
		}
	}
	if n >= Room(limit) {
		return fmt.Errorf("the keeper holds %d containers, for more its limit of %d open files leaves no room"+raiseAdvice, n, limit)
	}
	return nil
}

// adoptable fails where so many containers can't be taken over: each needs its
// descriptors from the start. They run on.
func checkAdoptable(n int) error {
	if limit := openFiles(); uint64(n*filesPerContainer+filesOfKeeper+launch.FilesEach*workers()) > limit {
		return fmt.Errorf("%d containers run, and the limit of %d open files is too low to hold them"+raiseAdvice, n, limit)
	}
	return nil
}

// RaiseLimit has a keeper that runs have as many open files as we may have: it has
// the limit of whoever started it, and outlives that.
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

// scarce says by a new descriptor, the lowest that was free, that those above are
// left to starts and stops.
func checkSpare(fd int) error {
	if limit := openFiles(); uint64(fd)+max(limit/16, filesReserve) >= limit {
		return fmt.Errorf("too much is done at once for the keeper's limit of %d open files", limit)
	}
	return nil
}
