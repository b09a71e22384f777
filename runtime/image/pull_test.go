package image

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stead/runtime/image/registry"
	"stead/runtime/roottest"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// testRegistry is a registry on this host, behind a proxy that may misbehave.
type testRegistry struct {
	*httptest.Server
	host   string
	good   http.Handler
	faults atomic.Pointer[http.HandlerFunc] // answers instead of the registry, if set

	mu       sync.Mutex
	requests []string // method, path and range
}

func newRegistry(t *testing.T, start func(http.Handler) *httptest.Server) *testRegistry {
	t.Helper()
	r := &testRegistry{good: ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))}
	r.Server = start(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		r.requests = append(r.requests, strings.TrimSpace(q.Method+" "+q.URL.Path+" "+q.Header.Get("Range")))
		r.mu.Unlock()
		if f := r.faults.Load(); f != nil {
			(*f)(w, q)
			return
		}
		r.good.ServeHTTP(w, q)
	}))
	t.Cleanup(r.Close)
	r.host = strings.TrimPrefix(strings.TrimPrefix(r.URL, "http://"), "https://")
	return r
}

// misbehave makes the proxy answer by f, which may call the registry.
func (r *testRegistry) misbehave(f http.HandlerFunc) { r.faults.Store(&f) }

// asked returns how often a path was asked for.
func (r *testRegistry) asked(part string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.requests {
		if strings.Contains(q, part) {
			n++
		}
	}
	return n
}

func (r *testRegistry) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = nil
}

func (r *testRegistry) push(t *testing.T, tag string, m v1.Image) {
	t.Helper()
	n, err := name.NewTag(r.host + "/" + tag)
	if err == nil {
		err = remote.Write(n, m)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// client returns a client that may speak HTTP with the registry, and finds no login.
func client(t *testing.T, hosts ...string) *registry.Client {
	t.Helper()
	t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(t.TempDir(), "none"))
	settings := map[string]registry.Settings{}
	for _, h := range hosts {
		settings[h] = registry.Settings{Insecure: true}
	}
	return &registry.Client{Registries: settings, FirstWait: 2 * time.Millisecond, Stalled: roottest.Patience}
}

// A large layer, for what happens in the middle of it.
func largeImage(t *testing.T) (v1.Image, string) {
	t.Helper()
	files := []string{"etc/", "etc/passwd"}
	for i := range 300 {
		files = append(files, fmt.Sprintf("etc/%d-%x", i, strings.Repeat(fmt.Sprint(i*i), 20)))
	}
	layer := layerOf(t, files...)
	digest, err := layer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return imageOf(t, runtime.GOARCH, layer), digest.String()
}

// A pull gets the image for this host's platform, a second one of the same downloads no layer, and
// the digest finds it too.
func TestPull(t *testing.T) {
	roottest.Need(t)
	r := newRegistry(t, httptest.NewServer)
	one := threeLayers(t)
	r.push(t, "app:1", one)
	n, err := name.NewTag(r.host + "/app:many")
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: imageOf(t, "s390x", layerOf(t, "big")), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}}},
		mutate.IndexAddendum{Add: one, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}}})
	if err := remote.WriteIndex(n, index); err != nil {
		t.Fatal(err)
	}
	s, c := newStore(t), client(t, r.host)
	m, err := s.Pull(t.Context(), r.host+"/app:1", c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if m.Digest != digestOfImage(t, one) || m.Index != "" {
		t.Errorf("digest %s of %q", m.Digest, m.Index)
	}
	checkThreeLayers(t, s, m)
	r.forget()
	many, err := s.Pull(t.Context(), r.host+"/app:many", c, Options{})
	if err != nil || many.Digest != m.Digest || many.Index != digestOfImage(t, index) || r.asked("/blobs/") != 1 {
		t.Errorf("by an index: %+v, %v; asked %q", many, err, r.requests)
	}
	for _, reference := range []string{r.host + "/app:1@" + m.Digest, r.host + "/app@" + many.Index} {
		if found, err := s.Lookup(reference); err != nil || found.Digest != m.Digest {
			t.Errorf("%s: %+v, %v", reference, found, err)
		}
	}
	if _, err := s.Pull(t.Context(), r.host+"/app@"+many.Index, c, Options{Digest: m.Digest}); err != nil {
		t.Error(err)
	}
	for _, c2 := range []struct{ reference, digest, want string }{
		{r.host + "/app:2", "", "no such image in the registry (repository app, tag 2)"},
		{r.host + "/app:1", digestOf("1"), "has the digest " + m.Digest + ", want " + digestOf("1")},
		{"nginx:1.27", "", "did you mean docker.io/library/nginx:1.27?"},
	} {
		if _, err := s.Pull(t.Context(), c2.reference, c, Options{Digest: c2.digest}); err == nil || !strings.Contains(err.Error(), c2.want) {
			t.Errorf("%s: %v, want %q", c2.reference, err, c2.want)
		}
	}
}

