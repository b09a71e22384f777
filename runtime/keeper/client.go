package keeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"syscall"
	"time"

	"stead/runtime/launch"
	"stead/runtime/record"
	"stead/runtime/sealed"

	"golang.org/x/sys/unix"
)

// Client sends requests to the keeper of one run directory. Each call opens its own
// connection, so a Client is safe for concurrent use.
type Client struct {
	Run string
	// Health is what Monitor finds out; requests fail at once while the keeper is silent. nil
	// waits for each request's own deadline.
	Health *Health
}

// ErrNoKeeper is returned when no keeper listens.
var ErrNoKeeper = errors.New("no keeper runs")

func (k Client) dial() (conn, error) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: Socket(k.Run), Net: "unixpacket"})
	if err != nil {
		if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) {
			err = ErrNoKeeper
		} else if errors.Is(err, unix.EAGAIN) { // nobody has taken thousands of connections
			err = k.newSilentError(lockHolder(filepath.Join(k.Run, lockFile)), 0)
		}
		return conn{}, fmt.Errorf("reach keeper: %w", err)
	}
	return conn{c}, nil
}

// call sends one request and returns the reply. It returns early when ctx ends, or with a
// SilentError if the keeper does not answer.
func (k Client) call(ctx context.Context, q request, fds ...int) (reply, error) {
	var r reply
	if e := k.Health.Silent(); e != nil {
		return r, e
	}
	c, err := k.dial()
	if err != nil {
		return r, err
	}
	defer c.Close()
	ctx, cancel := k.limit(ctx, &q)
	defer cancel()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	err = c.send(q, fds...)
	if err == nil {
		_, err = c.receive(&r)
	}
	if err != nil && ctx.Err() != nil {
		return r, k.lateError(ctx, c)
	}
	if err != nil {
		return r, fmt.Errorf("ask keeper to %s: %w", q.Op, connectionError(err))
	}
	return r, r.err()
}

// connectionError turns the errors of a connection whose keeper has died into ErrNoKeeper.
func connectionError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return ErrNoKeeper
	}
	return err
}

func (r reply) err() error {
	switch {
	case r.Error == "":
		return nil
	case r.Missing:
		return fmt.Errorf("%s: %w", r.Error, ErrMissing)
	case r.Unknown:
		return &OlderKeeperError{r.Error}
	case r.Held:
		return launch.ErrHeld
	case r.Where != "":
		return &StartError{Where: launch.Where(r.Where), Message: r.Error, Errno: cmp.Or(r.Errno, syscall.ENOENT)}
	}
	return errors.New(r.Error)
}

// OlderKeeperError is returned when the keeper does not know a part of the request. The
// keeper has done nothing.
type OlderKeeperError struct{ Message string }

func (e *OlderKeeperError) Error() string {
	return e.Message + "; the daemon upgrades the keeper when it starts and no stead exec runs: restart the daemon"
}

// StartError is returned when a launch failed.
type StartError struct {
	Where   launch.Where
	Message string
	Errno   syscall.Errno
}

// ExitCode is launch.ExitCode of the failed launch.
func (e *StartError) ExitCode() int { return launch.ExitCode(e.Where, e.Errno) }

func (e *StartError) Error() string { return e.Message }

// Start launches the container of the record. The record and the pipes must exist on disk.
// The keeper records the pid before the command runs. Start ignores the end of ctx: a caller
// that stopped waiting would record a failure, while the keeper still runs the container.
// After ErrSilent the keeper may still start it, unless the record says by then that the run
// is over.
func (k Client) Start(ctx context.Context, r *record.Record, c *launch.Config) error {
	b, err := body(startBody{r, c})
	if err != nil {
		return fmt.Errorf("encode start: %w", err)
	}
	defer b.Close()
	_, err = k.call(context.WithoutCancel(ctx), request{Op: "start", ID: r.ID()}, int(b.Fd()))
	return err
}

// Signal sends a signal to the command. stopping records that stead asked it to end. Signal
// 0 sends nothing; it waits for a start in progress.
func (k Client) Signal(ctx context.Context, id string, signal syscall.Signal, stopping bool) error {
	_, err := k.call(ctx, request{Op: "signal", ID: id, Signal: int(signal), Stopping: stopping})
	return err
}

// Wait returns when the container has ended and its ending is recorded.
func (k Client) Wait(ctx context.Context, id string) (*record.Ending, error) {
	r, err := k.call(ctx, request{Op: "wait", ID: id})
	return r.Ended, err
}

// LimitLog changes the size (bytes) and number of the log files of a running container.
func (k Client) LimitLog(ctx context.Context, id string, size int64, keep int) error {
	_, err := k.call(ctx, request{Op: "limit", ID: id, LogSize: size, LogKeep: keep})
	return err
}

