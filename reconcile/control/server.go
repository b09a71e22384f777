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
	// patience is the time that a client has to send its request, and to read a line of
	// the answer. A client that hangs costs one goroutine for that time.
	patience = 10 * time.Second
	// lastWords is the time that a client has to read its answer when the daemon stops.
	lastWords = 500 * time.Millisecond
	// maxClients is the number of connections served at a time. More connections wait in
	// the queue of the kernel.
	maxClients = 64
)

// Listen makes the socket, accessible to the user of the daemon only. It replaces the socket
// of a dead daemon: the lock on the state directory guarantees that no other daemon runs.
func Listen(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("listen on %s: another file is there, which is not a socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("replace the socket of a dead daemon: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// Until chmod only the umask protects the socket; SO_PEERCRED refuses other users.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // by then the file may belong to another daemon
	return l, nil
}

// Serve answers requests until ctx ends, which closes the listener and cancels the requests
// in progress. It returns when these are done. log may be nil.
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

// farewell gives a client a moment to read its answer when the daemon stops.
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
	// A client that disconnects cancels the wait for its answer, not the work it started.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	_ = conn.SetReadDeadline(time.Time{})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = in.ReadByte() // returns when the client disconnects, since it sends nothing more
		cancel()
	}()
	result, err := s.answer(ctx, c, r)
	s.end(result, err)
	conn.Close()
	<-gone
}

// session writes the answer of a connection.
type session struct {
	conn net.Conn
	out  *json.Encoder
}

func (s *session) send(a answer) {
	_ = s.conn.SetWriteDeadline(time.Now().Add(patience))
	_ = s.out.Encode(a) // an error means that the client is gone, and nobody needs to know
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

// answer calls the method that a request asks for.
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

// peerAllowed returns an error unless the client is root or the user of the daemon. The mode
// of the socket has the same effect; this check still works if somebody changes the mode.
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
