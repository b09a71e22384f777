// Package control implements the control socket of the daemon: HTTP with JSON bodies over a
// Unix socket. Through it the verbs of the command line call the methods of the engine, and
// so can `curl --unix-socket`. The table of routes is in server.go.
//
// The package knows the types of the engine and must not know how the engine works.
package control

import (
	"context"
	"encoding/json"
	"errors"

	"stead/reconcile"
	"stead/reconcile/plan"
	"stead/reconcile/view"
)

// Controller has the methods that verbs call, on an engine in this process or on the
// daemon behind the socket.
type Controller interface {
	// Status returns the state of this host.
	Status(ctx context.Context) (view.Report, error)
	// Plan returns what an apply would do, and changes nothing.
	Plan(ctx context.Context) (plan.Plan, error)
	// Apply makes the host match its manifests. It returns when every action is done,
	// failed or held.
	Apply(ctx context.Context, o reconcile.ApplyOptions) (reconcile.Result, error)
	// Do restarts, stops, starts or reloads containers by name.
	Do(ctx context.Context, verb plan.Verb, names []string) (reconcile.Result, error)
	// Hold pauses reconciliation of containers or of the whole host; Release resumes it.
	Hold(ctx context.Context, o reconcile.HoldOptions) error
	Release(ctx context.Context, names []string) error
	// Restore puts the data of a backup, which was unpacked in a staging directory, in place.
	Restore(ctx context.Context, o reconcile.RestoreOptions) (note string, err error)
	// Purge deletes the data of removed containers of a name.
	Purge(ctx context.Context, name string) ([]string, error)
	// Reload makes the engine read and reconcile everything at once.
	Reload(ctx context.Context) error
}

var (
	_ Controller = (*reconcile.Engine)(nil)
	_ Controller = (*Client)(nil)
)

const (
	// maxRequest is the maximum size of a request's body in bytes: thousands of names.
	maxRequest = 1 << 20
	// maxAnswer is the maximum size of an answer in bytes: the status of a hundred
	// thousand containers.
	maxAnswer = 256 << 20
)

// options is the body of a request. A route refuses the fields that it does not use.
type options struct {
	Names   []string `json:"names,omitempty"`
	Confirm []string `json:"confirm,omitempty"`
	Reason  string   `json:"reason,omitempty"`
	Data    string   `json:"data,omitempty"`
}

// answer is the body of a failed request, and each line of a streamed one. The last line of
// a stream has no Progress.
type answer struct {
	Progress *reconcile.Progress `json:"progress,omitempty"`
	Result   json.RawMessage     `json:"result,omitempty"` // with an error: what was done before it
	Error    string              `json:"error,omitempty"`
	Code     string              `json:"code,omitempty"` // of an error that callers distinguish
}

// codes holds the errors that callers distinguish.
var codes = map[string]error{
	"no-such-container": reconcile.ErrNoContainer,
	"canceled":          context.Canceled,
	"deadline":          context.DeadlineExceeded,
}

// codeOf returns the code of an error, "" if it has none.
func codeOf(err error) string {
	for code, sentinel := range codes {
		if errors.Is(err, sentinel) {
			return code
		}
	}
	return ""
}

// remoteError is an error that came through the socket.
type remoteError struct {
	message string
	is      error // the sentinel it wraps; nil if none
}

func (e *remoteError) Error() string { return e.message }
func (e *remoteError) Unwrap() error { return e.is }
