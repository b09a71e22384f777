package keeper

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"

	"stead/runtime/fault"
	"stead/runtime/launch"
	"stead/runtime/logs"
	"stead/runtime/record"
	"stead/runtime/trim"

	"golang.org/x/sys/unix"
)

// quantum is how many bytes of one pipe are read at a time, so that one writer can't
// delay the others.
const quantum = 64 << 10

// loop holds all containers: it copies output, reaps processes and writes records. mu guards
// all its state; do takes it.
type loop struct {
	run   string
	log   *slog.Logger
	epoll int
	wake  int // eventfd: a child ended
	room  int // eventfd: a log has room again, or is written

	mu         sync.Mutex
	byID       map[string]*entry
	byFD       map[int32]source
	children                            // reap.go
	starting   map[string]chan struct{} // starts in progress; closed when they are over
	logs       logs.Set
	partial    map[*entry]struct{}  // have an incomplete line in memory
	unrecorded map[*entry]bool      // have ended, but the record can't be written yet
	full       map[*entry]time.Time // pipes that are not read until the log has room, and since when
	ending     map[*entry]time.Time // have ended; until when the record waits for the log
	watchers   map[*watcher]struct{}
	buf        [quantum]byte
}

// entry is a container that runs or is being launched.
type entry struct {
	rec       *record.Record
	log       *logs.Log
	out       [2]int // the keeper's ends of its pipes; -1 if closed
	child     bool   // of this keeper, which reaps it
	pidfd     int    // -1 if there is none
	launching bool   // its ending is recorded after the launch
	failed    *launch.Error
	ended     *unix.WaitStatus
	waiters   []chan<- *record.Ending
}

// source describes a descriptor in epoll.
type source struct {
	entry  *entry
	stream logs.Stream
	exit   bool // a pidfd
	exec   int  // the process of an exec, if it is the pidfd of one
}

func newLoop(run string, log *slog.Logger) (*loop, error) {
	l := &loop{
		run: run, log: log,
		byID: map[string]*entry{}, byFD: map[int32]source{},
		children: newChildren(), starting: map[string]chan struct{}{},
		partial: map[*entry]struct{}{}, unrecorded: map[*entry]bool{}, full: map[*entry]time.Time{}, ending: map[*entry]time.Time{}, watchers: map[*watcher]struct{}{},
	}
	l.logs.MaxOpen = openLogs(openFiles())
	l.logs.Changed = func() {
		one := [8]byte{1}
		unix.Write(l.room, one[:])
	}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	if l.room, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	return l, errors.Join(l.add(l.wake, unix.EPOLLIN), l.add(l.room, unix.EPOLLIN))
}

func (l *loop) add(fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}))
}

// do runs f while it holds mu.
func (l *loop) do(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// serve handles events until the process ends.
func (l *loop) serve() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGCHLD)
	go func() {
		one := [8]byte{1}
		for range signals {
			unix.Write(l.wake, one[:]) // a full counter wakes the loop, too
		}
	}()
	l.do(l.reap) // children of a predecessor that ended before the signal handler was set
	events := make([]unix.EpollEvent, 128)
	for {
		wait := 0
		l.do(func() { wait = l.epollTimeout() })
		n, err := unix.EpollWait(l.epoll, events, wait)
		if err != nil && err != unix.EINTR {
			l.log.Error("wait for events", "error", err)
			os.Exit(1) // the daemon starts another, which adopts
		}
		l.do(func() { l.handleEvents(events[:max(n, 0)], time.Now()) })
	}
}

func (l *loop) handleEvents(events []unix.EpollEvent, now time.Time) {
	for _, e := range events {
		if int(e.Fd) == l.wake {
			var b [8]byte
			unix.Read(l.wake, b[:])
			l.handleSIGCHLD(now)
		} else if int(e.Fd) == l.room {
			var b [8]byte
			unix.Read(l.room, b[:])
		} else if s, ok := l.byFD[e.Fd]; ok && s.exec > 0 {
			l.handlePidfd(s.exec)
		} else if ok && s.exit && s.entry.child {
			l.handlePidfd(s.entry.rec.Pid)
		} else if ok && s.exit {
			l.handleAdoptedExit(s.entry)
		} else if ok {
			l.drain(s.entry, s.stream, now)
		}
	}
	l.expirePartial(now)
	l.followLogs(now)
	if !l.nextReap.IsZero() && !now.Before(l.nextReap) {
		l.nextReap = time.Time{}
		l.reap()
		for e := range l.unrecorded {
			l.recordEnd(e)
		}
		go trim.Memory() // stops of many containers need much
	}
}

// epollTimeout returns the timeout for epoll_wait(2) in milliseconds, -1 for none.
func (l *loop) epollTimeout() int {
	const never = time.Duration(1<<63 - 1)
	wait := never
	for e := range l.partial {
		if until, ok := e.log.Pending(); ok {
			wait = min(wait, time.Until(until), logs.Hold)
		}
	}
	if !l.nextReap.IsZero() {
		wait = min(wait, time.Until(l.nextReap))
	}
	for _, since := range l.full {
		wait = min(wait, max(time.Until(since.Add(logs.StallAfter)), logs.StallAfter/10))
	}
	for _, until := range l.ending {
		wait = min(wait, time.Until(until))
	}
	if wait == never {
		return -1
	}
	return max(1, int(wait.Milliseconds())+1)
}

func (l *loop) expirePartial(now time.Time) {
	for e := range l.partial {
		e.log.Expire(now)
		if _, ok := e.log.Pending(); !ok {
			delete(l.partial, e)
		}
	}
}

