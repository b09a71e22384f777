package keeper

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"stead/runtime/fault"
	"stead/runtime/launch"
	"stead/runtime/weak"

	"golang.org/x/sys/unix"
)

// Argv0 is the argv[0] with which this program runs as a keeper: main then calls Main.
const Argv0 = "stead-keeper"

// readyFD gets one zero byte once the keeper listens, or the text of an error.
const readyFD = 3

// server answers requests. Each connection has its own goroutine.
type server struct {
	*loop
	launcher   *launch.Launcher
	listener   *net.UnixListener
	upgrade    upgrade
	unmounting sync.Mutex // held while the last descriptor of a merged root is closed
	closings   closings
	notes      []string // what an admin should know about this keeper
}

// Main is the keeper's main function: stead-keeper RUN-DIR [--legacy=FD]. It
// returns an exit code.
func Main(args []string) int {
	messages := &ownLog{out: []int{1, 2}, max: maxLogSize}
	log := slog.New(slog.NewTextHandler(messages, nil))
	recalls := make(chan os.Signal, 1)
	signal.Notify(recalls, unix.SIGHUP) // before the lock shows the pid to clients
	if len(args) < 2 {
		log.Error("usage: stead-keeper RUN-DIR")
		return 2
	}
	messages.run = args[1]
	var old *handover
	var err error
	if len(args) > 2 { // this process ran as the keeper of another binary until now
		old, err = readHandover(args[2])
	}
	var s *server
	if err == nil {
		s, err = newServer(args[1], old, log)
	}
	if len(args) == 2 {
		unix.CloseOnExec(readyFD)
		ready := os.NewFile(readyFD, "ready")
		if err != nil {
			fmt.Fprint(ready, err)
		} else {
			ready.Write([]byte{0})
		}
		ready.Close()
	}
	if err != nil {
		log.Error("start", "error", err)
		return 1
	}
	go s.accept(s.listener)
	go func() {
		for range recalls {
			s.relisten()
		}
	}()
	s.serve()
	return 0
}

// clearDumpable protects the memory of this process from other processes. Test builds
// replace it.
var clearDumpable = func() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }

func newServer(run string, old *handover, log *slog.Logger) (*server, error) {
	// A start clones this process, so its memory is kept small and hidden.
	debug.SetGCPercent(25)
	weak.Dir(run)
	if err := clearDumpable(); err != nil {
		return nil, os.NewSyscallError("prctl", err)
	}
	os.WriteFile("/proc/self/comm", []byte(Argv0), 0) // otherwise its name is that of the memfd
	resetMemory()
	unix.Umask(0) // all calls give exact modes
	if err := os.Chdir("/"); err != nil {
		return nil, err
	}
	if old == nil {
		fd, err := lock(run)
		if err != nil {
			return nil, err
		}
		old = &handover{Lock: fd}
	}
	fault.Dir(run)
	nursery := filepath.Join(run, "nursery")
	if err := os.MkdirAll(nursery, 0o700); err != nil {
		return nil, err
	}
	s := &server{upgrade: upgrade{lock: old.Lock}, notes: ownNotes()}
	var err error
	if s.loop, err = newLoop(run, log); err != nil {
		return nil, err
	}
	if s.launcher, err = launch.NewLauncher(nursery, workers()); err != nil {
		return nil, err
	}
	if err := s.adopt(old.Pipes); err != nil {
		return nil, err
	}
	os.Remove(Socket(run)) // left by a dead keeper, as this one holds the lock
	if s.listener, err = listen(run); err != nil {
		return nil, err
	}
	s.weaken(run)
	return s, nil
}

// lock takes the lock of the run directory, which only one keeper can hold. It holds until
// the process ends or closes the descriptor.
func lock(run string) (fd int, err error) {
	fd, err = unix.Open(filepath.Join(run, lockFile), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: lockFile, Err: err}
	}
	// A keeper that was just killed holds the lock until it is completely gone, and so does
	// a child that it was cloning. Neither listens any more.
	for end := time.Now().Add(lockTimeout); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return fd, nil
		}
		if c, e := (Client{Run: run}).dial(); e == nil {
			c.Close()
			return -1, fmt.Errorf("another keeper runs for %s: %w", run, err)
		}
		if time.Now().After(end) {
			return -1, fmt.Errorf("another keeper holds %s: %w", run, err)
		}
	}
}

const lockFile = "keeper.lock"

const lockTimeout = 10 * time.Second

func (s *server) accept(on *net.UnixListener) {
	for {
		c, err := acceptFrom(on, s.log)
		if err != nil && s.isReplaced(on) {
			return
		}
		if err != nil {
			s.log.Error("accept", "error", err)
			os.Exit(1) // the daemon starts another keeper, which adopts the containers
		}
		go s.answer(conn{c.(*net.UnixConn)})
	}
}

func (s *server) answer(c conn) {
	defer c.Close()
	if !isOwnUser(c) {
		return
	}
	for {
		var q request
		fds, err := c.receiveRequest(&q)
		if err != nil && !errors.Is(err, errUnknown) {
			return
		}
		if err == nil {
			err = s.dispatch(c, &q, fds)
		}
		if err != nil {
			if err := c.send(failure(err)); err != nil {
				return
			}
		}
	}
}

// isOwnUser reports whether the client runs as the user of the keeper (unix(7), SO_PEERCRED).
func isOwnUser(c conn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		ok = err == nil && int(cred.Uid) == os.Geteuid()
	})
	return ok
}

func failure(err error) reply {
	r := reply{Error: err.Error()}
	var l *launch.Error
	if errors.As(err, &l) {
		r.Where, r.Errno = string(l.Where), l.Errno
	}
	r.Missing, r.Unknown, r.Held = errors.Is(err, ErrMissing), errors.Is(err, errUnknown), errors.Is(err, launch.ErrHeld)
	return r
}

// ErrMissing is returned when the keeper does not hold the container, or no longer does.
var ErrMissing = errors.New("not held by the keeper")

func (s *server) dispatch(c conn, q *request, fds []int) error {
	switch q.Op {
	case "start":
		if len(fds) != 1 {
			closeAll(fds)
			return errors.New("start needs a body")
		}
		return s.start(c, fds[0])
	case "exec":
		return s.exec(c, q, fds)
	case "exec-prepared":
		return s.execPrepared(c, q, fds)
	case "upgrade":
		return s.upgradeTo(c, fds)
	}
	closeAll(fds)
	switch q.Op {
	case "signal":
		return s.signal(c, q)
	case "wait":
		return s.waitFor(c, q)
	case "limit":
		return s.limitLog(c, q)
	case "list":
		var live int
		var faults []Fault
		s.do(func() { live, faults = len(s.byID), s.logFaults() })
		return c.send(reply{Live: live, Pid: os.Getpid(), Build: Build(), Features: features, Notes: s.notes, Faults: faults})
	case "watch":
		return s.watch(c)
	case "mount-root":
		return s.mountRoot(c, q)
	case "unmount-root":
		return s.unmountRoot(c, q)
	case "freeze":
		return s.freeze(c, q)
	case "thaw":
		return errors.New("its time was over")
	case "quit":
		return s.quit(c)
	}
	return fmt.Errorf("%w: unknown request %q", errUnknown, q.Op)
}
