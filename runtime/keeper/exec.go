package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"stead/runtime/cgroup"
	"stead/runtime/launch"
	"stead/runtime/record"

	"golang.org/x/sys/unix"
)

// execBody is the body of exec.
type execBody struct {
	UserNS  bool
	IDBase  uint32
	Cgroups []string // all of them: an older keeper knows no Into
	Into    string
	Process launch.Process
	TTY     bool
	Size    launch.Size
}

// exec starts a process that its body says all of.
func (s *server) exec(c conn, q *request, fds []int) error {
	if len(fds) == 0 {
		return errors.New("exec needs a body")
	}
	var b execBody
	if err := decodeBody(fds[0], &b); err != nil {
		closeAll(fds[1:])
		return fmt.Errorf("decode exec: %w", err)
	}
	return s.runExec(c, q.ID, &b, fds[1:])
}

// enter starts a process in a container and answers twice: when it runs, and
// when it ended. It is our child as the container is: its pid 1 does not go
// away before all in it are reaped by their parents outside, and an exec client
// that is stopped could hold that up for ever.
func (s *server) runExec(c conn, id string, b *execBody, fds []int) error {
	defer func() { closeAll(fds) }()
	if want := map[bool]int{true: 0, false: 3}[b.TTY]; len(fds) != want {
		return fmt.Errorf("exec needs %d descriptors", want)
	}
	for _, fd := range fds {
		giveToContainer(fd, b.IDBase)
	}
	target, err := s.targetPidfd(id)
	if err == nil {
		if err = checkSpare(target); err != nil {
			unix.Close(target)
		}
	}
	if err == nil && b.Into != "" && cgroup.FrozenByHand(b.Into) {
		unix.Close(target)
		err = errors.New("its cgroup is frozen, so that nothing would run; stead apply thaws it, unless it is on hold")
	}
	if err != nil {
		return fmt.Errorf("exec in %s: %w", id, err)
	}
	defer unix.Close(target)
	var end chan unix.WaitStatus
	child := 0
	entry := &launch.Entry{Target: target, UserNS: b.UserNS, Cgroups: b.Cgroups, CgroupInto: b.Into, Process: b.Process, TTY: b.TTY, Size: b.Size}
	copy(entry.Stdio[:], fds)
	master, err := s.launcher.Exec(entry, func(pid int) {
		child, end = pid, make(chan unix.WaitStatus, 1) // how one ends that hands on interests nobody
		s.do(func() { s.awaitExec(pid, end) })
	})
	if err != nil {
		s.signalExec(child, unix.SIGKILL)
		return err
	}
	var out []int
	if master >= 0 {
		out = []int{master}
		defer unix.Close(master)
	}
	if err := c.send(reply{Pid: child}, out...); err != nil {
		s.signalExec(child, unix.SIGKILL)
		return err
	}
	closeAll(fds) // else the client would never read end of file
	fds = nil
	s.serveExec(c, child, end)
	return nil
}

// target is a pidfd of a container's first process: by the time that the exec
// has its turn its pid may be another's.
func (l *loop) targetPidfd(id string) (pidfd int, err error) {
	err = ErrMissing
	l.do(func() {
		e, ok := l.byID[id]
		switch {
		case !ok || e.rec.State == record.Exited:
		case e.launching: // it is still in the nursery
			err = errors.New("it is just being started")
		case e.pidfd >= 0:
			pidfd, err = unix.FcntlInt(uintptr(e.pidfd), unix.F_DUPFD_CLOEXEC, 0)
		default: // not reaped before it is taken from byID
			pidfd, err = unix.PidfdOpen(e.rec.Pid, 0)
		}
	})
	return pidfd, err
}

// giveAway lets the container open a pipe by its path in /proc too, as in
// `echo x >/dev/stderr`. A FIFO that has a name on the host stays as it is: others
// could write into it.
func giveToContainer(fd int, id uint32) {
	const pipefs = 0x50495045
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) == nil && fs.Type == pipefs {
		unix.Fchown(fd, int(id), int(id))
		unix.Fchmod(fd, 0o622)
	}
}

