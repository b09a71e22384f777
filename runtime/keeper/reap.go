package keeper

import (
	"time"

	"stead/runtime/logs"
	"stead/runtime/record"

	"golang.org/x/sys/unix"
)

// A child's end is told twice: by its pidfd, and by SIGCHLD, which may stand for
// several and names none. To find one that nobody names the kernel goes through
// all children (wait4(2)): 0.4 ms at 1,000, 2 ms at 5,000. So the pidfd counts;
// SIGCHLD does for children without one, and a second later for what none told.

// children are our own processes, and what is known of their ends.
type children struct {
	byPid        map[int]*entry
	execs        map[int]*execProcess
	unclaimed    map[int]unix.WaitStatus // those that ended before they were registered
	ignored      map[int]bool            // those whose end interests nobody
	withoutPidfd int                     // how many registered ones have no pidfd
	nextReap     time.Time               // when to go through all; zero if there is no need
}

// lookLater is how long an end that no pidfd told may go unseen, such as that of a
// child that was never registered.
const reapDelay = time.Second

func newChildren() children {
	return children{
		byPid: map[int]*entry{}, execs: map[int]*execProcess{},
		unclaimed: map[int]unix.WaitStatus{}, ignored: map[int]bool{},
	}
}

// session is the process of an exec that lives.
type execProcess struct {
	end   chan<- unix.WaitStatus
	pidfd int // -1 if there is none
}

// register takes a container over; from here on its end is noticed.
func (l *loop) register(e *entry) error {
	l.byID[e.rec.ID()] = e // first: whatever fails below, its end is noticed
	if e.child {
		l.byPid[e.rec.Pid] = e
		e.pidfd = l.watchPidfd(e.rec.Pid, source{entry: e, exit: true})
	}
	for s, fd := range e.out {
		if fd < 0 {
			continue
		}
		l.byFD[int32(fd)] = source{entry: e, stream: logs.Stream(s)}
		if err := l.add(fd, unix.EPOLLIN); err != nil {
			return err
		}
	}
	if !e.child {
		l.byFD[int32(e.pidfd)] = source{entry: e, exit: true}
		return l.add(e.pidfd, unix.EPOLLIN|unix.EPOLLONESHOT)
	}
	if ws, ok := l.unclaimed[e.rec.Pid]; ok {
		delete(l.unclaimed, e.rec.Pid)
		l.noteExit(e, ws)
	}
	return nil
}

// awaitExec has the end of one of our children told.
func (l *loop) awaitExec(pid int, end chan unix.WaitStatus) {
	if ws, ok := l.unclaimed[pid]; ok {
		delete(l.unclaimed, pid)
		end <- ws
		return
	}
	l.execs[pid] = &execProcess{end: end, pidfd: l.watchPidfd(pid, source{exec: pid})}
}

// watch has a pidfd tell of a child's end, once; it is -1 if none can be had.
func (l *loop) watchPidfd(pid int, s source) (pidfd int) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		if err = checkSpare(pidfd); err == nil { // it can be done without
			err = l.add(pidfd, unix.EPOLLIN|unix.EPOLLONESHOT)
		}
		if err == nil {
			l.byFD[int32(pidfd)] = s
			return pidfd
		}
		unix.Close(pidfd)
	}
	l.withoutPidfd++
	return -1
}

// unwatch is for a child that was reaped.
func (l *loop) closePidfd(pidfd int) {
	if pidfd < 0 {
		l.withoutPidfd--
		return
	}
	delete(l.byFD, int32(pidfd))
	unix.Close(pidfd) // takes it out of epoll
}

// pidfdTold is for a child that ended. While another process of its container traces
// it, it can't be reaped: SIGCHLD tells when it can.
func (l *loop) handlePidfd(pid int) {
	if l.reapOne(pid) {
		return
	}
	if e, ok := l.byPid[pid]; ok {
		e.pidfd = l.dropPidfd(e.pidfd)
	} else if x, ok := l.execs[pid]; ok {
		x.pidfd = l.dropPidfd(x.pidfd)
	}
}

// unsee takes a child's pidfd away.
func (l *loop) dropPidfd(pidfd int) int {
	l.closePidfd(pidfd)
	l.withoutPidfd++
	return -1
}

// someEnded is for SIGCHLD.
func (l *loop) handleSIGCHLD(now time.Time) {
	if l.withoutPidfd > 0 || len(l.ignored) > 0 {
		l.reap()
	}
	if l.nextReap.IsZero() {
		l.nextReap = now.Add(reapDelay)
	}
}

// reap goes through all children for those that ended.
func (l *loop) reap() {
	for l.reapOne(-1) {
	}
}

// reapOne is for a child that ended, or -1 for any; it says whether there was one.
func (l *loop) reapOne(pid int) bool {
	var ws unix.WaitStatus
	pid, err := unix.Wait4(pid, &ws, unix.WNOHANG, nil)
	if pid <= 0 || err != nil {
		return false
	}
	if e, ok := l.byPid[pid]; ok {
		l.noteExit(e, ws)
	} else if x, ok := l.execs[pid]; ok {
		delete(l.execs, pid)
		l.closePidfd(x.pidfd)
		x.end <- ws
	} else if l.ignored[pid] {
		delete(l.ignored, pid)
	} else {
		l.unclaimed[pid] = ws
	}
	return true
}

func (l *loop) noteExit(e *entry, ws unix.WaitStatus) {
	if e.launching {
		e.ended = &ws
		return
	}
	l.finish(e, endingOf(ws))
}

func endingOf(ws unix.WaitStatus) *record.Ending {
	if ws.Signaled() {
		return &record.Ending{Code: 128 + int(ws.Signal()), Signal: int(ws.Signal())}
	}
	return &record.Ending{Code: ws.ExitStatus()}
}
