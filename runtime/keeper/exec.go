package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
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
	Cgroups []string // all of them, since older keepers don't know Into
	Into    string
	Process launch.Process
	TTY     bool
	Size    launch.Size
}

// exec starts the process that the body of the request describes.
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

// runExec starts a process in a container and replies twice: when the process runs and when it
// has ended. The process is a child of the keeper, not of the client: a container's pid 1
// exits only after all processes in the container are reaped by their parents outside,
// and a stopped client could delay that for ever.
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
		err = errors.New("the cgroup of the container is frozen, so nothing would run; run: stead apply (thaws it unless the container is on hold)")
	}
	if err != nil {
		return fmt.Errorf("exec in %s: %w", id, err)
	}
	defer unix.Close(target)
	var end chan unix.WaitStatus
	child := 0
	if b.TTY {
		b.Process.Env = terminalEnv(b.Process.Env, id)
	}
	entry := &launch.Entry{Target: target, UserNS: b.UserNS, Cgroups: b.Cgroups, CgroupInto: b.Into, Process: b.Process, TTY: b.TTY, Size: b.Size}
	copy(entry.Stdio[:], fds)
	master, err := s.launcher.Exec(entry, func(pid int) {
		child, end = pid, make(chan unix.WaitStatus, 1) // the ending of a process that was replaced is not needed
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
	closeAll(fds) // otherwise the client would never read end of file
	fds = nil
	s.serveExec(c, child, end)
	return nil
}

// terminalEnv returns the environment of a command with a terminal. Where env says nothing else,
// text is UTF-8 and the prompt of a shell shows the container.
func terminalEnv(env []string, id string) []string {
	has := func(names ...string) bool {
		return slices.ContainsFunc(env, func(e string) bool { name, _, _ := strings.Cut(e, "="); return slices.Contains(names, name) })
	}
	env = slices.Clip(env)
	if !has("LANG", "LC_ALL", "LC_CTYPE") {
		env = append(env, "LANG=C.UTF-8")
	}
	if !has("PS1") {
		name, _, _ := strings.Cut(id, ".")
		env = append(env, "PS1="+name+":$PWD$ ") // every shell expands $PWD there
	}
	return env
}

// targetPidfd returns a new pidfd of a container's first process. Its pid could be reused
// before the exec uses it.
func (l *loop) targetPidfd(id string) (pidfd int, err error) {
	err = ErrMissing
	l.do(func() {
		e, ok := l.byID[id]
		switch {
		case !ok || e.rec.State == record.Exited:
		case e.launching: // it is still in the nursery
			err = errors.New("the container is still starting")
		case e.pidfd >= 0:
			pidfd, err = unix.FcntlInt(uintptr(e.pidfd), unix.F_DUPFD_CLOEXEC, 0)
		default: // a container is removed from byID before it is reaped
			pidfd, err = unix.PidfdOpen(e.rec.Pid, 0)
		}
	})
	return pidfd, err
}

// giveToContainer lets the container open a pipe by its path in /proc, as in
// `echo x >/dev/stderr`. It leaves FIFOs that have a name on the host unchanged: other
// users could write into them.
func giveToContainer(fd int, id uint32) {
	const pipefs = 0x50495045
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) == nil && fs.Type == pipefs {
		unix.Fchown(fd, int(id), int(id))
		unix.Fchmod(fd, 0o622)
	}
}

// serveExec forwards signals to the process and kills it when the client disconnects.
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
	defer func() { // end the reading goroutine
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

// signalExec signals the process of an exec unless it was reaped: then the pid may be in use
// by another process.
func (s *server) signalExec(pid int, n unix.Signal) {
	s.do(func() {
		if _, ok := s.execs[pid]; ok {
			unix.Kill(pid, n)
		}
	})
}

// Exec is a process that a client has started in a container.
type Exec struct {
	Pid      int
	Terminal *os.File // the master; nil without a terminal; the caller closes it
	c        conn
}

// Exec starts a process in a running container, with stdio as its descriptors 0, 1 and 2;
// the caller may close the files. If stdio is empty, the process gets a terminal
// of the given size from the container's own devpts. The keeper kills the process when
// the client disconnects.
func (k Client) Exec(ctx context.Context, id string, idBase uint32, cgroups []string, into string, p launch.Process, stdio []*os.File, size launch.Size) (*Exec, error) {
	b, err := body(execBody{UserNS: idBase != 0, IDBase: idBase, Cgroups: cgroups, Into: into, Process: p, TTY: len(stdio) == 0, Size: size})
	if err != nil {
		return nil, fmt.Errorf("encode exec: %w", err)
	}
	defer b.Close()
	return k.runExec(request{Op: "exec", ID: id}, append([]*os.File{b}, stdio...))
}

// replyTimeout is how long the reply to an exec may take. It is longer than the timeout of
// the launch, so only a keeper that does not run at all exceeds it.
const replyTimeout = 12 * time.Second

// errNoReply is returned when the keeper died after it got the request.
var errNoReply = errors.New("the keeper died before it answered: the command may have run")

// runExec sends the request for an exec and waits until the process runs.
func (k Client) runExec(q request, files []*os.File) (*Exec, error) {
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	if e := k.Health.Silent(); e != nil {
		return nil, e
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
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = k.newSilentError(c.peerPid(), replyTimeout)
	}
	c.Close()
	return nil, connectionError(err)
}

// Signal sends a signal to the process.
func (e *Exec) Signal(n int) error { return e.c.send(request{Op: "signal", Signal: n}) }

// Wait returns the exit code of the process, 128+N for signal N.
func (e *Exec) Wait() (int, error) {
	defer e.c.Close()
	var r reply
	if _, err := e.c.receive(&r); err != nil {
		return -1, fmt.Errorf("wait for exec: %w", connectionError(err))
	}
	if r.Ended == nil {
		return -1, errors.New("wait for exec: the reply has no exit code")
	}
	return r.Ended.Code, nil
}