// cut is a response that breaks off after some bytes.
type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b[:min(len(b), c.left)])
	if c.left -= n; c.left == 0 || err != nil {
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// whole returns a whole answer of the registry, whatever range was asked for.
func whole(good http.Handler, q *http.Request) []byte {
	q.Header.Del("Range")
	a := httptest.NewRecorder()
	good.ServeHTTP(a, q)
	return a.Body.Bytes()
}

// withRange answers a request for a range of a blob, which the registry of the tests cannot.
func withRange(w http.ResponseWriter, q *http.Request, good http.Handler) {
	var from int
	if _, err := fmt.Sscanf(q.Header.Get("Range"), "bytes=%d-", &from); err != nil {
		good.ServeHTTP(w, q)
		return
	}
	b := whole(good, q)
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(b)-1, len(b)))
	w.Header().Set("Content-Length", fmt.Sprint(len(b)-from))
	w.WriteHeader(http.StatusPartialContent)
	w.Write(b[from:])
}

// What a bad registry or network does is survived where it can be, and refused where not.
func TestPullMisbehaving(t *testing.T) {
	roottest.Need(t)
	m, layer := largeImage(t)
	isLayer := func(q *http.Request) bool { return strings.Contains(q.URL.Path, "/blobs/"+layer) }
	for _, c := range []struct {
		summary string
		fault   func(r *testRegistry, w http.ResponseWriter, q *http.Request, n int)
		want    string // "" if the pull succeeds
		asked   int    // how often for the layer; 0 for any number
	}{
		{"breaks off every 5,000 bytes, knows ranges", func(r *testRegistry, w http.ResponseWriter, q *http.Request, _ int) {
			withRange(&cut{w, 5000}, q, r.good)
		}, "", 0},
		{"breaks off once, knows no ranges", func(r *testRegistry, w http.ResponseWriter, q *http.Request, n int) {
			if n == 1 {
				w = &cut{w, 5000}
			}
			w.Write(whole(r.good, q))
		}, "", 2},
		{"breaks off once, refuses ranges", func(r *testRegistry, w http.ResponseWriter, q *http.Request, n int) {
			switch {
			case n == 1:
				w = &cut{w, 5000}
			case q.Header.Get("Range") != "":
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			w.Write(whole(r.good, q))
		}, "", 3},
		{"breaks off always at the same place", func(r *testRegistry, w http.ResponseWriter, q *http.Request, n int) {
			(&cut{w, 5000}).Write(whole(r.good, q))
		}, "breaks off after 5000 of", 0},
		{"a wrong byte", func(r *testRegistry, w http.ResponseWriter, q *http.Request, _ int) {
			b := whole(r.good, q)
			b[4] ^= 1 // the time in the header of gzip: the content is the same
			w.Write(b)
		}, "has the digest", 1},
		{"more than it should", func(r *testRegistry, w http.ResponseWriter, q *http.Request, _ int) {
			w.Write(append(whole(r.good, q), "more"...))
		}, "has more than", 1},
		{"less than it should", func(r *testRegistry, w http.ResponseWriter, q *http.Request, _ int) {
			w.Write(whole(r.good, q)[:1000])
		}, "breaks off after 1000 of", 0},
		{"500 twice", func(r *testRegistry, w http.ResponseWriter, q *http.Request, n int) {
			if n < 3 {
				w.WriteHeader(500)
				return
			}
			r.good.ServeHTTP(w, q)
		}, "", 3},
		{"500 always", func(r *testRegistry, w http.ResponseWriter, q *http.Request, _ int) { w.WriteHeader(500) }, "answers 500", 6},
		{"404", func(r *testRegistry, w http.ResponseWriter, q *http.Request, _ int) { w.WriteHeader(404) }, "answers 404", 1},
		{"429 with a wait that is too long", func(r *testRegistry, w http.ResponseWriter, q *http.Request, _ int) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(429)
			fmt.Fprint(w, `{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}`)
		}, "answers 429 Too Many Requests: TOOMANYREQUESTS slow down; it asks to try again in 1h0m0s", 1},
		{"the range of something else", func(r *testRegistry, w http.ResponseWriter, q *http.Request, n int) {
			if n == 1 {
				r.good.ServeHTTP(&cut{w, 5000}, q)
				return
			}
			w.Header().Set("Content-Range", "bytes 6000-7000/8000")
			w.WriteHeader(http.StatusPartialContent)
		}, "answers with another range", 0},
	} {
		t.Run(c.summary, func(t *testing.T) {
			r := newRegistry(t, httptest.NewServer)
			r.push(t, "app:1", m)
			var n atomic.Int64
			r.misbehave(func(w http.ResponseWriter, q *http.Request) {
				if isLayer(q) {
					c.fault(r, w, q, int(n.Add(1)))
				} else {
					r.good.ServeHTTP(w, q)
				}
			})
			s := newStore(t)
			got, err := s.Pull(t.Context(), r.host+"/app:1", client(t, r.host), Options{})
			if c.want == "" && (err != nil || got.Digest != digestOfImage(t, m)) {
				t.Errorf("pull: %+v, %v", got, err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("pull: %v, want %q", err, c.want)
			}
			if c.asked != 0 && int(n.Load()) != c.asked {
				t.Errorf("the layer was asked for %d times, want %d", n.Load(), c.asked)
			}
			if left := s.contents(t); err != nil && len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// Retry-After is obeyed.
func TestPullRetryAfter(t *testing.T) {
	roottest.Need(t)
	r := newRegistry(t, httptest.NewServer)
	r.push(t, "app:1", imageOf(t, runtime.GOARCH, layerOf(t, "x")))
	var first atomic.Int64
	r.misbehave(func(w http.ResponseWriter, q *http.Request) {
		if first.CompareAndSwap(0, time.Now().UnixNano()) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(429)
			return
		}
		r.good.ServeHTTP(w, q)
	})
	_, err := newStore(t).Pull(t.Context(), r.host+"/app:1", client(t, r.host), Options{})
	if took := time.Since(time.Unix(0, first.Load())); err != nil || took < time.Second {
		t.Errorf("%v after %v, want a second at least", err, took)
	}
}

// A login is used for its registry, and goes to no other host.
func TestPullLogin(t *testing.T) {
	roottest.Need(t)
	var leaked atomic.Bool
	storage := newRegistry(t, httptest.NewServer)
	r := newRegistry(t, httptest.NewServer)
	m, layer := largeImage(t)
	r.push(t, "private/app:1", m)
	var tokens atomic.Int64
	storage.misbehave(func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Authorization") != "" {
			leaked.Store(true)
		}
		r.good.ServeHTTP(w, q)
	})
	r.misbehave(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/token" {
			if user, password, _ := q.BasicAuth(); user != "me" || password != "secret:word" || q.URL.Query().Get("scope") != "repository:private/app:pull" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			fmt.Fprintf(w, `{"token":"t%d"}`, tokens.Add(1))
			return
		}
		if want := fmt.Sprintf("Bearer t%d", tokens.Load()); tokens.Load() == 0 || q.Header.Get("Authorization") != want {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test",scope="repository:private/app:pull"`, r.URL))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.Contains(q.URL.Path, "/blobs/"+layer) {
			// Another host name for the same machine.
			http.Redirect(w, q, strings.Replace(storage.URL, "127.0.0.1", "localhost", 1)+q.URL.Path, http.StatusTemporaryRedirect)
			return
		}
		r.good.ServeHTTP(w, q)
	})
	auth := filepath.Join(t.TempDir(), "auth.json")
	write := func(password string) {
		put(t, auth, map[string]any{"auths": map[string]any{r.host: map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte("me:" + password))}}})
	}
	s, c := newStore(t), client(t, r.host)
	_, err := s.Pull(t.Context(), r.host+"/private/app:1", c, Options{})
	if err == nil || !strings.Contains(err.Error(), "it does not exist or needs a login") {
		t.Errorf("without a login: %v", err)
	}
	t.Setenv("REGISTRY_AUTH_FILE", auth)
	write("wrong")
	_, err = s.Pull(t.Context(), r.host+"/private/app:1", c, Options{})
	if err == nil || !strings.Contains(err.Error(), "refuses the login for private/app from "+auth+" (entry "+r.host+")") {
		t.Errorf("with a wrong login: %v", err)
	}
	write("secret:word")
	if _, err = s.Pull(t.Context(), r.host+"/private/app:1", c, Options{}); err != nil {
		t.Errorf("with a login: %v", err)
	}
	if storage.asked(layer) == 0 || leaked.Load() {
		t.Errorf("the storage was asked %d times; it got credentials: %v", storage.asked(layer), leaked.Load())
	}
	before := tokens.Load()
	if _, err = s.Pull(t.Context(), r.host+"/private/app:1", c, Options{}); err != nil || tokens.Load() != before {
		t.Errorf("again: %v, %d tokens more", err, tokens.Load()-before)
	}
	tokens.Add(1) // the token is too old by now
	if _, err = s.Pull(t.Context(), r.host+"/private/app:1", c, Options{}); err != nil {
		t.Errorf("with an old token: %v", err)
	}
	put(t, auth, map[string]any{"credHelpers": map[string]string{r.host: "missing-helper"}})
	_, err = s.Pull(t.Context(), r.host+"/private/app:1", client2(c), Options{})
	if err == nil || !strings.Contains(err.Error(), auth+" names the credential helper docker-credential-missing-helper for "+r.host+", which is not installed") {
		t.Errorf("with a helper that is missing: %v", err)
	}
}

