package keeper

import (
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"time"

	"stead/runtime/fault"
	"stead/runtime/launch"
	"stead/runtime/logs"
	"stead/runtime/record"
	"stead/runtime/trim"

	"golang.org/x/sys/unix"
)

// quantum is how much of one pipe is read in a round: no writer starves the rest.
const quantum = 64 << 10

// loop holds all containers: it drains, reaps and writes records. What touches
// its state holds mu, as do does.
type loop struct {
	run   string
	log   *slog.Logger
	epoll int
	wake  int // eventfd: a child ended

	mu         sync.Mutex
	byID       map[string]*entry
	byFD       map[int32]source
	children                            // reap.go
	starting   map[string]chan struct{} // closed when the start under way is over
	logs       logs.Set
	partial    map[*entry]struct{} // with the beginning of a line that waits
	unrecorded map[*entry]bool     // that ended, while it can't be put on record
	watchers   map[*watcher]struct{}
	buf        [quantum]byte
}

// entry is a container that lives, or whose launch is under way.
type entry struct {
	rec       *record.Record
	log       *logs.Log
	out       [2]int // its pipes, our ends
	child     bool   // ours: we reap it
	pidfd     int    // -1 if there is none
	launching bool   // the end is not told before the launch is
	failed    *launch.Error
	ended     *unix.WaitStatus
	waiters   []chan<- *record.Ending
}

// source is what a descriptor in epoll belongs to.
type source struct {
	entry  *entry
	stream logs.Stream
	exit   bool // a pidfd
	exec   int  // the process of an exec, whose pidfd it is
}

func newLoop(run string, log *slog.Logger) (*loop, error) {
	l := &loop{
		run: run, log: log,
		byID: map[string]*entry{}, byFD: map[int32]source{},
		children: newChildren(), starting: map[string]chan struct{}{},
		partial: map[*entry]struct{}{}, unrecorded: map[*entry]bool{}, watchers: map[*watcher]struct{}{},
	}
	l.logs.MaxOpen = openLogs(openFiles())
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	return l, l.add(l.wake, unix.EPOLLIN)
}

func (l *loop) add(fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}))
}

// do runs f with the loop's state to itself.
func (l *loop) do(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// serve runs until the process ends.
func (l *loop) serve() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGCHLD)
	go func() {
		one := [8]byte{1}
		for range signals {
			unix.Write(l.wake, one[:]) // a full counter wakes as well
		}
	}()
	l.do(l.reap) // children of a predecessor that ended before we listened
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
	if !l.nextReap.IsZero() && !now.Before(l.nextReap) {
		l.nextReap = time.Time{}
		l.reap()
		for e := range l.unrecorded {
			l.recordEnd(e)
		}
		go trim.Memory() // stops of many containers took it
	}
}

// timeout is for epoll_wait(2): ms, -1 for ever.
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

// drain reads one quantum and says how much was there.
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
	return n
}

// drainRest reads what a pipe holds and no more: a container can hand its end to
// a process elsewhere, which may write for ever.
func (l *loop) drainRest(e *entry, s logs.Stream, now time.Time) {
	if e.out[s] < 0 {
		return
	}
	left, err := unix.FcntlInt(uintptr(e.out[s]), unix.F_GETPIPE_SZ, 0)
	for n := 1; err == nil && left > 0 && n > 0; left -= n {
		n = l.drain(e, s, now)
	}
}

// launched says that a launch is over, with or without success.
func (l *loop) noteLaunch(e *entry, failed *launch.Error) {
	e.launching, e.failed = false, failed
	if e.ended != nil {
		l.finish(e, endingOf(*e.ended))
	}
}

// finish takes what is left of the output, puts the end on record and tells it.
func (l *loop) finish(e *entry, end *record.Ending) {
	now := time.Now()
	for s := range e.out {
		l.drainRest(e, logs.Stream(s), now)
	}
	fault.Point("keeper-end-drained")
	e.log.End(now)
	if f := e.failed; f != nil {
		end = &record.Ending{Code: exitCodeOf(f), Failed: f.Error(), Where: string(f.Where)}
	}
	e.rec.State, e.rec.FinishedAt, e.rec.Ending = record.Exited, now, end
	fault.Point("keeper-end-logged")
	for i, fd := range e.out {
		if fd >= 0 {
			delete(l.byFD, int32(fd))
			unix.Close(fd) // takes it out of epoll
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
	l.recordEnd(e)
}

// conclude puts an end on record and tells it; later if it can't now, for want of a
// descriptor or of space: what is told is read from the record.
func (l *loop) recordEnd(e *entry) {
	err := e.rec.Write(l.run)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // without the directory nobody would read it
		if !l.unrecorded[e] {
			l.log.Error("record the end", "container", e.rec.Name, "error", err)
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

// failedCode is the exit code of a launch that failed, as in Podman.
func exitCodeOf(f *launch.Error) int {
	switch {
	case f.Where != launch.AtCommand:
		return 125
	case f.Errno == unix.ENOENT:
		return 127
	}
	return 126
}
