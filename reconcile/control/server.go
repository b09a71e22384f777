package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/hashicorp/go-multierror"
	"golang.org/x/sys/unix"

	"stead/reconcile"
	"stead/reconcile/plan"
)

const (
	// patience is the time that a client has to send its request, and to read a line of
	// the answer. A client that hangs costs one goroutine for that time.
	patience = 10 * time.Second
	// lastWords is the time that a client has to read its answer when the daemon stops.
	lastWords = 500 * time.Millisecond

	plainAnswer    = "application/json"
	streamedAnswer = "application/x-ndjson"
)

// route is a request that the daemon answers.
type route struct {
	Pattern string // method and path
	Does    string // for docs/api.md, as is Takes
	// Takes holds an example in each field of the body that the route uses.
	Takes options
	// answer returns the result, which is sent as JSON. With an error, it is what was done
	// before the error.
	answer func(ctx context.Context, c Controller, o options) (any, error)
	// stream is used instead of answer by a route that reports its progress.
	stream func(ctx context.Context, c Controller, o options, progress func(reconcile.Progress)) (any, error)
}

var names = options{Names: []string{"web"}}

// Routes lists every request that the daemon answers.
var Routes = []route{
	{Pattern: "GET /v1/ping", Does: "answers `{}`", answer: func(context.Context, Controller, options) (any, error) { return struct{}{}, nil }},
	{Pattern: "GET /v1/status", Does: "the state of this host: containers, directories, warnings", answer: func(ctx context.Context, c Controller, _ options) (any, error) { return c.Status(ctx) }},
	{Pattern: "GET /v1/plan", Does: "what an apply would do; changes nothing", answer: func(ctx context.Context, c Controller, _ options) (any, error) { return c.Plan(ctx) }},
	{
		Pattern: "POST /v1/apply", Does: "makes the host match its manifests; answers lines of JSON: progress, then the result", Takes: options{Confirm: []string{"web"}},
		stream: func(ctx context.Context, c Controller, o options, progress func(reconcile.Progress)) (any, error) {
			return c.Apply(ctx, reconcile.ApplyOptions{Confirm: o.Confirm, Progress: progress})
		},
	},
	{Pattern: "POST /v1/restart", Does: "restarts containers", Takes: names, answer: do(plan.Restart)},
	{Pattern: "POST /v1/stop", Does: "stops containers until they are started", Takes: names, answer: do(plan.Stop)},
	{Pattern: "POST /v1/start", Does: "starts containers", Takes: names, answer: do(plan.Start)},
	{
		Pattern: "POST /v1/hold", Does: "pauses reconciliation of containers; without names, of the host", Takes: options{Names: []string{"web"}, Reason: "migration"},
		answer: func(ctx context.Context, c Controller, o options) (any, error) {
			return struct{}{}, c.Hold(ctx, reconcile.HoldOptions{Names: o.Names, Reason: o.Reason})
		},
	},
	{
		Pattern: "POST /v1/release", Does: "resumes it", Takes: names,
		answer: func(ctx context.Context, c Controller, o options) (any, error) {
			return struct{}{}, c.Release(ctx, o.Names)
		},
	},
	{
		Pattern: "POST /v1/restore", Does: "puts data that `stead restore` has unpacked and verified in the place of that of a container that does not run", Takes: options{Names: []string{"web"}, Data: "/var/lib/stead/restore/abc"},
		answer: func(ctx context.Context, c Controller, o options) (any, error) {
			if len(o.Names) != 1 {
				return nil, badRequest(fmt.Sprintf("restore: want one name, got %d", len(o.Names)))
			}
			return c.Restore(ctx, reconcile.RestoreOptions{Name: o.Names[0], Data: o.Data})
		},
	},
	{Pattern: "POST /v1/purge", Does: "deletes the data of removed containers of one name", Takes: names, answer: purge},
	{Pattern: "POST /v1/reload", Does: "has containers read their configuration again; without names, reads stead's own configuration and all manifests again", Takes: names, answer: reload},
}

func do(verb plan.Verb) func(context.Context, Controller, options) (any, error) {
	return func(ctx context.Context, c Controller, o options) (any, error) { return c.Do(ctx, verb, o.Names) }
}

func reload(ctx context.Context, c Controller, o options) (any, error) {
	if len(o.Names) == 0 {
		return struct{}{}, c.Reload(ctx)
	}
	return c.Do(ctx, plan.Reload, o.Names)
}

func purge(ctx context.Context, c Controller, o options) (any, error) {
	if len(o.Names) != 1 {
		return nil, badRequest(fmt.Sprintf("purge: want one name, got %d", len(o.Names)))
	}
	return c.Purge(ctx, o.Names[0])
}

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

// refusal is the key of a connection's context for the error of peerAllowed.
type refusal struct{}

