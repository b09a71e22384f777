// Package control is the daemon's socket: verbs ask through it what the loop
// does, with the same methods that the loop has itself.
//
// A connection carries one request, a line of JSON, and its answer: any number
// of progress lines, then one with the result or the error. It knows the loop's
// types and nothing of how they come about.
package control

import (
	"context"
	"encoding/json"
	"errors"

	"stead/reconcile"
	"stead/reconcile/plan"
	"stead/reconcile/view"
)

// Controller is what a verb asks of the loop, be it in this process or behind
// the socket.
type Controller interface {
	// Status says how this host stands.
	Status(ctx context.Context) (view.Report, error)
	// Plan says what an apply would do, and does nothing.
	Plan(ctx context.Context) (plan.Plan, error)
	// Apply returns when all is as declared, failed or held.
	Apply(ctx context.Context, o reconcile.ApplyOptions) (reconcile.Result, error)
	// Do restarts, stops or starts containers by name.
	Do(ctx context.Context, verb plan.Verb, names []string) (reconcile.Result, error)
	// Hold and Release put containers, or the whole host, on hold and end that.
	Hold(ctx context.Context, o reconcile.HoldOptions) error
	Release(ctx context.Context, names []string) error
	// Purge deletes for good what was removed under a name.
	Purge(ctx context.Context, name string) ([]string, error)
	// Reload makes the loop look at everything again, now.
	Reload(ctx context.Context) error
}

var (
	_ Controller = (*reconcile.Engine)(nil)
	_ Controller = (*Client)(nil)
)

const (
	// maxRequest is the most bytes a request may have: thousands of names.
	maxRequest = 1 << 20
	// maxAnswer is the most bytes a line of an answer may have: the status of a
	// hundred thousand containers.
	maxAnswer = 256 << 20
)

// request is the one line that a client sends.
type request struct {
	Verb    string   `json:"verb"` // ping, status, plan, apply, do, hold, release, purge, reload
	Do      string   `json:"do,omitempty"`
	Names   []string `json:"names,omitempty"`
	Confirm []string `json:"confirm,omitempty"`
	Reason  string   `json:"reason,omitempty"`
}

// answer is one line of what comes back. The last one has no Progress.
type answer struct {
	Progress *reconcile.Progress `json:"progress,omitempty"`
	Result   json.RawMessage     `json:"result,omitempty"`
	Error    string              `json:"error,omitempty"`
	Code     string              `json:"code,omitempty"` // of an error that callers tell apart
}

// codes are the errors that callers tell apart.
var codes = map[string]error{
	"no-such-container": reconcile.ErrNoContainer,
	"canceled":          context.Canceled,
	"deadline":          context.DeadlineExceeded,
}

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
