package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"stead/reconcile/view"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	none "github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// gatedRegistry is a registry on loopback whose answers a test can hold back or replace.
type gatedRegistry struct {
	host string

	mu        sync.Mutex
	manifests []time.Time // when one was asked for
	// through returns what the registry writes its answer to, or nil if it has answered itself.
	through func(http.ResponseWriter, *http.Request) http.ResponseWriter
}

func (r *gatedRegistry) answer(through func(http.ResponseWriter, *http.Request) http.ResponseWriter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.through = through
}

// halting lets the beginning of an answer through, and the rest when it is released.
type halting struct {
	http.ResponseWriter
	released <-chan struct{}
	written  int
}

func (h *halting) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		if h.written > 64<<10 {
			http.NewResponseController(h.ResponseWriter).Flush()
			<-h.released
		}
		part := b[:min(len(b), 16<<10)]
		var done int
		done, err = h.ResponseWriter.Write(part)
		n, h.written, b = n+done, h.written+done, b[len(part):]
	}
	return n, err
}

func (r *gatedRegistry) asked() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]time.Time{}, r.manifests...)
}

// serve starts a registry with app:1, an image of a directory.
func (h *testHost) serve(root string) *gatedRegistry {
	h.t.Helper()
	r := &gatedRegistry{}
	good := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		if q.Method == http.MethodGet && strings.Contains(q.URL.Path, "/manifests/") {
			r.manifests = append(r.manifests, time.Now())
		}
		through := r.through
		r.mu.Unlock()
		if through != nil {
			w = through(w, q)
		}
		if w != nil {
			good.ServeHTTP(w, q)
		}
	}))
	h.t.Cleanup(server.Close)
	r.host = strings.TrimPrefix(server.URL, "http://")
	file := h.dir + "/layer.tar"
	if out, err := exec.Command("tar", "-C", root, "-cf", file, ".").CombinedOutput(); err != nil {
		h.t.Fatalf("%v %s", err, out)
	}
	layer, err := tarball.LayerFromFile(file)
	if err != nil {
		h.t.Fatal(err)
	}
	m, err := mutate.AppendLayers(none.Image, layer)
	if err == nil {
		m, err = mutate.ConfigFile(m, configOf(h.t, m))
	}
	tag, e := name.NewTag(r.host + "/app:1")
	if err == nil && e == nil {
		err = remote.Write(tag, m)
	}
	if err != nil || e != nil {
		h.t.Fatal(err, e)
	}
	writeFile(h.t, h.dir+"/config.yaml", "apiVersion: stead/v1\nkind: Config\nregistries: {\""+r.host+"\": {insecure: true}}\n")
	h.env = append(h.env, "STEAD_CONFIG="+h.dir+"/config.yaml", "REGISTRY_AUTH_FILE="+h.dir+"/none")
	r.mu.Lock()
	r.manifests = nil
	r.mu.Unlock()
	return r
}

func configOf(t *testing.T, m v1.Image) *v1.ConfigFile {
	t.Helper()
	c, err := m.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", runtime.GOARCH
	return c
}

// A container whose image is in a registry waits while the daemon pulls it, and says how far that
// is. A pull that fails is tried again after growing times, others are not delayed, and when the
// image is there the container runs. Later the registry is not asked again: a container that
// returns runs from the digest that is recorded, also if its tag is gone.
func TestPullByDaemon(t *testing.T) {
	h := newHost(t)
	r := h.serve(h.imageRoot("app"))
	reference := r.host + "/app:1"
	r.answer(func(w http.ResponseWriter, q *http.Request) http.ResponseWriter {
		if !strings.Contains(q.URL.Path, "/manifests/") {
			return w
		}
		http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
		return nil
	})
	h.startDaemon()
	h.write("web.yaml", ofImage("web", "\""+reference+"\"", ""))
	v := h.until("web", "waiting after a failure", func(v view.Container) bool { return strings.Contains(v.Why, "failed") })
	if v.State != view.Pending || !strings.Contains(v.Why, "web.yaml:5:") {
		t.Errorf("%+v", v)
	}
	h.until("web", "tried four times", func(view.Container) bool { return len(r.asked()) >= 4 })
	for at, i := r.asked(), 1; i < 4; i++ {
		if pause := at[i].Sub(at[i-1]); pause < time.Duration(1<<(i-1))*900*time.Millisecond {
			t.Errorf("attempt %d came %v after the one before", i+1, pause)
		}
	}

	held := make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	defer release() // or the server waits for ever
	r.answer(func(w http.ResponseWriter, q *http.Request) http.ResponseWriter {
		if strings.Contains(q.URL.Path, "/blobs/") {
			return &halting{ResponseWriter: w, released: held}
		}
		return w
	})
	apply := h.command("apply") // tries again at once, and waits
	if err := apply.Start(); err != nil {
		t.Fatal(err)
	}
	defer apply.Wait()
	v = h.until("web", "pulling", func(v view.Container) bool { return strings.Contains(v.Why, "%") })
	if v.State != view.Pending || !strings.HasPrefix(v.Why, "pulling "+reference+", ") {
		t.Errorf("%+v", v)
	}
	h.write("other.yaml", strings.Replace(keeping, "{name: web}", "{name: other}", 1))
	h.until("other", "running while another waits", func(v view.Container) bool { return v.State == view.Running })
	release()
	h.untilLogged("web", "I am web of app")

	// The same under a name of its own, which a manifest declares.
	h.write("image.yaml", "apiVersion: stead/v1\nkind: Image\nmetadata: {name: local}\nspec: {source: {registry: \""+reference+"\"}}\n")
	h.write("declared.yaml", ofImage("declared", "local", ""))
	h.untilLogged("declared", "I am declared of app")
	if err := os.Remove(h.manifests + "/declared.yaml"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(h.manifests + "/image.yaml"); err != nil {
		t.Fatal(err)
	}

	// The registry goes away, and so does the tag.
	r.answer(func(w http.ResponseWriter, _ *http.Request) http.ResponseWriter {
		http.Error(w, "gone", http.StatusInternalServerError)
		return nil
	})
	before := len(r.asked())
	if err := os.Remove(h.manifests + "/web.yaml"); err != nil {
		t.Fatal(err)
	}
	h.ok("apply", "--confirm-removal=all")
	refs, _ := filepath.Glob(h.dir + "/state/images/refs/*")
	for _, ref := range refs {
		if err := os.Remove(ref); err != nil {
			t.Fatal(err)
		}
	}
	h.write("web.yaml", ofImage("web", "\""+reference+"\"", ""))
	h.until("web", "running from the digest", func(v view.Container) bool { return v.State == view.Running })
	if n := len(r.asked()); n != before {
		t.Errorf("the registry was asked %d times", n-before)
	}
	h.endDaemon(syscall.SIGTERM)
}