// Serve answers requests until ctx ends, which closes the listener and cancels the requests
// in progress. It returns when these are done. log may be nil.
func Serve(ctx context.Context, l net.Listener, c Controller, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	for _, r := range Routes {
		mux.HandleFunc(r.Pattern, func(w http.ResponseWriter, q *http.Request) { r.serve(w, q, c) })
	}
	server := &http.Server{
		ReadHeaderTimeout: patience, IdleTimeout: patience,
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, refusal{}, peerAllowed(conn))
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if err, refused := q.Context().Value(refusal{}).(error); refused {
				log.Warn("refused a connection to the control socket", "error", err)
				fail(w, http.StatusForbidden, nil, err)
			} else if _, pattern := mux.Handler(q); pattern == "" {
				fail(w, http.StatusNotFound, nil, fmt.Errorf("%s %s is no request of this daemon; `stead docs api` lists them", q.Method, q.URL.Path))
			} else {
				mux.ServeHTTP(w, q)
			}
		}),
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
		defer cancel()
		if server.Shutdown(last) != nil {
			server.Close()
		}
	}()
	if err := server.Serve(l); ctx.Err() == nil {
		return fmt.Errorf("accept a connection to the control socket: %w", err)
	}
	<-ended
	return nil
}

// serve answers one request. A client that disconnects cancels the wait for its answer, not
// the work it started.
func (r route) serve(w http.ResponseWriter, q *http.Request, c Controller) {
	deadline := http.NewResponseController(w)
	_ = deadline.SetReadDeadline(time.Now().Add(patience))
	body, err := io.ReadAll(http.MaxBytesReader(w, q.Body, maxRequest)) // to its end: only then the server notices a client that disconnects
	_ = deadline.SetReadDeadline(time.Time{})
	o := options{}
	if err == nil {
		o, err = r.read(body)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, nil, fmt.Errorf("read the request: %w", err))
		return
	}
	if r.stream == nil {
		result, err := r.answer(q.Context(), c, o)
		reply(w, result, err)
		return
	}
	w.Header().Set("Content-Type", streamedAnswer)
	result, err := r.stream(q.Context(), c, o, func(p reconcile.Progress) { send(w, answer{Progress: &p}) })
	send(w, answerOf(result, err))
}

// read decodes the body of a request.
func (r route) read(body []byte) (o options, err error) {
	if len(body) > 0 {
		in := json.NewDecoder(bytes.NewReader(body))
		in.DisallowUnknownFields()
		if err := in.Decode(&o); err != nil {
			return o, err
		}
	}
	got, takes := reflect.ValueOf(o), reflect.ValueOf(r.Takes)
	for i := range got.NumField() {
		if !got.Field(i).IsZero() && takes.Field(i).IsZero() {
			return o, fmt.Errorf("%s takes no %s", r.Pattern, got.Type().Field(i).Name)
		}
	}
	return o, nil
}

// badRequest is an error of the client.
type badRequest string

func (e badRequest) Error() string { return string(e) }

// reply sends a result, or an error with its HTTP status.
func reply(w http.ResponseWriter, result any, err error) {
	var bad badRequest
	switch {
	case err == nil:
		w.Header().Set("Content-Type", plainAnswer)
		send(w, result)
	case errors.As(err, &bad):
		fail(w, http.StatusBadRequest, result, err)
	case errors.Is(err, reconcile.ErrNoContainer):
		fail(w, http.StatusNotFound, result, err)
	case errors.Is(err, context.Canceled):
		fail(w, http.StatusServiceUnavailable, result, err)
	default:
		fail(w, http.StatusInternalServerError, result, err)
	}
}

func fail(w http.ResponseWriter, status int, result any, err error) {
	w.Header().Set("Content-Type", plainAnswer)
	w.WriteHeader(status)
	send(w, answerOf(result, err))
}

func answerOf(result any, err error) (a answer) {
	if result != nil {
		raw, encodeErr := json.Marshal(result)
		a.Result, err = raw, errors.Join(err, encodeErr)
	}
	if err != nil {
		a.Error, a.Code = textOf(err), codeOf(err)
	}
	return a
}

// textOf returns the text of an error, one line for each error of several.
func textOf(err error) string {
	var all *multierror.Error
	if !errors.As(err, &all) {
		return err.Error()
	}
	var lines []string
	for _, e := range all.Errors {
		lines = append(lines, textOf(e))
	}
	return strings.Replace(err.Error(), all.Error(), strings.Join(lines, "\n"), 1) // what wraps them stays
}

// send writes a line of the answer. An error means that the client is gone, and nobody needs
// to know.
func send(w http.ResponseWriter, line any) {
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(patience))
	_ = json.NewEncoder(w).Encode(line)
	_ = control.Flush()
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