// An identity token is sent in the body of a request, which Go repeats to where it is redirected.
func TestPullTokenRedirected(t *testing.T) {
	roottest.Need(t)
	var leaked atomic.Bool
	other := newRegistry(t, httptest.NewServer)
	other.misbehave(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		leaked.Store(leaked.Load() || strings.Contains(string(body), "identity"))
		fmt.Fprint(w, `{"token":"t"}`)
	})
	r := newRegistry(t, httptest.NewServer)
	r.misbehave(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/token" {
			http.Redirect(w, q, strings.Replace(other.URL, "127.0.0.1", "localhost", 1)+"/token", http.StatusTemporaryRedirect)
			return
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test"`, r.URL))
		w.WriteHeader(http.StatusUnauthorized)
	})
	auth := filepath.Join(t.TempDir(), "auth.json")
	put(t, auth, map[string]any{"auths": map[string]any{r.host: map[string]string{"identitytoken": "identity"}}})
	c := client(t, r.host)
	t.Setenv("REGISTRY_AUTH_FILE", auth)
	_, err := newStore(t).Pull(t.Context(), r.host+"/private/app:1", c, Options{})
	if leaked.Load() || err == nil || !strings.Contains(err.Error(), "a login is not sent to another host") {
		t.Errorf("leaked: %v, %v", leaked.Load(), err)
	}
}

