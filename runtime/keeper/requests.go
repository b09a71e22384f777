package keeper

import (
	"errors"
	"fmt"
	"os"
	"time"

	"stead/runtime/fault"
	"stead/runtime/launch"
	"stead/runtime/record"

	"golang.org/x/sys/unix"
)

// start launches a container, and answers when nothing of the launch is left: whoever has the
// answer may stop the container and ask the keeper to quit at once.
func (s *server) start(c conn, fd int) error {
	launched := make(chan error, 1)
	go func() { launched <- s.launch(fd) }()
	select {
	case err := <-launched:
		if err != nil {
			return err
		}
		return c.send(reply{})
	case <-time.After(launch.StartTimeout + 10*time.Second): // its thread is in a system call that hangs
		return &launch.Error{Where: launch.AtStep, Step: "start", Errno: unix.ETIMEDOUT, Hint: "a file system that it needs hangs"}
	}
}

// launch launches a container. The runtime has written its record; from the clone on the
// keeper alone writes it.
func (s *server) launch(fd int) error {
	var b startBody
	if err := decodeBody(fd, &b); err != nil {
		return fmt.Errorf("decode start: %w", err)
	}
	r := b.Record
	over := make(chan struct{})
	var full error
	s.do(func() {
		if full = s.checkRoom(); full == nil {
			s.starting[r.ID()] = over
		}
	})
	if full != nil {
		return full
	}
	defer func() {
		s.do(func() { delete(s.starting, r.ID()) })
		close(over)
	}()
	e := &entry{rec: r, log: s.logs.Log(r.LogDir, r.LogSize, r.LogKeep), out: [2]int{-1, -1}, child: true, pidfd: -1, launching: true}
	if err := e.openPipes(s.run); err != nil {
		return err
	}
	s.upgrade.RLock()
	defer s.upgrade.RUnlock()
	fault.Point("keeper-start-received")
	cloned := false
	err := s.launcher.Start(b.Config, func(pid int) (err error) {
		cloned = true
		if now, err := record.Read(s.run, r.ID()); err != nil || now.State != record.Creating {
			r = &record.Record{Name: r.Name, Nonce: r.Nonce}
			s.do(func() {
				if _, ended := s.unclaimed[pid]; ended {
					delete(s.unclaimed, pid)
				} else {
					s.ignored[pid] = true
				}
			})
			return fmt.Errorf("the start of %s was cancelled by the daemon", r.ID())
		}
		r.Pid, r.State, r.StartedAt = pid, record.Running, time.Now()
		r.StartTime, _ = record.StartTime(pid)
		fault.Point("keeper-born")
		if err = r.Write(s.run); err != nil { // before the child may go on
			e.failed = &launch.Error{Where: launch.AtStep, Step: "record the start", Errno: unix.EIO, Hint: err.Error()}
		}
		fault.Point("keeper-born-recorded")
		s.do(func() { err = errors.Join(err, s.register(e)) })
		return err
	})
	var failed *launch.Error
	if err != nil && !errors.As(err, &failed) {
		failed = &launch.Error{Where: launch.AtStep, Step: "start", Errno: unix.EIO, Hint: err.Error()}
	}
	if !cloned || r.Pid == 0 {
		e.closePipes()
		return failed
	}
	fault.Point("keeper-launched")
	s.do(func() { s.noteLaunch(e, failed) })
	if failed != nil {
		return failed
	}
	return nil
}

// signal signals the container's command. The command is a child of the keeper or has a
// pidfd, so the signal can't reach another process.
func (s *server) signal(c conn, q *request) error {
	var over chan struct{}
	s.do(func() { over = s.starting[q.ID] })
	if over != nil && q.Signal == 0 {
		<-over
	}
	err := fmt.Errorf("signal %s: %w", q.ID, ErrMissing)
	var recorded chan *record.Ending
	s.do(func() {
		e, ok := s.byID[q.ID]
		if ok && !s.ending[e].IsZero() {
			recorded = make(chan *record.Ending, 1)
			e.waiters = append(e.waiters, recorded)
			return
		}
		if ok && s.unrecorded[e] {
			err = fmt.Errorf("signal %s: it has ended, and the end is not recorded yet", q.ID)
			return
		}
		if !ok || e.rec.State == record.Exited {
			return
		}
		if q.Stopping && !e.rec.Stopping {
			e.rec.Stopping = true
			e.rec.Write(s.run) // a failure only changes the reason that is shown; the signal matters
		}
		if q.Signal == 0 {
			err = nil
		} else if e.pidfd >= 0 {
			err = unix.PidfdSendSignal(e.pidfd, unix.Signal(q.Signal), nil, 0)
		} else {
			err = unix.Kill(e.rec.Pid, unix.Signal(q.Signal))
		}
	})
	if recorded != nil {
		<-recorded // the client reads the record when it knows that there is nothing to signal
	}
	if err != nil {
		return err
	}
	return c.send(reply{})
}

// waitFor replies when the container has ended.
func (s *server) waitFor(c conn, q *request) error {
	end := make(chan *record.Ending, 1)
	held := false
	s.do(func() {
		var e *entry
		if e, held = s.byID[q.ID]; held {
			e.waiters = append(e.waiters, end)
		}
	})
	if !held {
		return fmt.Errorf("wait for %s: %w", q.ID, ErrMissing)
	}
	return c.send(reply{ID: q.ID, Ended: <-end})
}

func (s *server) limitLog(c conn, q *request) error {
	s.do(func() {
		if e, ok := s.byID[q.ID]; ok {
			e.log.Limit(q.LogSize, q.LogKeep)
			e.rec.LogSize, e.rec.LogKeep = q.LogSize, q.LogKeep
			e.rec.Write(s.run)
		}
	})
	return c.send(reply{})
}

// quit ends the keeper if it holds no containers.
func (s *server) quit(c conn) error {
	live := 0
	s.do(func() { live = len(s.byID) + len(s.execs) + len(s.starting) })
	if live > 0 {
		return fmt.Errorf("still holds %d containers", live)
	}
	c.send(reply{})
	os.Remove(Socket(s.run))
	os.Exit(0)
	return nil
}
