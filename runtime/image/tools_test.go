//go:build images

package image

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stead/runtime/roottest"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"
)

// The tests of this file compare with umoci, skopeo, mmdebstrap and tar. `make test-images`
// installs them.

// links are those of directories, which overlay does not count.
var links = regexp.MustCompile(`(?m)^(".*" 04\d+ \S+) \d+ links`)

// counts are those of all names of a file: overlay counts the ones that upper layers deleted.
var counts = regexp.MustCompile(`(?m)^(".*" 10\d+ \S+) \d+ links`)

var emptyAttribute = regexp.MustCompile(`(?m)^".*" user\.n=""\n`)

// rootTime is the time of the root, which a layer may not say.
var rootTime = regexp.MustCompile(`(?m)^("" \d+ \S+) .*$`)

// plainTree is tree without what two copies need not have in common.
func plainTree(t *testing.T, dir string) string {
	t.Helper()
	text := rootTime.ReplaceAllString(links.ReplaceAllString(tree(t, dir), "$1"), "$1")
	return emptyAttribute.ReplaceAllString(text, "") // umoci deletes empty attributes
}

// sameTree compares two directories.
func sameTree(t *testing.T, what, got, want string) {
	t.Helper()
	sameText(t, what, plainTree(t, got), plainTree(t, want))
}

func sameText(t *testing.T, what, a, b string) {
	t.Helper()
	if a == b {
		return
	}
	has := map[string]bool{}
	for line := range strings.Lines(b) {
		has[line] = true
	}
	n := 0
	for line := range strings.Lines(a) {
		if !has[line] && n < 20 {
			t.Errorf("%s has: %s", what, line)
			n++
		}
		delete(has, line)
	}
	for line := range has {
		if n < 40 {
			t.Errorf("%s lacks: %s", what, line)
			n++
		}
	}
}

// sameMerged compares a merged tree with a directory.
func sameMerged(t *testing.T, got, want string) {
	t.Helper()
	sameText(t, "the merged tree", counts.ReplaceAllString(plainTree(t, got), "$1"), counts.ReplaceAllString(plainTree(t, want), "$1"))
}

// mergedImage mounts the layers of an image.
func mergedImage(t *testing.T, s *Store, m *Image) string {
	t.Helper()
	at := roottest.TempDir(t, "/var/tmp")
	lower := []string{filepath.Join(at, "empty")}
	target := filepath.Join(at, "merged")
	for _, d := range []string{lower[0], target} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// The top layer shows the attributes of the root, as a container's own files do.
	if err := os.Chmod(lower[0], os.FileMode(m.Root.Mode)); err != nil {
		t.Fatal(err)
	}
	layers := lower
	for _, l := range slices.Backward(m.Layers) {
		layers = append(layers, s.layerDir(l.Number))
	}
	if err := unix.Mount("overlay", target, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(layers, ":")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(target, 0) })
	return target
}