// client2 returns a client without the tokens of another.
func client2(c *registry.Client) *registry.Client { return &registry.Client{Registries: c.Registries} }

// A registry without encryption is refused unless it is this host and the configuration says so;
// one whose certificate is unknown is refused; a known one works.
func TestPullEncryption(t *testing.T) {
	roottest.Need(t)
	plain := newRegistry(t, httptest.NewServer)
	plain.push(t, "app:1", imageOf(t, runtime.GOARCH, layerOf(t, "x")))
	s := newStore(t)
	if _, err := s.Pull(t.Context(), plain.host+"/app:1", client(t), Options{}); err == nil || plain.asked("") > 0 && !strings.Contains(err.Error(), "HTTP response to HTTPS client") {
		t.Errorf("without encryption: %v", err)
	}
	// The job is a process of its own, which reads the certificates at its start.
	tls := newRegistry(t, httptest.NewTLSServer)
	m := imageOf(t, runtime.GOARCH, layerOf(t, "x"))
	n, err := name.NewTag(tls.host + "/app:1")
	if err == nil {
		err = remote.Write(n, m, remote.WithTransport(tls.Client().Transport))
	}
	if err != nil {
		t.Fatal(err)
	}
	j := Jobs{Store: s}
	client(t)
	if _, err := s.Pull(t.Context(), tls.host+"/app:1", client(t), Options{}); err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("an unknown certificate: %v", err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", file)
	if got, err := j.Pull(t.Context(), tls.host+"/app:1", Options{}); err != nil || got.Digest != digestOfImage(t, m) {
		t.Errorf("a known certificate: %+v, %v", got, err)
	}
}

// Mirrors are asked first, for each request; what one of them lacks or has wrong comes from the
// next.
func TestPullMirrors(t *testing.T) {
	roottest.Need(t)
	m, layer := largeImage(t)
	for _, c := range []struct {
		summary string
		fault   func(good http.Handler) http.HandlerFunc
		only    bool
		want    string
		origin  int // requests for the layer at the registry itself
	}{
		{"has all", func(good http.Handler) http.HandlerFunc { return good.ServeHTTP }, true, "", 0},
		{"has nothing", func(http.Handler) http.HandlerFunc { return http.NotFound }, false, "", 1},
		{"has nothing, and nobody else may be asked", func(http.Handler) http.HandlerFunc { return http.NotFound }, true, "no such image in the registry", 0},
		{"is broken", func(http.Handler) http.HandlerFunc {
			return func(w http.ResponseWriter, q *http.Request) { w.WriteHeader(502) }
		}, false, "", 1},
		{"answers with nothing", func(http.Handler) http.HandlerFunc { return func(http.ResponseWriter, *http.Request) {} }, false, "", 1},
		{"has a wrong layer", func(good http.Handler) http.HandlerFunc {
			return func(w http.ResponseWriter, q *http.Request) {
				b := whole(good, q)
				if strings.Contains(q.URL.Path, layer) {
					b[len(b)/2] ^= 1
				}
				w.Write(b)
			}
		}, false, "", 1},
	} {
		t.Run(c.summary, func(t *testing.T) {
			mirror, origin := newRegistry(t, httptest.NewServer), newRegistry(t, httptest.NewServer)
			mirror.push(t, "hub/app:1", m)
			origin.push(t, "app:1", m)
			origin.forget()
			mirror.misbehave(c.fault(mirror.good))
			cl := client(t, mirror.host, origin.host)
			cl.Registries[origin.host] = registry.Settings{Insecure: true, Mirrors: []string{mirror.host + "/hub"}, MirrorsOnly: c.only}
			s := newStore(t)
			got, err := s.Pull(t.Context(), origin.host+"/app:1", cl, Options{})
			if c.want == "" && (err != nil || got.Digest != digestOfImage(t, m)) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("pull: %+v, %v, want %q", got, err, c.want)
			}
			if n := origin.asked("/blobs/" + layer); n != c.origin || c.only && len(origin.requests) > 0 {
				t.Errorf("the registry was asked for the layer %d times, want %d: %q", n, c.origin, origin.requests)
			}
		})
	}
}

