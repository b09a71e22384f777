package main

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"syscall"
	"testing"

	"stead/reconcile/view"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	noImage "github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sys/unix"
)

// badObjects is a host with containers that are well, one of them on an image and a volume, a
// registry, and little space for images on a file system of the given kind.
type badObjects struct {
	*badInput
	registry string
}

func newBadObjects(t *testing.T, kind string) *badObjects {
	h := &badObjects{badInput: newBadInput(t)}
	images := h.dir + "/state/images"
	if err := os.MkdirAll(images, 0o700); err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		size := map[string]string{"tmpfs": "size=16m,mode=0700", "ramfs": "mode=0700"}[kind]
		if err := unix.Mount(kind, images, kind, 0, size); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { // everything else goes first
			files, _ := filepath.Glob(h.manifests + "/*")
			for _, f := range files {
				os.Remove(f)
			}
			h.stead("apply", "--confirm-removal=all")
			h.endDaemon(syscall.SIGTERM)
			if err := unix.Unmount(images, 0); err != nil {
				t.Error(err)
			}
		})
	}
	good := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if strings.HasPrefix(q.URL.Path, "/v2/private/") {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		good.ServeHTTP(w, q)
	}))
	t.Cleanup(server.Close)
	h.registry = strings.TrimPrefix(server.URL, "http://")
	writeFile(t, h.dir+"/config.yaml", configHead+"registries: {'"+h.registry+"': {insecure: true}}\n")
	h.env = append(h.env, "STEAD_CONFIG="+h.dir+"/config.yaml", "REGISTRY_AUTH_FILE="+h.dir+"/none")
	h.push("foreign:1", "s390x", 1024)
	h.push("large:1", goruntime.GOARCH, 30<<20)
	return h
}

