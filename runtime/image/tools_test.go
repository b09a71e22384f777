//go:build images

package image

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"stead/runtime/roottest"

	"golang.org/x/sys/unix"
)

// The tests of this file compare with umoci, skopeo, mmdebstrap and tar. `make test-images`
// installs them.

// links are those of directories, which overlay does not count.
var links = regexp.MustCompile(`(?m)^(\S* d \d+ \S+) \d+ `)

// rootTime is the time of the root, which a layer may not say.
var rootTime = regexp.MustCompile(`(?m)^( d \d+ \S+) .*$`)

// sameTree compares two directories.
func sameTree(t *testing.T, what, got, want string) {
	t.Helper()
	plain := func(dir string) string {
		return rootTime.ReplaceAllString(links.ReplaceAllString(tree(t, dir), "$1 - "), "$1")
	}
	a, b := plain(got), plain(want)
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

// mergedImage mounts the layers of an image.
func mergedImage(t *testing.T, s *Store, m *Image) string {
	t.Helper()
	at := roottest.TempDir(t, "/var/tmp")
	lower := []string{filepath.Join(at, "empty")}
	target := filepath.Join(at, "merged")
	for _, d := range []string{lower[0], target} {
		if err := os.Mkdir(d, os.FileMode(m.Root.Mode)); err != nil {
			t.Fatal(err)
		}
	}
	var layers []string
	for _, l := range slices.Backward(m.Layers) {
		layers = append(layers, s.layerDir(l.Number))
	}
	// The top layer shows the attributes of the root.
	if err := unix.Mount("overlay", target, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(append(layers, lower[0]), ":")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(target, 0) })
	return target
}

// A Debian with nginx, PostgreSQL and Redis: as an archive it is what tar makes of it, as an image
// with layers what umoci makes of it; skopeo pushes, saves and reads it.
func TestTools(t *testing.T) {
	roottest.Need(t)
	at := roottest.TempDir(t, "/var/tmp")
	file := os.Getenv("STEAD_TEST_DEBIAN") // one that is there already
	if file == "" {
		file = filepath.Join(at, "debian.tar")
		shell(t, `mmdebstrap --quiet --variant=minbase --include=nginx-light,redis-server,postgresql bookworm "$1"`, file)
	}
	s := newStore(t)
	root := filepath.Join(at, "root")
	t.Run("tar", func(t *testing.T) {
		shell(t, `mkdir "$2"; tar --xattrs --xattrs-include='*' --numeric-owner -xpf "$1" -C "$2"`, file, root)
		m, err := s.Import(t.Context(), "debian", file, nil, Options{})
		if err != nil {
			t.Fatal(err)
		}
		sameTree(t, "the layer", s.layerDir(m.Layers[0].Number), root)
	})
	if t.Failed() {
		return
	}
	layout := filepath.Join(at, "layout")
	t.Run("umoci", func(t *testing.T) {
		shell(t, `cd "$1"; umoci init --layout layout; umoci new --image layout:12
			umoci unpack --image layout:12 bundle; rm -rf bundle/rootfs; cp -a root bundle/rootfs; umoci repack --refresh-bundle --image layout:12 bundle
			cd bundle/rootfs; rm -r usr/share/doc; rm etc/motd; rm -r etc/nginx; mkdir -m 700 etc/nginx; echo new > etc/nginx/nginx.conf
			rm -r var/lib/redis; echo file > var/lib/redis; rm etc/os-release; mkdir etc/os-release; ln etc/hostname etc/hostname2; chmod 2755 srv; echo changed >> etc/passwd
			setcap cap_net_raw+ep bin/mount 2>/dev/null || :; touch -h -d @1000000000 var/log
			cd ../..; umoci repack --refresh-bundle --image layout:12 bundle
			echo x > bundle/rootfs/srv/x; rm bundle/rootfs/etc/nginx/nginx.conf; umoci repack --refresh-bundle --image layout:12 bundle
			umoci config --image layout:12 --config.user redis --config.env A=b --config.cmd /usr/bin/redis-server --config.volume /var/lib/postgresql
			umoci unpack --image layout:12 plain`, at)
		m, err := s.Import(t.Context(), "umoci", layout+":12", nil, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if c := m.Config; len(m.Layers) != 3 || c.User != "redis" || !slices.Equal(c.Cmd, []string{"/usr/bin/redis-server"}) || !slices.Equal(c.Volumes, []string{"/var/lib/postgresql"}) {
			t.Errorf("image: %d layers, %+v", len(m.Layers), c)
		}
		sameTree(t, "the merged tree", mergedImage(t, s, m), filepath.Join(at, "plain/rootfs"))
	})
	m, err := s.Lookup("umoci")
	if err != nil {
		t.Fatal(err)
	}
	diffIDs := func(m *Image) (list []string) {
		for _, l := range m.Layers {
			list = append(list, fmt.Sprint(l.Number, l.DiffID))
		}
		return list
	}
	t.Run("skopeo", func(t *testing.T) {
		shell(t, `cd "$1"; skopeo copy -q oci:layout:12 docker-archive:saved.tar:example.com/debian:12`, at)
		saved, err := s.Import(t.Context(), "saved", filepath.Join(at, "saved.tar"), nil, Options{})
		if err != nil || !slices.Equal(diffIDs(saved), diffIDs(m)) {
			t.Errorf("a docker-archive: %+v, %v", saved, err)
		}
		r := newRegistry(t, httptest.NewServer)
		shell(t, `cd "$1"; skopeo copy -q --dest-tls-verify=false --dest-compress-format zstd oci:layout:12 "docker://$2/debian:12"`, at, r.host)
		other := newStore(t)
		pulled, err := other.Pull(t.Context(), r.host+"/debian:12", client(t, r.host), Options{})
		if err != nil {
			t.Fatal(err)
		}
		sameTree(t, "the pulled tree", mergedImage(t, other, pulled), filepath.Join(at, "plain/rootfs"))
	})
	t.Run("export", func(t *testing.T) {
		if err := s.ExportFile(t.Context(), "umoci", filepath.Join(at, "export.tar")); err != nil {
			t.Fatal(err)
		}
		shell(t, `cd "$1"; skopeo copy -q oci-archive:export.tar oci:exported:12; umoci unpack --image exported:12 again`, at)
		sameTree(t, "what umoci makes of the export", filepath.Join(at, "again/rootfs"), filepath.Join(at, "plain/rootfs"))
	})
}