// A Debian with nginx, PostgreSQL and Redis: as an archive and as a directory it is what tar makes of
// it, as an image with layers what umoci makes of it; skopeo pushes, saves and reads it.
func TestTools(t *testing.T) {
	roottest.Need(t)
	file := os.Getenv("STEAD_TEST_DEBIAN")
	if file == "" {
		t.Fatal("STEAD_TEST_DEBIAN names no archive; run make test-images")
	}
	at := roottest.TempDir(t, "/var/tmp")
	s := newStore(t)
	root := filepath.Join(at, "root")
	t.Run("archives and a directory", func(t *testing.T) {
		shell(t, `mkdir "$2"; tar --xattrs --xattrs-include='*' --numeric-owner -xpf "$1" -C "$2"; zstd -q -1 "$1" -o "$3"`, file, root, at+"/debian.tar.zst")
		m, err := s.Import(t.Context(), "debian", file, nil, Options{})
		if err != nil {
			t.Fatal(err)
		}
		sameTree(t, "the layer", s.layerDir(m.Layers[0].Number), root)
		compressed, err := s.Import(t.Context(), "debian-zst", at+"/debian.tar.zst", nil, Options{})
		if err != nil || compressed.Layers[0].Number != m.Layers[0].Number {
			t.Errorf("with zstd it is another layer: %+v, %v", compressed, err)
		}
		if m, err = s.Import(t.Context(), "debian-dir", root, nil, Options{}); err != nil {
			t.Fatal(err)
		}
		sameTree(t, "the layer of the directory", s.layerDir(m.Layers[0].Number), root)
		if err := s.Remove(t.Context(), "debian-dir", nil); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		return
	}
	layout := filepath.Join(at, "layout")
	t.Run("umoci", func(t *testing.T) {
		shell(t, `cd "$1"; rm -r root; umoci init --layout layout; umoci new --image layout:12
			umoci raw add-layer --image layout:12 "$2"; umoci unpack --image layout:12 bundle
			cd bundle/rootfs; rm -r usr/share/doc; rm etc/motd; rm -r etc/nginx; mkdir -m 700 etc/nginx; echo new > etc/nginx/nginx.conf
			rm -r var/lib/redis; echo file > var/lib/redis; rm etc/os-release; mkdir etc/os-release; ln etc/hostname etc/hostname2; chmod 2755 srv; echo changed >> etc/passwd
			touch -h -d @1000000000 var/log
			cd ../..; umoci repack --refresh-bundle --image layout:12 bundle
			echo x > bundle/rootfs/srv/x; rm bundle/rootfs/etc/nginx/nginx.conf; umoci repack --refresh-bundle --image layout:12 bundle; rm -r bundle
			umoci config --image layout:12 --config.user redis --config.env A=b --config.cmd /usr/bin/redis-server --config.volume /var/lib/postgresql
			umoci raw unpack --image layout:12 plain`, at, file)
		m, err := s.Import(t.Context(), "umoci", layout+":12", nil, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if c := m.Config; len(m.Layers) != 3 || c.User != "redis" || !slices.Equal(c.Cmd, []string{"/usr/bin/redis-server"}) || !slices.Equal(c.Volumes, []string{"/var/lib/postgresql"}) {
			t.Errorf("image: %d layers, %+v", len(m.Layers), c)
		}
		sameMerged(t, mergedImage(t, s, m), filepath.Join(at, "plain"))
	})
	m, err := s.Lookup("umoci")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("skopeo", func(t *testing.T) {
		diffIDs := func(m *Image) (list []string) {
			for _, l := range m.Layers {
				list = append(list, fmt.Sprint(l.Number, l.DiffID))
			}
			return list
		}
		shell(t, `cd "$1"; skopeo copy -q oci:layout:12 docker-archive:saved.tar:example.com/debian:12`, at)
		saved, err := s.Import(t.Context(), "saved", filepath.Join(at, "saved.tar"), nil, Options{})
		if err != nil || !slices.Equal(diffIDs(saved), diffIDs(m)) {
			t.Errorf("a docker-archive: %+v, %v", saved, err)
		}
		os.Remove(filepath.Join(at, "saved.tar"))
	})
	t.Run("registry", func(t *testing.T) { pullDebian(t, at, m.Digest) })
	t.Run("export", func(t *testing.T) {
		if err := s.ExportFile(t.Context(), "umoci", filepath.Join(at, "export.tar")); err != nil {
			t.Fatal(err)
		}
		shell(t, `cd "$1"; skopeo copy -q oci-archive:export.tar oci:exported:12; umoci raw unpack --image exported:12 again`, at)
		sameTree(t, "what umoci makes of the export", filepath.Join(at, "again"), filepath.Join(at, "plain"))
	})
}

// pullDebian pulls the layout in at from a registry with encryption and a password, by its tag over
// a line that breaks off in the middle of the large layer, and by its digest from one without.
func pullDebian(t *testing.T, at, digest string) {
	tls := newRegistry(t, httptest.NewTLSServer)
	locked := func(w http.ResponseWriter, q *http.Request) {
		if user, password, _ := q.BasicAuth(); user != "me" || password != "pass:word" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		tls.good.ServeHTTP(w, q)
	}
	tls.misbehave(locked)
	// The certificate is not among those of the system yet, and skopeo is not what is tested.
	shell(t, `skopeo copy -q --dest-tls-verify=false --dest-creds me:pass:word --dest-compress-format zstd "oci:$1/layout:12" "docker://$2/debian:12"`, at, tls.host)
	var cuts atomic.Int64
	tls.misbehave(func(w http.ResponseWriter, q *http.Request) {
		if q.Method == http.MethodGet && strings.Contains(q.URL.Path, "/blobs/") && cuts.Load() < 3 {
			if a := httptest.NewRecorder(); q.Header.Get("Authorization") != "" {
				head := q.Clone(q.Context())
				head.Method = http.MethodHead
				tls.good.ServeHTTP(a, head)
				if size, _ := strconv.Atoi(a.Header().Get("Content-Length")); size > 8<<20 {
					cuts.Add(1)
					withRange(&cut{w, 7 << 20}, q, tls.good)
					return
				}
			}
		}
		if q.Header.Get("Range") != "" && q.Header.Get("Authorization") != "" {
			withRange(w, q, tls.good)
			return
		}
		locked(w, q)
	})
	s := newStore(t)
	auth, ca := filepath.Join(t.TempDir(), "auth.json"), filepath.Join(t.TempDir(), "ca.pem")
	put(t, auth, map[string]any{"auths": map[string]any{tls.host: map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte("me:pass:word"))}}})
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("REGISTRY_AUTH_FILE", auth)
	t.Setenv("SSL_CERT_FILE", ca) // read by the job's process at its start
	pulled, err := Jobs{Store: s}.Pull(t.Context(), tls.host+"/debian:12", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if cuts.Load() != 3 {
		t.Errorf("the line broke off %d times, want 3", cuts.Load())
	}
	sameMerged(t, mergedImage(t, s, pulled), filepath.Join(at, "plain"))

	plain := newRegistry(t, httptest.NewServer)
	shell(t, `skopeo copy -q --dest-tls-verify=false "oci:$1/layout:12" "docker://$2/debian:12"`, at, plain.host)
	plain.forget()
	byDigest, err := s.Pull(t.Context(), plain.host+"/debian@"+digest, client(t, plain.host), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if byDigest.Digest != digest || !slices.EqualFunc(byDigest.Layers, pulled.Layers, func(a, b Layer) bool { return a.Number == b.Number }) {
		t.Errorf("by its digest: %+v, want the layers of %+v", byDigest, pulled)
	}
	if n := plain.asked("/blobs/"); n != 1 { // the configuration
		t.Errorf("%d blobs were downloaded though the layers are here", n)
	}
}

// rawLayer makes a layer of headers; a regular file holds its name.
func rawLayer(t *testing.T, headers ...tar.Header) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg && !strings.Contains(h.Name, ".wh.") {
			h.Size = int64(len(h.Name))
		}
		h.Format, h.ModTime = tar.FormatPAX, time.Unix(1234567890, 0)
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, h.Name[:h.Size])
	}
	w.Close()
	return layerOfTar(t, b.Bytes())
}

