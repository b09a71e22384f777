package registry

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Settings are those of one registry in the configuration.
type Settings struct {
	// Mirrors are asked first, in this order: host[:port][/path].
	Mirrors []string `json:"mirrors,omitempty"`
	// MirrorsOnly makes a pull fail rather than ask the registry itself.
	MirrorsOnly bool `json:"mirrorsOnly,omitempty"`
	// Insecure allows unencrypted HTTP. It has no effect but for this host itself.
	Insecure bool `json:"insecure,omitempty"`
}

// Client reads images from registries. It may be used concurrently.
type Client struct {
	Registries map[string]Settings // by host
	// FirstWait is the wait after the first failure, and Stalled how long a connection may bring
	// nothing; 0 means a second and a minute.
	FirstWait, Stalled time.Duration

	http   http.Client
	once   sync.Once
	mu     sync.Mutex
	tokens map[string]string // Authorization headers, by endpoint
}

// endpoint is a repository at a registry or mirror.
type endpoint struct {
	host       string // as in a reference
	repository string
	insecure   bool
}

// base returns the beginning of the addresses of a repository.
func (e endpoint) base() string {
	host, scheme := e.host, "https"
	if host == "docker.io" {
		host = "registry-1.docker.io"
	}
	if e.insecure {
		scheme = "http"
	}
	return scheme + "://" + host + "/v2/" + e.repository
}

// Endpoints returns how many places there are to ask for a reference: mirrors and the registry.
func (c *Client) Endpoints(r Reference) int { return len(c.endpoints(r)) }

func (c *Client) endpoints(r Reference) []endpoint {
	s := c.Registries[r.Host]
	var all []endpoint
	for _, m := range s.Mirrors {
		host, path, _ := strings.Cut(m, "/")
		repository := strings.TrimPrefix(strings.TrimSuffix(path, "/")+"/"+r.Repository, "/")
		all = append(all, endpoint{host, repository, c.Registries[host].Insecure && isLoopback(host)})
	}
	if !s.MirrorsOnly || len(all) == 0 {
		all = append(all, endpoint{r.Host, r.Repository, s.Insecure && isLoopback(r.Host)})
	}
	return all
}

// isLoopback reports whether a host, perhaps with a port, is this one.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// DeniedError reports that a registry refuses access.
type DeniedError struct {
	Host, Repository string
	Login            string // where the login came from; "" if there was none
}

func (e *DeniedError) Error() string {
	if e.Login != "" {
		return fmt.Sprintf("%s refuses the login for %s from %s; log in again, or remove the entry if the image is public", e.Host, e.Repository, e.Login)
	}
	return fmt.Sprintf("%s refuses access to %s: it does not exist or needs a login, and there is none for %s in %s", e.Host, e.Repository, e.Host, strings.Join(authFiles(), ", "))
}

// ErrNotFound is returned for what a registry does not have.
var ErrNotFound = errors.New("not found")

// StatusError is an answer that is none.
type StatusError struct {
	Host    string
	Status  int
	Message string // what the registry says
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("%s answers %d %s", e.Host, e.Status, http.StatusText(e.Status))
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

func (e *StatusError) Is(target error) bool {
	return target == ErrNotFound && e.Status == http.StatusNotFound
}

// statusError reads the error from the body of an answer.
func statusError(a *http.Response) error {
	e := &StatusError{Host: a.Request.URL.Host, Status: a.StatusCode}
	b, _ := io.ReadAll(io.LimitReader(a.Body, 64<<10))
	var body struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(b, &body) == nil && len(body.Errors) > 0 {
		e.Message = fmt.Sprintf("%.200s", strings.TrimSpace(body.Errors[0].Code+" "+body.Errors[0].Message))
	}
	return e
}

// do sends a request once. Credentials go to no other host than the one that they are for, and
// nothing goes over a connection that is less safe than the first.
func (c *Client) do(e endpoint, q *http.Request) (*http.Response, error) {
	c.once.Do(func() {
		dialer := &net.Dialer{Timeout: 15 * time.Second, KeepAlive: 15 * time.Second}
		c.http = http.Client{
			Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSHandshakeTimeout: 15 * time.Second,
				ResponseHeaderTimeout: time.Minute, IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true, DisableCompression: true,
			},
			CheckRedirect: func(q *http.Request, via []*http.Request) error {
				first := via[0].URL
				switch {
				case len(via) > 10:
					return errors.New("more than 10 redirects")
				case q.URL.Scheme != "https" && !(first.Scheme == "http" && isLoopback(q.URL.Host)):
					return fmt.Errorf("redirect to %s://%s, which is not encrypted", q.URL.Scheme, q.URL.Host)
				case q.URL.Host != first.Host && q.Method != http.MethodGet:
					return fmt.Errorf("the request of a token is redirected to %s; a login is not sent to another host", q.URL.Host)
				case q.URL.Host != first.Host:
					q.Header.Del("Authorization")
				}
				return nil
			},
		}
	})
	q.Header.Set("User-Agent", "stead")
	return c.http.Do(q)
}

// LaterError is a refusal of a registry that asks to be asked again much later.
type LaterError struct {
	Refusal error
	After   time.Duration
}

func (e *LaterError) Error() string {
	return fmt.Sprintf("%v; it asks to try again in %s", e.Refusal, e.After)
}

func (e *LaterError) Unwrap() error { return e.Refusal }

