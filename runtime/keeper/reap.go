package keeper

import (
	"time"

	"stead/runtime/logs"
	"stead/runtime/record"

	"golang.org/x/sys/unix"
)

// The kernel reports a child's exit twice: by its pidfd, and by SIGCHLD, which may stand for
// several children and names none of them. Without a pid, wait4(2) goes through all
// children: 0.4 ms at 1,000 of them, 2 ms at 5,000. So the keeper uses the pidfd. SIGCHLD
// serves for children without a pidfd and, a second later, for exits that were missed.

// children holds the child processes of the keeper.
type children struct {
	byPid        map[int]*entry
	execs        map[int]*execProcess
	unclaimed    map[int]unix.WaitStatus // ended before they were registered
	ignored      map[int]bool            // nobody needs their endings
	withoutPidfd int                     // number of registered children without a pidfd
	nextReap     time.Time               // when to go through all children; zero: not needed
}

// reapDelay is how long an exit that no pidfd reports may stay unnoticed, such as that of a
// child that was never registered.
const reapDelay = time.Second

func newChildren() children {
	return children{
		byPid: map[int]*entry{}, execs: map[int]*execProcess{},
		unclaimed: map[int]unix.WaitStatus{}, ignored: map[int]bool{},
	}
}

// execProcess is the running process of an exec.
type execProcess struct {
	end   chan<- unix.WaitStatus
	pidfd int // -1 if there is none
}

// register adds a container; from now on its exit is noticed.
func (l *loop) register(e *entry) error {
	l.byID[e.rec.ID()] = e // first, so that its exit is noticed even if a step below fails
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

// awaitExec sends the wait status of the child to end when the child exits.
func (l *loop) awaitExec(pid int, end chan unix.WaitStatus) {
	if ws, ok := l.unclaimed[pid]; ok {
		delete(l.unclaimed, pid)
		end <- ws
		return
	}
	l.execs[pid] = &execProcess{end: end, pidfd: l.watchPidfd(pid, source{exec: pid})}
}

// watchPidfd opens a pidfd that reports the exit of a child once. It returns -1 if none can
// be opened.
func (l *loop) watchPidfd(pid int, s source) (pidfd int) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		if err = checkSpare(pidfd); err == nil { // the keeper can do without
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

// closePidfd closes the pidfd of a child that was reaped.
func (l *loop) closePidfd(pidfd int) {
	if pidfd < 0 {
		l.withoutPidfd--
		return
	}
	delete(l.byFD, int32(pidfd))
	unix.Close(pidfd) // also removes it from epoll
}

// handlePidfd reaps a child whose pidfd reported its exit. While another process of the
// container traces it, it can't be reaped; SIGCHLD comes when it can.
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

// dropPidfd closes the pidfd of a child that is not reaped yet.
func (l *loop) dropPidfd(pidfd int) int {
	l.closePidfd(pidfd)
	l.withoutPidfd++
	return -1
}

// handleSIGCHLD reaps all children if some of them have no pidfd, else schedules that.
func (l *loop) handleSIGCHLD(now time.Time) {
	if l.withoutPidfd > 0 || len(l.ignored) > 0 {
		l.reap()
	}
	if l.nextReap.IsZero() {
		l.nextReap = now.Add(reapDelay)
	}
}

// reap reaps all children that have ended.
func (l *loop) reap() {
	for l.reapOne(-1) {
	}
}

// reapOne reaps the child pid, or any for -1, and reports whether there was one.
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
