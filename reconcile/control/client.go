package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"stead/reconcile"
	"stead/reconcile/plan"
	"stead/reconcile/view"
)

// Client sends requests to a daemon, each over a connection of its own.
type Client struct {
	path string
}

// Dial returns a client for the daemon behind a socket. The error wraps os.ErrNotExist or
// ECONNREFUSED if no daemon runs.
func Dial(path string) (*Client, error) { return dial(path, patience) }

func dial(path string, patience time.Duration) (*Client, error) {
	c := &Client{path: path}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := c.Ping(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("reach the daemon: no answer after %s: it hangs or is stopped; look at its log, or restart it (the containers keep running)", patience)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Ping returns an error if the daemon does not answer.
func (c *Client) Ping(ctx context.Context) error {
	return c.ask(ctx, request{Verb: "ping"}, nil, nil)
}

// Status returns the state of this host.
func (c *Client) Status(ctx context.Context) (r view.Report, err error) {
	err = c.ask(ctx, request{Verb: "status"}, nil, &r)
	return r, err
}

// Plan returns what an apply would do, and changes nothing.
func (c *Client) Plan(ctx context.Context) (p plan.Plan, err error) {
	err = c.ask(ctx, request{Verb: "plan"}, nil, &p)
	return p, err
}

// Apply makes the host match its manifests. It returns when every action is done, failed
// or held.
func (c *Client) Apply(ctx context.Context, o reconcile.ApplyOptions) (r reconcile.Result, err error) {
	err = c.ask(ctx, request{Verb: "apply", Confirm: o.Confirm}, o.Progress, &r)
	return r, err
}

// Do restarts, stops or starts containers by name.
func (c *Client) Do(ctx context.Context, verb plan.Verb, names []string) (r reconcile.Result, err error) {
	err = c.ask(ctx, request{Verb: "do", Do: string(verb), Names: names}, nil, &r)
	return r, err
}

// Hold pauses reconciliation of the named containers, or without names of the whole host.
func (c *Client) Hold(ctx context.Context, o reconcile.HoldOptions) error {
	return c.ask(ctx, request{Verb: "hold", Names: o.Names, Reason: o.Reason}, nil, nil)
}

// Release ends the holds of the named containers, or without names the hold of the host.
func (c *Client) Release(ctx context.Context, names []string) error {
	return c.ask(ctx, request{Verb: "release", Names: names}, nil, nil)
}

// Purge deletes the data of removed containers of a name and returns the deleted entries.
func (c *Client) Purge(ctx context.Context, name string) (gone []string, err error) {
	err = c.ask(ctx, request{Verb: "purge", Names: []string{name}}, nil, &gone)
	return gone, err
}

// Reload makes the daemon read and reconcile everything at once.
func (c *Client) Reload(ctx context.Context) error {
	return c.ask(ctx, request{Verb: "reload"}, nil, nil)
}

// ask sends a request and waits for its result until ctx ends.
func (c *Client) ask(ctx context.Context, r request, progress func(reconcile.Progress), result any) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.path)
	if err != nil {
		return fmt.Errorf("reach the daemon: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	err = exchange(conn, r, progress, result)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.Canceled): // not by us
		return errors.New("the daemon was stopped before the request was done; the next daemon continues it")
	}
	return err
}

func exchange(conn net.Conn, r request, progress func(reconcile.Progress), result any) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("ask the daemon: %w", err)
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("ask the daemon: %w", err)
	}
	in := json.NewDecoder(bufio.NewReader(io.LimitReader(conn, maxAnswer)))
	for {
		var a answer
		if err := in.Decode(&a); errors.Is(err, io.EOF) {
			return errors.New("the daemon was stopped before it answered")
		} else if err != nil {
			return fmt.Errorf("read the daemon's answer: %w", err)
		}
		if a.Progress != nil {
			if progress != nil {
				progress(*a.Progress)
			}
			continue
		}
		if result != nil && len(a.Result) > 0 {
			if err := json.Unmarshal(a.Result, result); err != nil {
				return fmt.Errorf("read the daemon's answer: %w", err)
			}
		}
		if a.Error != "" {
			return &remoteError{message: a.Error, is: codes[a.Code]}
		}
		return nil
	}
}