// Ping returns the pid of the keeper and how many containers it holds.
func (k Client) Ping(ctx context.Context) (pid, live int, err error) {
	r, err := k.call(ctx, request{Op: "list"})
	return r.Pid, r.Live, err
}

// Features returns what the keeper can do beyond what every keeper could.
func (k Client) Features(ctx context.Context) ([]string, error) {
	r, err := k.call(ctx, request{Op: "list"})
	return r.Features, err
}

// Faults returns which logs lose lines.
func (k Client) Faults(ctx context.Context) ([]Fault, error) {
	r, err := k.call(ctx, request{Op: "list"})
	return r.Faults, err
}

// Notes returns what an admin should know about the keeper.
func (k Client) Notes(ctx context.Context) ([]string, error) {
	r, err := k.call(ctx, request{Op: "list"})
	return r.Notes, err
}

// Current reports whether the keeper runs the same binary as this process.
func (k Client) Current(ctx context.Context) (bool, error) {
	r, err := k.call(ctx, request{Op: "list"})
	return r.Build == Build(), err
}

// Quit ends the keeper if it holds no containers. It is no error if no keeper runs.
func (k Client) Quit(ctx context.Context) error {
	_, err := k.call(ctx, request{Op: "quit"})
	if errors.Is(err, ErrNoKeeper) {
		return nil
	}
	return err
}

// Watch calls f with the id of every container that ends, until ctx ends or the keeper
// dies. It first calls up with the keeper's pid; all earlier endings are recorded by then.
func (k Client) Watch(ctx context.Context, up func(pid int), f func(id string)) error {
	c, err := k.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := c.send(request{Op: "watch"}); err != nil {
		return connectionError(err)
	}
	c.SetReadDeadline(time.Now().Add(answerTimeout))
	for first := true; ; first = false {
		var r reply
		if _, err := c.receive(&r); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return k.newSilentError(c.peerPid(), answerTimeout)
			}
			return connectionError(err)
		}
		if first {
			c.SetReadDeadline(time.Time{})
			up(r.Pid)
			continue
		}
		f(r.ID)
	}
}

// Ensure starts a keeper from this program's own binary unless one runs. It returns the
// keeper's pid and whether it has started the keeper.
func (k Client) Ensure(ctx context.Context) (pid int, started bool, err error) {
	pid, _, err = k.Ping(ctx)
	if err == nil || !errors.Is(err, ErrNoKeeper) {
		return pid, false, err
	}
	if pid, err := k.requestRelisten(ctx); err == nil {
		return pid, false, nil
	}
	if err := k.spawn(); err != nil {
		// Another process may have started a keeper first.
		if pid, _, e := k.Ping(ctx); e == nil {
			return pid, false, nil
		}
		return 0, false, fmt.Errorf("start keeper: %w", err)
	}
	pid, _, err = k.Ping(ctx)
	return pid, true, err
}

// spawn starts the keeper from a sealed memfd that holds this program's binary: a container
// that finds the keeper's /proc/PID/exe can't change a file of the host, and replacing
// the file on disk does not affect the running keeper.
func (k Client) spawn() error {
	binary, err := openBinary(k.Run)
	if err != nil {
		return err
	}
	defer binary.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	errors_, err := openLog(k.Run, maxLogSize)
	if err != nil {
		w.Close()
		return err
	}
	defer errors_.Close()
	cmd := &exec.Cmd{
		Path: fmt.Sprintf("/proc/self/fd/%d", binary.Fd()), Args: []string{Argv0, k.Run},
		Env: []string{"GOTRACEBACK=single"}, Dir: "/", Stdout: errors_, Stderr: errors_,
		ExtraFiles: []*os.File{w}, SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	err = startReset(cmd)
	w.Close()
	if err != nil {
		return err
	}
	go cmd.Wait() // so that no zombie stays if the keeper dies before this process
	said, err := io.ReadAll(io.LimitReader(r, 4096))
	if err == nil && len(said) != 1 {
		err = fmt.Errorf("it says: %s", said)
	}
	return err
}

// startReset starts a command from a thread that has nothing special to inherit. The thread ends
// with the goroutine.
func startReset(cmd *exec.Cmd) error {
	done := make(chan error)
	go func() {
		goruntime.LockOSThread()
		_ = launch.ResetThread() // the keeper says what it could not reset
		done <- cmd.Start()
	}()
	return <-done
}

// openBinary opens the program that runs as keeper. Test builds replace it.
var openBinary = func(string) (*os.File, error) { return sealed.Self(Argv0) }
