package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A keeper may live and not answer: somebody stopped it, or it waits for a disk. Requests that
// wait for nothing have a deadline, answerTimeout. Requests that wait for a container or its disk
// (start, wait, upgrade, mount-root) take as long as that takes; they are given up when the keeper has stopped
// answering pings.

const (
	// answerTimeout is how long a keeper may take for a request that waits for no container.
	answerTimeout = 5 * time.Second
	// pingInterval is the time between two pings. Together with answerTimeout it is the longest
	// time until a silent keeper is noticed.
	pingInterval = 2 * time.Second
	// giveUp is how long a keeper has been silent when requests that wait for a container end.
	giveUp = 20 * time.Second
)

// ErrSilent is wrapped by the errors of requests to a keeper that lives and does not answer.
var ErrSilent = errors.New("the keeper does not answer")

// SilentError is returned for a keeper that lives and does not answer. A request that was sent
// may still be carried out, when the keeper goes on.
type SilentError struct {
	Pid    int // 0 if unknown
	Since  time.Time
	Cause  string // what the process does, as the kernel has it
	Advice string
}

func (e *SilentError) Error() string {
	return fmt.Sprintf("the keeper (process %d) does not answer since %s: %s; the containers run on, their starts, stops and exec wait; %s",
		e.Pid, e.Since.Format(time.TimeOnly), e.Cause, e.Advice)
}

// Unwrap returns ErrSilent.
func (e *SilentError) Unwrap() error { return ErrSilent }

// newSilentError looks at the keeper's process to say why it has not answered for so long.
func (k Client) newSilentError(pid int, lasted time.Duration) *SilentError {
	e := &SilentError{Pid: pid, Since: time.Now().Add(-lasted).Truncate(time.Second)}
	switch state, at := processState(pid); state {
	case 'T', 't':
		e.Cause, e.Advice = "it is stopped", fmt.Sprintf("run: kill -CONT %d", pid)
	case 'D':
		e.Cause = "it waits for a disk or a file system (" + at + ")"
		e.Advice = "look at the kernel's log and at the file system of " + k.Run
	default:
		e.Cause = "it is overloaded, frozen, or hangs"
		e.Advice = fmt.Sprintf("if that lasts, run: kill -ABRT %d (the daemon starts another keeper, which takes over the containers, and keeper.log in %s says where it hung)", pid, k.Run)
	}
	return e
}

// processState returns the state of a process as in man 5 proc_pid_stat, and the kernel function
// that a thread in uninterruptible sleep waits in.
func processState(pid int) (state byte, at string) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if i := bytes.LastIndexByte(b, ')'); err != nil || i < 0 || i+2 >= len(b) {
			continue
		}
		state = b[bytes.LastIndexByte(b, ')')+2]
		if state == 'D' {
			wchan, _ := os.ReadFile(filepath.Dir(task) + "/wchan")
			return state, string(bytes.TrimSpace(wchan))
		}
		if state == 'T' || state == 't' {
			return state, ""
		}
	}
	return state, ""
}

// peerPid returns the pid of the process that listens on the other end (unix(7), SO_PEERCRED).
func (c conn) peerPid() (pid int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// Health is what is known about whether a keeper answers. Clients that share one fail at once
// while it does not. The zero value is a keeper that answers.
type Health struct {
	mu      sync.Mutex   // guards what follows
	silent  *SilentError // nil while the keeper answers
	faults  []Fault      // of the last reply to a ping
	waiting map[*context.CancelCauseFunc]struct{}
}

// Silent returns the error of a keeper that does not answer, nil if it does.
func (h *Health) Silent() *SilentError {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.silent
}

// Faults returns what the keeper said last about its logs.
func (h *Health) Faults() []Fault {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.faults
}

// Set notes whether the keeper answers: e is nil if it does.
func (h *Health) Set(e *SilentError) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.silent = e
}

// cancelWaiting ends the requests that wait for a container, if the keeper is still silent.
func (h *Health) cancelWaiting() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.silent == nil {
		return
	}
	for cancel := range h.waiting {
		(*cancel)(h.silent)
	}
}

// wait returns a context that ends with ctx, or when the keeper has been silent for too long.
func (h *Health) wait(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if h == nil {
		return ctx, func() { cancel(nil) }
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting == nil {
		h.waiting = map[*context.CancelCauseFunc]struct{}{}
	}
	h.waiting[&cancel] = struct{}{}
	return ctx, func() {
		h.mu.Lock()
		delete(h.waiting, &cancel)
		h.mu.Unlock()
		cancel(nil)
	}
}

// waits reports whether the keeper answers a request only when something about a container
// happens.
func (q *request) waits() bool {
	switch q.Op {
	case "start", "wait", "upgrade", "mount-root", "unmount-root":
		return true
	}
	return q.Op == "signal" && q.Signal == 0
}

// limit returns the context in which the reply to a request must come.
func (k Client) limit(ctx context.Context, q *request) (context.Context, context.CancelFunc) {
	if q.waits() {
		return k.Health.wait(ctx)
	}
	return context.WithTimeoutCause(ctx, answerTimeout, errLate)
}

// errLate is the cause of a context that ended because a reply did not come in time.
var errLate = errors.New("no reply in time")

// lateError returns the error of a request whose context has ended.
func (k Client) lateError(ctx context.Context, c conn) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, errLate) {
		return k.newSilentError(c.peerPid(), answerTimeout)
	}
	return cause
}

// Monitor pings the keeper until ctx ends or the connection does, and notes in k.Health whether
// it answers. It calls changed when that changes: with nil when the keeper answers again.
func (k Client) Monitor(ctx context.Context, changed func(*SilentError)) error {
	defer k.Health.Set(nil) // the next keeper has not been asked yet
	c, err := k.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	for {
		if err := k.ping(c, changed); err != nil {
			return errors.Join(ctx.Err(), connectionError(err))
		}
		if k.Health.Silent() != nil {
			k.Health.Set(nil)
			changed(nil)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pingInterval):
		}
	}
}

// ping waits for one reply for as long as that takes.
func (k Client) ping(c conn, changed func(*SilentError)) error {
	if err := c.send(request{Op: "list"}); err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(answerTimeout))
	var r reply
	_, err := c.receive(&r)
	defer func() {
		if err == nil {
			k.Health.mu.Lock()
			defer k.Health.mu.Unlock()
			k.Health.faults = r.Faults
		}
	}()
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if k.Health.Silent() == nil {
		e := k.newSilentError(c.peerPid(), answerTimeout)
		k.Health.Set(e)
		changed(e)
	}
	defer time.AfterFunc(giveUp-answerTimeout, k.Health.cancelWaiting).Stop()
	c.SetReadDeadline(time.Time{})
	r = reply{}
	_, err = c.receive(&r)
	return err
}