func layerOfTar(t *testing.T, b []byte) v1.Layer {
	t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Layers with all that a layer may say come out as umoci unpacks them.
func TestToolsLayers(t *testing.T) {
	roottest.Need(t)
	at := roottest.TempDir(t, "/var/tmp")
	base := filepath.Join(at, "base")
	makeRoot(t, base)
	shell(t, `cd "$1"; mkdir -p a/sub/deep r/x o/in many; for f in a/one a/two a/sub/deep/f r/x/f r/f f o/old o/in/old keep; do echo "$f" > "$f"; done
		ln f hard; chmod 1777 o; for i in $(seq 300); do echo $i > many/$i; done
		printf x > "$(printf 'new\nline')"; printf x > ' space '; printf x > '-dash'; printf x > "$(printf 'tab\t"quote')"; mkdir 'a:b,c\d'; printf x > 'a:b,c\d/f'
		tar --format=posix --xattrs --xattrs-include='*' --numeric-owner -S -cf ../base.tar .`, base)
	b, err := os.ReadFile(at + "/base.tar")
	if err != nil {
		t.Fatal(err)
	}
	const file, dir = tar.TypeReg, tar.TypeDir
	var deep []tar.Header
	for i := range 60 {
		deep = append(deep, tar.Header{Name: strings.Repeat("deep/", i+1), Typeflag: dir, Mode: 0o755})
	}
	layers := []v1.Layer{layerOfTar(t, b),
		rawLayer(t, tar.Header{Name: "a/.wh.one", Typeflag: file}, tar.Header{Name: "a/sub/.wh.deep", Typeflag: file}, tar.Header{Name: "many/.wh.7", Typeflag: file},
			tar.Header{Name: "r", Typeflag: file, Mode: 0o600}, // a file in place of a directory
			tar.Header{Name: ".wh.f", Typeflag: file}, tar.Header{Name: "f/", Typeflag: dir, Mode: 0o2711, Uid: 7, Gid: 8}, tar.Header{Name: "f/in", Typeflag: file},
			tar.Header{Name: "o/", Typeflag: dir, Mode: 0o750}, tar.Header{Name: "o/.wh..wh..opq", Typeflag: file}, tar.Header{Name: "o/new", Typeflag: file},
			tar.Header{Name: "usr/.wh.link", Typeflag: file}, tar.Header{Name: "usr/link/", Typeflag: dir, Mode: 0o755}, // a directory in place of a link
			tar.Header{Name: "dev/.wh.null", Typeflag: file}, tar.Header{Name: "dev/zero", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 5, Mode: 0o666}),
		rawLayer(t, append(deep, tar.Header{Name: "srv/link", Typeflag: tar.TypeLink, Linkname: "f/in"}, // hard links to files of the layers below
			tar.Header{Name: "srv/ping", Typeflag: tar.TypeLink, Linkname: "usr/bin/ping"},
			tar.Header{Name: "keep", Typeflag: file, Mode: 0o4755, Uid: 9}, tar.Header{Name: "keep2", Typeflag: tar.TypeLink, Linkname: "keep"},
			tar.Header{Name: "o/in/", Typeflag: dir, Mode: 0o700}, tar.Header{Name: "o/in/again", Typeflag: file},
			tar.Header{Name: "usr/bin/ping2", Typeflag: file, Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}})...)}
	p, err := layout.Write(filepath.Join(at, "layout"), empty.Index)
	if err == nil {
		err = p.AppendImage(mutate.ConfigMediaType(mutate.MediaType(imageOf(t, runtime.GOARCH, layers...), types.OCIManifestSchema1), types.OCIConfigJSON), layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "1"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	shell(t, `cd "$1"; umoci raw unpack --image layout:1 plain`, at)
	s := newStore(t)
	m, err := s.Import(t.Context(), "layers", at+"/layout", nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	merged := mergedImage(t, s, m)
	sameMerged(t, merged, filepath.Join(at, "plain"))
	for name, gone := range map[string]bool{"a/one": true, "a/two": false, "a/sub/deep": true, "o/old": true, "o/in/old": true, "o/in/again": false, "f/in": false, "hard": false, "srv/link": false} {
		if _, err := os.Lstat(merged + "/" + name); gone != (err != nil) {
			t.Errorf("%s is gone: %v, want %v", name, err != nil, gone)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(merged+"/sparse", &st); err != nil || st.Size < 50_000_000 || st.Blocks*512 > 1<<20 {
		t.Errorf("the sparse file has %d bytes and takes %d: %v", st.Size, st.Blocks*512, err)
	}
}
