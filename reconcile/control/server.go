package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"stead/reconcile"
	"stead/reconcile/plan"
	"stead/runtime/accept"
)

const (
	// A client has so long to say what it wants, and to take a line of the
	// answer: one that hangs costs a goroutine for that time.
	patience  = 10 * time.Second
	lastWords = 500 * time.Millisecond
	// So many connections are served at a time; more wait in the kernel's queue.
	maxClients = 64
)

// Listen makes the socket, for root (or whoever runs the daemon) alone. One that
// a dead daemon left is replaced: the lock on the state directory has made sure
// that no other daemon lives.
func Listen(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("listen on %s: there is something that is no socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("replace the socket of a daemon that is gone: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// Between bind and chmod the umask holds; who slips in is told by SO_PEERCRED.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // by then the name may be another's
	return l, nil
}

// Serve answers requests until ctx ends, which closes the listener; then it waits
// for those under way, whose ctx has ended too. log may be nil.
func Serve(ctx context.Context, l net.Listener, c Controller, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	var clients sync.WaitGroup
	defer clients.Wait()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	slots := make(chan struct{}, maxClients)
	for {
		conn, err := accept.From(l, log)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept a connection to the control socket: %w", err)
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			conn.Close()
			return nil
		}
		clients.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { farewell(conn) })()
			serve(ctx, conn, c, log)
		})
	}
}

// farewell gives a client at the daemon's end a moment to take its answer.
func farewell(conn net.Conn) {
	_ = conn.SetReadDeadline(time.Unix(1, 0))
	time.AfterFunc(lastWords, func() { conn.Close() })
}

// serve answers one connection.
func serve(ctx context.Context, conn net.Conn, c Controller, log *slog.Logger) {
	s := session{conn: conn, out: json.NewEncoder(conn)}
	if err := peerAllowed(conn); err != nil {
		log.Warn("refused a connection to the control socket", "error", err)
		s.end(nil, err)
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	in := bufio.NewReader(io.LimitReader(conn, maxRequest))
	line, err := in.ReadBytes('\n')
	if err != nil {
		if len(line) >= maxRequest {
			s.end(nil, fmt.Errorf("the request is longer than %d bytes", maxRequest))
		}
		return
	}
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		s.end(nil, fmt.Errorf("read the request: %w", err))
		return
	}
	// A client that goes away takes its question back, not what it set going.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	_ = conn.SetReadDeadline(time.Time{})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = in.ReadByte() // nothing more is said: this ends when the client does
		cancel()
	}()
	result, err := s.answer(ctx, c, r)
	s.end(result, err)
	conn.Close()
	<-gone
}

// session is the writing half of a connection.
type session struct {
	conn net.Conn
	out  *json.Encoder
}

func (s *session) send(a answer) {
	_ = s.conn.SetWriteDeadline(time.Now().Add(patience))
	_ = s.out.Encode(a) // a client that does not listen has no one to tell
}

func (s *session) end(result any, err error) {
	a := answer{}
	if result != nil {
		raw, encodeErr := json.Marshal(result)
		a.Result, err = raw, errors.Join(err, encodeErr)
	}
	if err != nil {
		a.Error, a.Code = err.Error(), codeOf(err)
	}
	s.send(a)
}

// answer calls what is asked for.
func (s *session) answer(ctx context.Context, c Controller, r request) (any, error) {
	switch r.Verb {
	case "ping":
		return struct{}{}, nil
	case "status":
		return c.Status(ctx)
	case "plan":
		return c.Plan(ctx)
	case "apply":
		progress := func(p reconcile.Progress) { s.send(answer{Progress: &p}) }
		return c.Apply(ctx, reconcile.ApplyOptions{Confirm: r.Confirm, Progress: progress})
	case "do":
		return c.Do(ctx, plan.Verb(r.Do), r.Names)
	case "hold":
		return struct{}{}, c.Hold(ctx, reconcile.HoldOptions{Names: r.Names, Reason: r.Reason})
	case "release":
		return struct{}{}, c.Release(ctx, r.Names)
	case "purge":
		if len(r.Names) != 1 {
			return nil, fmt.Errorf("purge: want one name, got %d", len(r.Names))
		}
		return c.Purge(ctx, r.Names[0])
	case "reload":
		return struct{}{}, c.Reload(ctx)
	}
	return nil, fmt.Errorf("verb %q: want ping, status, plan, apply, do, hold, release, purge or reload", r.Verb)
}

// peerAllowed refuses everybody but root and the user that the daemon runs as.
// The socket's mode says the same; this holds if somebody loosens it.
func peerAllowed(conn net.Conn) error {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return os.NewSyscallError("getsockopt", credErr)
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("uid %d may not control this daemon", cred.Uid)
	}
	return nil
}