// followExec passes signals on and ends the process when its client is gone.
func (s *server) serveExec(c conn, pid int, end <-chan unix.WaitStatus) {
	signals := make(chan int)
	go func() {
		defer close(signals)
		for {
			var q request
			fds, err := c.receiveRequest(&q)
			closeAll(fds)
			if err != nil {
				return
			}
			signals <- q.Signal
		}
	}()
	defer func() { // let the reader go
		c.Close()
		for range signals {
		}
	}()
	for {
		select {
		case ws := <-end:
			c.send(reply{Ended: endingOf(ws)})
			return
		case n, ok := <-signals:
			if !ok {
				s.signalExec(pid, unix.SIGKILL)
				return
			}
			s.signalExec(pid, unix.Signal(n))
		}
	}
}

// signalExec signals an exec'd process unless it was reaped: then its pid may be
// another's.
func (s *server) signalExec(pid int, n unix.Signal) {
	s.do(func() {
		if _, ok := s.execs[pid]; ok {
			unix.Kill(pid, n)
		}
	})
}

// Exec is a process that runs in a container for a client.
type Exec struct {
	Pid      int
	Terminal *os.File // the master, if it has one; the caller closes it
	c        conn
}

// Exec starts a process in a running container with the given files as its 0, 1
// and 2, which the caller may close; without any it gets a terminal of the
// container's own, of that size. An ended or dropped client kills it.
func (k Client) Exec(ctx context.Context, id string, idBase uint32, cgroups []string, into string, p launch.Process, stdio []*os.File, size launch.Size) (*Exec, error) {
	b, err := body(execBody{UserNS: idBase != 0, IDBase: idBase, Cgroups: cgroups, Into: into, Process: p, TTY: len(stdio) == 0, Size: size})
	if err != nil {
		return nil, fmt.Errorf("encode exec: %w", err)
	}
	defer b.Close()
	return k.runExec(request{Op: "exec", ID: id}, append([]*os.File{b}, stdio...))
}

// answerPatience is how long the answer to an exec may take: longer than the launch
// gives it, so that only a keeper which does not run at all says nothing.
const replyTimeout = 12 * time.Second

// errUnanswered: the keeper died after it was asked.
var errNoReply = errors.New("the keeper died before it answered: the command may have run")

// enter asks for a process and waits until it runs.
func (k Client) runExec(q request, files []*os.File) (*Exec, error) {
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	c, err := k.dial()
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(replyTimeout))
	if err = c.send(q, fds...); err == nil {
		var r reply
		var got []int
		if got, err = c.receive(&r); err == nil {
			if err = r.err(); err == nil {
				c.SetDeadline(time.Time{})
				x := &Exec{Pid: r.Pid, c: c}
				if len(got) > 0 {
					x.Terminal = os.NewFile(uintptr(got[0]), "terminal")
				}
				return x, nil
			}
			closeAll(got)
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("%w: %w", errNoReply, connectionError(err))
		}
	}
	c.Close()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, fmt.Errorf("the keeper does not answer: is it stopped, or its cgroup frozen? (%w)", err)
	}
	return nil, connectionError(err)
}

// Signal sends a signal to the process.
func (e *Exec) Signal(n int) error { return e.c.send(request{Op: "signal", Signal: n}) }

// Wait returns its exit code, 128+N for signal N.
func (e *Exec) Wait() (int, error) {
	defer e.c.Close()
	var r reply
	if _, err := e.c.receive(&r); err != nil {
		return -1, fmt.Errorf("wait for exec: %w", connectionError(err))
	}
	if r.Ended == nil {
		return -1, errors.New("wait for exec: the keeper did not tell how it ended")
	}
	return r.Ended.Code, nil
}
