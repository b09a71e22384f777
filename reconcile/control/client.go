package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"stead/reconcile"
	"stead/reconcile/plan"
	"stead/reconcile/view"
)

// Client sends requests to a daemon, each over a connection of its own.
type Client struct {
	http http.Client
}

// Dial returns a client for the daemon behind a socket. The error wraps os.ErrNotExist or
// ECONNREFUSED if no daemon runs.
func Dial(path string) (*Client, error) { return dial(path, patience) }

func dial(path string, patience time.Duration) (*Client, error) {
	connect := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	c := &Client{http.Client{Transport: &http.Transport{DialContext: connect, DisableKeepAlives: true}}}
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
	return c.get(ctx, "ping", &struct{}{})
}

// Status returns the state of this host.
func (c *Client) Status(ctx context.Context) (r view.Report, err error) {
	err = c.get(ctx, "status", &r)
	return r, err
}

// Plan returns what an apply would do, and changes nothing.
func (c *Client) Plan(ctx context.Context) (p plan.Plan, err error) {
	err = c.get(ctx, "plan", &p)
	return p, err
}

// Apply makes the host match its manifests. It returns when every action is done, failed
// or held.
func (c *Client) Apply(ctx context.Context, o reconcile.ApplyOptions) (r reconcile.Result, err error) {
	err = c.post(ctx, "apply", options{Confirm: o.Confirm}, o.Progress, &r)
	return r, err
}

// Do restarts, stops, starts or reloads containers by name.
func (c *Client) Do(ctx context.Context, verb plan.Verb, names []string) (r reconcile.Result, err error) {
	err = c.post(ctx, string(verb), options{Names: names}, nil, &r)
	return r, err
}

// Hold pauses reconciliation of the named containers, or without names of the whole host.
func (c *Client) Hold(ctx context.Context, o reconcile.HoldOptions) error {
	return c.post(ctx, "hold", options{Names: o.Names, Reason: o.Reason}, nil, &struct{}{})
}

// Release ends the holds of the named containers, or without names the hold of the host.
func (c *Client) Release(ctx context.Context, names []string) error {
	return c.post(ctx, "release", options{Names: names}, nil, &struct{}{})
}

// Restore puts the data of a backup in place.
func (c *Client) Restore(ctx context.Context, o reconcile.RestoreOptions) (note string, err error) {
	err = c.post(ctx, "restore", options{Names: []string{o.Name}, Data: o.Data}, nil, &note)
	return note, err
}

// Purge deletes the data of removed containers of a name and returns the deleted entries.
func (c *Client) Purge(ctx context.Context, name string) (gone []string, err error) {
	err = c.post(ctx, "purge", options{Names: []string{name}}, nil, &gone)
	return gone, err
}

// Reload makes the daemon read and reconcile everything at once.
func (c *Client) Reload(ctx context.Context) error {
	return c.post(ctx, "reload", options{}, nil, &struct{}{})
}

func (c *Client) get(ctx context.Context, route string, result any) error {
	return c.ask(ctx, http.MethodGet, route, nil, nil, result)
}

func (c *Client) post(ctx context.Context, route string, o options, progress func(reconcile.Progress), result any) error {
	body, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("ask the daemon: %w", err)
	}
	return c.ask(ctx, http.MethodPost, route, body, progress, result)
}

// ask sends a request and waits for its result until ctx ends.
func (c *Client) ask(ctx context.Context, method, route string, body []byte, progress func(reconcile.Progress), result any) error {
	err := c.exchange(ctx, method, route, body, progress, result)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.Canceled): // not by us
		return errors.New("the daemon was stopped before the request was done; the next daemon continues it")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the daemon was stopped before it answered")
	}
	return err
}

func (c *Client) exchange(ctx context.Context, method, route string, body []byte, progress func(reconcile.Progress), result any) error {
	q, err := http.NewRequestWithContext(ctx, method, "http://stead/v1/"+route, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask the daemon: %w", err)
	}
	reply, err := c.http.Do(q)
	if err != nil {
		if in := (*url.Error)(nil); errors.As(err, &in) {
			err = in.Err // without the made-up address
		}
		return fmt.Errorf("reach the daemon: %w", err)
	}
	defer reply.Body.Close()
	in := json.NewDecoder(io.LimitReader(reply.Body, maxAnswer))
	if reply.StatusCode == http.StatusOK && reply.Header.Get("Content-Type") == plainAnswer {
		if err := in.Decode(result); err != nil {
			return fmt.Errorf("read the daemon's answer: %w", err)
		}
		return nil
	}
	for {
		var a answer
		if err := in.Decode(&a); err != nil {
			return fmt.Errorf("read the daemon's answer (%s): %w", reply.Status, err)
		}
		if a.Progress == nil {
			return a.end(result)
		}
		if progress != nil {
			progress(*a.Progress)
		}
	}
}

// end decodes the result of the last line, and returns its error.
func (a answer) end(result any) error {
	if len(a.Result) > 0 {
		if err := json.Unmarshal(a.Result, result); err != nil {
			return fmt.Errorf("read the daemon's answer: %w", err)
		}
	}
	if a.Error != "" {
		return &remoteError{message: a.Error, is: codes[a.Code]}
	}
	return nil
}