// push puts an image of one layer with random content into the registry.
func (h *badObjects) push(tag, arch string, size int64) {
	h.t.Helper()
	layer, err := random.Layer(size, "application/vnd.oci.image.layer.v1.tar+gzip")
	if err != nil {
		h.t.Fatal(err)
	}
	m, err := mutate.AppendLayers(noImage.Image, layer)
	if err != nil {
		h.t.Fatal(err)
	}
	c, err := m.ConfigFile()
	if err != nil {
		h.t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", arch
	to, err := name.NewTag(h.registry + "/" + tag)
	if err == nil {
		m, err = mutate.ConfigFile(m, c)
	}
	if err == nil {
		err = remote.Write(to, m)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// refuses writes a manifest and waits until its container is refused with a text, at a place of the
// manifest or with the name of an object. The others must not notice.
func (h *badObjects) refuses(text, place, want string) {
	h.t.Helper()
	fill := strings.NewReplacer("DIR", h.dir, "REGISTRY", h.registry)
	place, want = fill.Replace(place), fill.Replace(want)
	h.write("x.yaml", fill.Replace(text))
	v := h.until("x", "refused at "+place+" because "+want, func(v view.Container) bool {
		told := v.Why + "\n" + v.Message
		return strings.Contains(told, place) && strings.Contains(told, want)
	})
	if v.State == view.Running || v.Pid != 0 {
		h.t.Errorf("it runs: %+v", v)
	}
	h.othersRunOn("x")
	os.Remove(h.manifests + "/x.yaml")
	h.ok("apply", "--confirm-removal=all")
	h.othersRunOn()
}

// Images that can't be had: the error stands at the line that names the image.
func TestBadImages(t *testing.T) {
	h := newBadObjects(t, "tmpfs")
	h.ok("image", "import", "good", h.imageRoot("good"))
	h.begin(map[string]string{"bystander": manifest("bystander", ""), "onimage": ofImage("onimage", "good", "")})
	for _, row := range []struct{ summary, image, want string }{
		{"unknown", "nonsuch", "there is no image nonsuch here"},
		{"a short name", "nginx:1.27", "docker.io/library/nginx:1.27"},
		{"no such tag", "REGISTRY/foreign:2", "no such image in the registry (repository foreign, tag 2)"},
		{"unauthorised", "REGISTRY/private/app:1", "needs a login"},
		{"another platform", "REGISTRY/foreign:1", "the image is for linux/s390x, this host is linux/" + goruntime.GOARCH},
		{"no space", "REGISTRY/large:1", "no space left on device"},
		{"no registry there", "127.0.0.1:1/app:1", "connection refused"},
	} {
		t.Run(row.summary, func(t *testing.T) {
			h.within(t)
			h.refuses(ofImage("x", `"`+row.image+`"`, ""), "x.yaml:5:19: spec.rootfs.image: ", row.want)
			if left, _ := filepath.Glob(h.dir + "/state/images/tmp/*"); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// Where the file system of images can't map ids, what needs an image is refused with the reason, and
// nothing is copied instead.
func TestBadFileSystem(t *testing.T) {
	h := newBadObjects(t, "ramfs")
	h.ok("image", "import", "good", h.imageRoot("good"))
	h.begin(map[string]string{"bystander": manifest("bystander", "")})
	h.refuses(ofImage("x", "good", ""), "map ids of DIR/state/images/layers: ", "this file system can't map ids")
	if left, _ := filepath.Glob(h.dir + "/state/removed/x@*/upper/*"); len(left) > 0 {
		t.Errorf("copied: %q", left)
	}
}

// An image that is deleted by hand: what runs goes on, and a restart says what is missing.
func TestImageGoneByHand(t *testing.T) {
	h := newBadObjects(t, "")
	h.ok("image", "import", "good", h.imageRoot("good"))
	h.begin(map[string]string{"bystander": manifest("bystander", ""), "onimage": ofImage("onimage", "good", "")})
	for _, part := range []string{"images", "layers"} {
		if err := os.Rename(h.dir+"/state/images/"+part, h.dir+"/gone-"+part); err != nil {
			t.Fatal(err)
		}
	}
	h.stead("reload")
	if c := h.stead("plan"); c.code != 0 {
		t.Errorf("plan: %+v", c)
	}
	h.othersRunOn()
	if c := h.stead("restart", "onimage"); c.code != exitFailure || !strings.Contains(c.err, "start onimage: image good is not in the store of this host; pull or import it") {
		t.Errorf("restart: %+v", c)
	}
	h.othersRunOn() // it was not stopped for that
	for _, part := range []string{"images", "layers"} {
		if err := os.Rename(h.dir+"/gone-"+part, h.dir+"/state/images/"+part); err != nil {
			t.Fatal(err)
		}
	}
	h.ok("restart", "onimage")
	h.until("onimage", "well again", well)
}

// A link in the place of a volume is not followed.
func TestVolumeBecomesLink(t *testing.T) {
	h := newBadObjects(t, "")
	mounts := "  mounts: {/data: {volume: data}}\n"
	h.begin(map[string]string{"bystander": manifest("bystander", ""), "writer": manifest("writer", mounts)})
	volume := h.dir + "/state/volumes/data"
	if err := os.Rename(volume, h.dir+"/moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", volume); err != nil {
		t.Fatal(err)
	}
	h.refuses(manifest("x", "  mounts: {/data: {volume: data, readOnly: true}}\n"), "volume data: ", "found a symbolic link at DIR/state/volumes/data, want a directory")
	h.ok("apply")
	if c := h.stead("restart", "writer"); c.code != exitFailure || !strings.Contains(c.err, "volume data: found a symbolic link at "+volume) {
		t.Errorf("restart: %+v", c)
	}
	h.othersRunOn()
	if err := errors.Join(os.Remove(volume), os.Rename(h.dir+"/moved", volume)); err != nil {
		t.Fatal(err)
	}
	h.ok("restart", "writer")
	h.until("writer", "well again", well)
}

// Sources of files that can't be read.
func TestBadSources(t *testing.T) {
	h := newBadObjects(t, "")
	h.begin(map[string]string{"bystander": manifest("bystander", "")})
	for _, err := range []error{unix.Mkfifo(h.dir+"/fifo", 0o600), os.WriteFile(h.dir+"/huge", nil, 0o600), os.Truncate(h.dir+"/huge", 17<<20), os.Symlink("loop", h.dir+"/loop")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct{ summary, source, want string }{
		{"missing", "DIR/none", "can't read DIR/none: no such file or directory"},
		{"unreadable", "DIR/loop", "too many levels of symbolic links"},
		{"huge", "DIR/huge", "larger than 16 MiB"},
		{"a FIFO", "DIR/fifo", "found a FIFO"},
		{"a device", "/dev/zero", "found a device"},
	} {
		t.Run(row.summary, func(t *testing.T) {
			h.within(t)
			h.refuses(manifest("x", "  files:\n    /etc/x: {source: "+row.source+"}\n"), "x.yaml:9:22: spec.files[/etc/x].source: ", row.want)
			h.refuses(manifest("x", "  envSecrets:\n    X: {source: "+row.source+"}\n"), "x.yaml:9:17: spec.envSecrets.X.source: ", row.want)
		})
	}
}