// drain copies at most one quantum of output to the log and returns its bytes.
func (l *loop) drain(e *entry, s logs.Stream, now time.Time) int {
	n, err := unix.Read(e.out[s], l.buf[:])
	if n <= 0 {
		if err != nil && err != unix.EAGAIN && err != unix.EINTR {
			l.log.Error("read output", "container", e.rec.Name, "error", err)
		}
		return 0
	}
	e.log.Write(s, l.buf[:n], now)
	if _, ok := e.log.Pending(); ok {
		l.partial[e] = struct{}{}
	}
	if _, is := l.full[e]; !is && e.log.IsFull(now) {
		l.full[e] = now
		l.watchPipes(e, 0)
	}
	return n
}

// watchPipes sets the events that the pipes of a container report.
func (l *loop) watchPipes(e *entry, events uint32) {
	for _, fd := range e.out {
		if fd >= 0 {
			unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
		}
	}
}

// followLogs goes on with the containers that waited for their logs.
func (l *loop) followLogs(now time.Time) {
	for e := range l.full {
		if !e.log.IsFull(now) {
			delete(l.full, e)
			l.watchPipes(e, unix.EPOLLIN)
		}
	}
	for e, until := range l.ending {
		if e.log.IsIdle() || !now.Before(until) {
			delete(l.ending, e)
			l.recordEnd(e)
		}
	}
}

// drainRest reads at most one pipe capacity: a container can pass its end to another process,
// which may write for ever.
func (l *loop) drainRest(e *entry, s logs.Stream, now time.Time) {
	if e.out[s] < 0 {
		return
	}
	left, err := unix.FcntlInt(uintptr(e.out[s]), unix.F_GETPIPE_SZ, 0)
	for n := 1; err == nil && left > 0 && n > 0; left -= n {
		n = l.drain(e, s, now)
	}
}

// logFaults returns a fault for each log that has lost lines and could not note that yet.
func (l *loop) logFaults() (all []Fault) {
	for _, e := range l.byID {
		if lost := e.log.Lost(); lost.Records > 0 {
			all = append(all, Fault{
				Subject: "container " + e.rec.Name, Reason: logLosesLines, Since: lost.Since.Truncate(time.Second),
				Message: fmt.Sprintf("the log of %s has lost %d lines since %s: %s; look at the disk of %s",
					e.rec.Name, lost.Records, lost.Since.Format(time.TimeOnly), lost.Reason, e.rec.LogDir),
			})
		}
	}
	slices.SortFunc(all, func(a, b Fault) int { return strings.Compare(a.Subject, b.Subject) })
	if n := len(all) - maxLogFaults; n > 0 {
		all = append(all[:maxLogFaults], Fault{Subject: "logs", Reason: logLosesLines, Message: fmt.Sprintf("so do the logs of %d other containers", n)})
	}
	return all
}

// Fault is something that is wrong with the keeper, for status. It has the fields of status.Fault:
// this package must not know what that package imports, manifests.
type Fault struct {
	Subject string    `json:"subject"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Since   time.Time `json:"since,omitzero"`
}

// logLosesLines is status.ReasonLogLoses.
const logLosesLines = "LogLosesLines"

// maxLogFaults limits the size of a reply.
const maxLogFaults = 20

// noteLaunch notes that a launch is over. failed is nil after a success.
func (l *loop) noteLaunch(e *entry, failed *launch.Error) {
	e.launching, e.failed = false, failed
	if e.ended != nil {
		l.finish(e, endingOf(*e.ended))
	}
}

// finish reads the remaining output, records the ending and reports it to the clients.
func (l *loop) finish(e *entry, end *record.Ending) {
	now := time.Now()
	for s := range e.out {
		l.drainRest(e, logs.Stream(s), now)
	}
	fault.Point("keeper-end-drained")
	e.log.End(now)
	delete(l.full, e)
	if f := e.failed; f != nil {
		end = &record.Ending{Code: launch.ExitCode(f.Where, f.Errno), Failed: f.Error(), Where: string(f.Where)}
	}
	e.rec.State, e.rec.FinishedAt, e.rec.Ending = record.Exited, now, end
	fault.Point("keeper-end-logged")
	for i, fd := range e.out {
		if fd >= 0 {
			delete(l.byFD, int32(fd))
			unix.Close(fd) // also removes it from epoll
			e.out[i] = -1
		}
	}
	if e.pidfd >= 0 || e.child {
		l.closePidfd(e.pidfd)
		e.pidfd = -1
	}
	delete(l.partial, e)
	if e.child {
		delete(l.byPid, e.rec.Pid)
	}
	if e.log.IsIdle() {
		l.recordEnd(e)
		return
	}
	// Whoever learns of the end finds all output, unless the disk does not take it.
	l.ending[e], l.byID[e.rec.ID()] = now.Add(endPatience), e
}

// endPatience is how long the record of an end waits until the output is written.
const endPatience = 2 * logs.StallAfter

// recordEnd records an ending and reports it to the clients, which then read the record. If
// the write fails for lack of a descriptor or of disk space, it is retried later.
func (l *loop) recordEnd(e *entry) {
	err := e.rec.Write(l.run)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // without the directory nobody reads it
		if !l.unrecorded[e] {
			l.log.Error("cannot record the ending; retrying every second", "container", e.rec.Name, "error", err)
		}
		l.unrecorded[e], l.byID[e.rec.ID()] = true, e
		l.nextReap = time.Now().Add(reapDelay)
		return
	}
	fault.Point("keeper-end-recorded")
	delete(l.unrecorded, e)
	delete(l.byID, e.rec.ID())
	for _, w := range e.waiters {
		w <- e.rec.Ending
	}
	for w := range l.watchers {
		w.notify(e.rec.ID())
	}
}