// Layers that were complete when a pull was interrupted are not downloaded again.
func TestPullResumes(t *testing.T) {
	roottest.Need(t)
	r := newRegistry(t, httptest.NewServer)
	layers := []v1.Layer{layerOf(t, "a/", "a/a"), layerOf(t, "b/", "b/b"), layerOf(t, "c/", "c/c")}
	m := imageOf(t, runtime.GOARCH, layers...)
	r.push(t, "app:1", m)
	var digests []string
	for _, l := range layers {
		d, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, c := newStore(t), client(t, r.host)
	done := make(chan struct{})
	r.misbehave(func(w http.ResponseWriter, q *http.Request) {
		if strings.Contains(q.URL.Path, digests[2]) {
			go func() { // interrupt it once the other two are there
				for {
					if all, err := s.layers(); err == nil && len(all) == 2 {
						cancel()
						close(done)
						return
					}
					time.Sleep(time.Millisecond)
				}
			}()
			<-done
			return
		}
		r.good.ServeHTTP(w, q)
	})
	if _, err := s.Pull(ctx, r.host+"/app:1", c, Options{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("pull: %v", err)
	}
	if list, err := s.List(nil); err != nil || len(list) > 0 {
		t.Errorf("listed: %+v, %v", list, err)
	}
	r.misbehave(r.good.ServeHTTP)
	r.forget()
	if _, err := s.Pull(t.Context(), r.host+"/app:1", c, Options{}); err != nil {
		t.Fatal(err)
	}
	if a, b, last := r.asked(digests[0]), r.asked(digests[1]), r.asked(digests[2]); a+b > 0 || last != 1 {
		t.Errorf("layers were asked for %d, %d and %d times", a, b, last)
	}
}

// A registry that answers with schema 1 is understood, and refused by name.
func TestPullSchema1(t *testing.T) {
	r := newRegistry(t, httptest.NewServer)
	r.misbehave(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
		json.NewEncoder(w).Encode(map[string]any{"schemaVersion": 1, "fsLayers": []any{}})
	})
	if _, err := newStore(t).Pull(t.Context(), r.host+"/old:1", client(t, r.host), Options{}); !errors.Is(err, errSchema1) {
		t.Errorf("%v", err)
	}
	if got := slices.Sorted(maps.Keys(variants)); !slices.Contains(got, runtime.GOARCH) {
		t.Errorf("no variants of %s", runtime.GOARCH)
	}
}