const (
	maxTries = 6
	maxWait  = 2 * time.Minute // of one Retry-After
)

// get asks an endpoint until it answers with 200 or 206. The caller must close the body.
func (c *Client) get(ctx context.Context, e endpoint, path string, header http.Header) (*http.Response, error) {
	renewed := false
	for try := 1; ; {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, e.base()+path, nil)
		if err != nil {
			return nil, err
		}
		for k, v := range header {
			q.Header[k] = v
		}
		if a := c.authorization(e); a != "" {
			q.Header.Set("Authorization", a)
		}
		a, err := c.do(e, q)
		if err == nil && (a.StatusCode == http.StatusOK || a.StatusCode == http.StatusPartialContent) {
			return a, nil
		}
		wait := c.backoff(try)
		if err != nil && !mayPass(err) {
			return nil, err
		}
		if err == nil {
			wait, err = c.refused(ctx, e, a, wait, &renewed)
			a.Body.Close()
			if err == nil { // with a new token, at once
				continue
			}
			if wait == 0 {
				return nil, err
			}
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if try++; try > maxTries {
			return nil, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// mayPass reports whether a failure to reach a registry may pass within seconds.
func mayPass(err error) bool {
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var dns *net.DNSError
	return !errors.As(err, &authority) && !errors.As(err, &invalid) && !errors.As(err, &name) &&
		!errors.Is(err, http.ErrSchemeMismatch) && !errors.Is(err, syscall.ECONNREFUSED) && !(errors.As(err, &dns) && dns.IsNotFound)
}

// refused deals with an answer other than 200. Without an error the request is to be sent again
// at once, with a wait after that time, else not.
func (c *Client) refused(ctx context.Context, e endpoint, a *http.Response, wait time.Duration, renewed *bool) (time.Duration, error) {
	switch {
	case a.StatusCode == http.StatusUnauthorized && !*renewed:
		*renewed = true // a token may be too old; a new one is not
		header, err := c.authorize(ctx, e, a.Header.Values("WWW-Authenticate"))
		if err != nil {
			return 0, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.tokens == nil {
			c.tokens = map[string]string{}
		}
		c.tokens[e.base()] = header
		return 0, nil
	case a.StatusCode == http.StatusUnauthorized, a.StatusCode == http.StatusForbidden:
		l, err := findLogin(ctx, e.host, e.repository)
		if err != nil {
			return 0, err
		}
		return 0, &DeniedError{Host: e.host, Repository: e.repository, Login: l.from}
	case a.StatusCode == http.StatusTooManyRequests, a.StatusCode >= 500, a.StatusCode == http.StatusRequestTimeout:
		err := statusError(a)
		if after := retryAfter(a.Header.Get("Retry-After"), time.Now()); after > maxWait {
			return 0, &LaterError{err, after.Round(time.Second)}
		} else if after > 0 {
			wait = after + rand.N(after/10+time.Millisecond)
		}
		return wait, err
	}
	return 0, statusError(a)
}

func (c *Client) authorization(e endpoint) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tokens[e.base()]
}

// backoff returns how long to wait after so many tries: growing, and not the same for all.
func (c *Client) backoff(try int) time.Duration {
	d := min(cmp.Or(c.FirstWait, time.Second)<<(try-1), 30*time.Second)
	return d/2 + rand.N(d/2+1)
}

// retryAfter reads the header of that name: seconds, or a date.
func retryAfter(text string, now time.Time) time.Duration {
	if s, err := strconv.Atoi(strings.TrimSpace(text)); err == nil {
		return time.Duration(max(s, 0)) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// Manifest returns the manifest or index of a reference, unchecked, from the first endpoint that
// has it.
func (c *Client) Manifest(ctx context.Context, r Reference, types []string, maxSize int64, check func([]byte) error) ([]byte, error) {
	return c.document(ctx, r, "/manifests/"+r.manifest(), http.Header{"Accept": types}, maxSize, check)
}

// Config returns a small blob. check decides whether an endpoint's answer is taken.
func (c *Client) Config(ctx context.Context, r Reference, digest string, maxSize int64, check func([]byte) error) ([]byte, error) {
	return c.document(ctx, r, "/blobs/"+digest, nil, maxSize, check)
}

// document reads a document from the first endpoint whose answer passes the check.
func (c *Client) document(ctx context.Context, r Reference, path string, header http.Header, maxSize int64, check func([]byte) error) ([]byte, error) {
	var failed error
	for _, e := range c.endpoints(r) {
		b, err := c.read(ctx, e, path, header, maxSize)
		if err == nil {
			err = check(b)
		}
		if err == nil {
			return b, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if failed == nil || !errors.Is(err, ErrNotFound) {
			failed = err // the last says most: it is of the registry itself
		}
	}
	return nil, failed
}

// read reads a whole answer. One that breaks off is asked for again.
func (c *Client) read(ctx context.Context, e endpoint, path string, header http.Header, maxSize int64) ([]byte, error) {
	for try := 1; ; try++ {
		a, err := c.get(ctx, e, path, header)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(io.LimitReader(a.Body, maxSize+1))
		a.Body.Close()
		if err == nil && int64(len(b)) > maxSize {
			return nil, fmt.Errorf("%s answers with more than %d bytes", e.host, maxSize)
		}
		if err == nil || try == maxTries || ctx.Err() != nil {
			return b, err
		}
	}
}
