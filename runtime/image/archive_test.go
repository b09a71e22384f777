package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"stead/runtime/roottest"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func shell(t *testing.T, script string, args ...string) {
	t.Helper()
	if out, err := exec.Command("sh", append([]string{"-ec", script, "sh"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}

// The archive of a root arrives as it was, however it is compressed, from a file and from a
// pipe; one that is cut off is refused, and nothing of it is left.
func TestImportRootArchive(t *testing.T) {
	roottest.Need(t)
	at := roottest.TempDir(t, "/var/tmp")
	dir := filepath.Join(at, "root")
	makeRoot(t, dir)
	want := tree(t, dir)
	for _, c := range []struct{ suffix, tar string }{
		{"tar", "tar --format=pax --sparse"}, {"gnu.tar", "tar --format=gnu --sparse"}, {"tar.gz", "tar -z"}, {"tar.zst", "tar --zstd"}, {"tar.xz", "tar -J"}, {"tar.bz2", "tar -j"},
	} {
		t.Run(c.suffix, func(t *testing.T) {
			file := filepath.Join(at, "root."+c.suffix)
			attributes := "--format=posix --xattrs --xattrs-include='*' "
			if strings.Contains(c.tar, "gnu") {
				attributes = ""
			}
			shell(t, c.tar+" "+attributes+`-c -f "$1" -C "$2" .`, file, dir)
			s := newStore(t)
			m, err := s.Import(t.Context(), "a", file, nil, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got := tree(t, s.layerDir(m.Layers[0].Number)); attributes != "" && got != want {
				t.Errorf("the layer differs:\n%s\nfrom\n%s", got, want)
			}
			whole, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			piped, err := s.Import(t.Context(), "b", "-", bytes.NewReader(whole), Options{Digest: digestOfBytes(whole)})
			if err != nil || piped.Digest != m.Digest {
				t.Errorf("from a pipe: %+v, %v", piped, err)
			}
			for _, n := range []int{0, 5, 700, len(whole) / 2, len(whole) - 30} {
				if c.suffix == "tar" || c.suffix == "gnu.tar" {
					n = min(n, len(whole)/2) / 512 * 512 // between two entries, before the zeros at the end
				}
				s := newStore(t)
				_, err := s.Import(t.Context(), "a", "-", bytes.NewReader(whole[:n]), Options{})
				if err == nil {
					t.Errorf("the first %d bytes of %d were taken for an archive", n, len(whole))
				}
				if left := s.contents(t); len(left) > 0 {
					t.Errorf("left: %q", left)
				}
			}
			if _, err := s.Import(t.Context(), "c", file, nil, Options{Digest: digestOf("1")}); err == nil || !strings.Contains(err.Error(), "has the digest "+digestOfBytes(whole)) {
				t.Errorf("another digest: %v", err)
			}
		})
	}
}

// layerOf makes a layer of a tar with these files.
func layerOf(t *testing.T, files ...string) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f, Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(f))}
		if strings.HasSuffix(f, "/") {
			h.Mode, h.Typeflag, h.Size = 0o755, tar.TypeDir, 0
		} else if strings.Contains(f, ".wh.") {
			h.Size = 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, f[:h.Size])
	}
	w.Close()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// imageOf makes an image for an architecture.
func imageOf(t *testing.T, arch string, layers ...v1.Layer) v1.Image {
	t.Helper()
	m, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", arch
	c.Config = v1.Config{User: "app", Env: []string{"A=b"}, Cmd: []string{"serve"}, Volumes: map[string]struct{}{"/data": {}}, StopSignal: "SIGQUIT"}
	if m, err = mutate.ConfigFile(m, c); err != nil {
		t.Fatal(err)
	}
	return m
}

func digestOfImage(t *testing.T, m partial.WithRawManifest) string {
	t.Helper()
	b, err := m.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	return digestOfBytes(b)
}

// threeLayers is an image whose upper layers change the lower ones.
func threeLayers(t *testing.T) v1.Image {
	return imageOf(t, runtime.GOARCH, layerOf(t, "etc/", "etc/passwd", "etc/old"), layerOf(t, "etc/.wh.old", "srv/new"), layerOf(t, "top"))
}

// checkThreeLayers compares a stored image with threeLayers.
func checkThreeLayers(t *testing.T, s *Store, m *Image) {
	t.Helper()
	var found []string
	for i, l := range m.Layers {
		dir := s.layerDir(l.Number)
		err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				found = append(found, fmt.Sprintf("%d%s %s", i, strings.TrimPrefix(p, dir), d.Type()))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"0/etc/old ----------", "0/etc/passwd ----------", "1/etc/old Dc---------", "1/srv/new ----------", "2/top ----------"}
	if !slices.Equal(found, want) {
		t.Errorf("files: %q, want %q", found, want)
	}
	c := m.Config
	if c.User != "app" || !slices.Equal(c.Env, []string{"A=b"}) || !slices.Equal(c.Cmd, []string{"serve"}) || !slices.Equal(c.Volumes, []string{"/data"}) || c.StopSignal != "SIGQUIT" {
		t.Errorf("configuration: %+v", c)
	}
}

// Layouts and docker-archives, as directory and tar, with one image and with several.
func TestImportImageArchive(t *testing.T) {
	roottest.Need(t)
	at := t.TempDir()
	one := threeLayers(t)
	other := imageOf(t, runtime.GOARCH, layerOf(t, "other"))
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: imageOf(t, "s390x", layerOf(t, "big")), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}}},
		mutate.IndexAddendum{Add: one, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}}},
		mutate.IndexAddendum{Add: other, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}})
	write := func(name string, add func(layout.Path) error) {
		p, err := layout.Write(filepath.Join(at, name), empty.Index)
		if err == nil {
			err = add(p)
		}
		if err != nil {
			t.Fatal(err)
		}
		shell(t, `tar -cf "$1.tar" -C "$1" . && gzip -k "$1.tar"`, filepath.Join(at, name))
	}
	tagged := func(tag string) layout.Option {
		return layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag})
	}
	write("single", func(p layout.Path) error { return p.AppendImage(one) })
	write("platforms", func(p layout.Path) error { return p.AppendIndex(index) })
	write("several", func(p layout.Path) error {
		if err := p.AppendImage(one, tagged("12")); err != nil {
			return err
		}
		return p.AppendImage(other, tagged("13"))
	})
	write("foreign", func(p layout.Path) error { return p.AppendImage(imageOf(t, "s390x", layerOf(t, "x"))) })
	save := func(file string, images map[name.Reference]v1.Image) {
		if err := tarball.MultiRefWriteToFile(filepath.Join(at, file), images); err != nil {
			t.Fatal(err)
		}
	}
	ref := func(s string) name.Reference {
		r, err := name.NewTag(s)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	save("docker.tar", map[name.Reference]v1.Image{ref("example.com/app:1"): one})
	save("dockers.tar", map[name.Reference]v1.Image{ref("example.com/app:1"): one, ref("example.com/app:2"): other})
	shell(t, `gzip -k "$1"`, filepath.Join(at, "docker.tar"))
	for _, c := range []struct{ source, want, digest string }{
		{"single", "", digestOfImage(t, one)},
		{"single.tar", "", digestOfImage(t, one)},
		{"single.tar.gz", "", digestOfImage(t, one)},
		{"platforms", "", digestOfImage(t, one)},
		{"several:12", "", digestOfImage(t, one)},
		{"several.tar:12", "", digestOfImage(t, one)},
		{"several", "choose one as SOURCE:NAME of 12, 13", ""},
		{"several:14", `no image "14" in it; it has 12, 13`, ""},
		{"foreign", "the image is for linux/s390x, this host is linux/" + runtime.GOARCH, ""},
		{"docker.tar", "", ""},
		{"docker.tar.gz", "", ""},
		{"dockers.tar:example.com/app:1", "", ""},
		{"dockers.tar", "choose one as SOURCE:NAME", ""},
	} {
		t.Run(c.source, func(t *testing.T) {
			s := newStore(t)
			m, err := s.Import(t.Context(), "a", filepath.Join(at, c.source), nil, Options{})
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				if left := s.contents(t); len(left) > 0 {
					t.Errorf("left: %q", left)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.digest != "" && m.Digest != c.digest {
				t.Errorf("digest %s, want %s", m.Digest, c.digest)
			}
			checkThreeLayers(t, s, m)
		})
	}
}

// craftedLayout is a layout whose documents are given.
type craftedLayout map[string][]byte

func (c craftedLayout) open(name string) (io.ReadCloser, int64, error) {
	b, ok := c[name]
	if !ok {
		return nil, 0, os.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
}

// Documents that are crafted are refused before any layer is read.
func TestCraftedDocuments(t *testing.T) {
	good := `{"os":"linux","architecture":"` + runtime.GOARCH + `","rootfs":{"type":"layers","diff_ids":[]}}`
	for _, c := range []struct{ summary, config, manifest, want string }{
		{"schema 1", good, `{"schemaVersion":1,"fsLayers":[{"blobSum":"x"}]}`, "Docker schema 1"},
		{"manifest and index", good, `{"schemaVersion":2,"config":CONFIG,"layers":[],"manifests":[]}`, "either a manifest or an index"},
		{"a type that lies", good, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","config":CONFIG,"layers":[]}`, "either a manifest or an index"},
		{"a path as digest", good, `{"schemaVersion":2,"config":CONFIG,"layers":[{"digest":"sha256:../../../etc/passwd","size":1}]}`, "want sha256:"},
		{"a negative size", good, `{"schemaVersion":2,"config":CONFIG,"layers":[{"digest":"` + digestOf("1") + `","size":-1}]}`, "the size -1"},
		{"another number of layers", good, `{"schemaVersion":2,"config":CONFIG,"layers":[{"digest":"` + digestOf("1") + `","size":1}]}`, "1 layers, the configuration 0"},
		{"an artifact", good, `{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"` + digestOf("1") + `","size":1},"layers":[]}`, "not the image of a container"},
		{"another platform", `{"os":"windows","architecture":"amd64"}`, `{"schemaVersion":2,"config":CONFIG,"layers":[]}`, "the image is for windows/amd64"},
		{"a diff ID that is a path", strings.Replace(good, "[]", `["../x"]`, 1), `{"schemaVersion":2,"config":CONFIG,"layers":[]}`, "want sha256:"},
		{"encrypted", strings.Replace(good, "[]", `["`+digestOf("1")+`"]`, 1), `{"schemaVersion":2,"config":CONFIG,"layers":[{"mediaType":"x+encrypted","digest":"` + digestOf("1") + `","size":1}]}`, "is encrypted"},
		{"nothing", good, `{"schemaVersion":2}`, "either a manifest or an index"},
		{"no JSON", good, `<html>`, "read manifest"},
	} {
		t.Run(c.summary, func(t *testing.T) {
			config := digestOfBytes([]byte(c.config))
			descriptor := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, typeOCIConfig, config, len(c.config))
			manifest := []byte(strings.ReplaceAll(c.manifest, "CONFIG", descriptor))
			files := craftedLayout{
				"blobs/sha256/" + strings.TrimPrefix(config, "sha256:"):                  []byte(c.config),
				"blobs/sha256/" + strings.TrimPrefix(digestOfBytes(manifest), "sha256:"): manifest,
				"index.json": []byte(fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"digest":%q,"size":%d}]}`, digestOfBytes(manifest), len(manifest))),
			}
			_, err := findInLayout(context.Background(), files, "")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// A blob that is not what the manifest says fails the import, whatever is wrong with it.
func TestWrongBlob(t *testing.T) {
	roottest.Need(t)
	layer := layerOf(t, "etc/", "etc/passwd")
	digest, err := layer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		summary string
		change  func([]byte) []byte
		want    string
	}{
		{"a bit", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, "layer 1 of 1"},
		{"a byte more", func(b []byte) []byte { return append(b, 0) }, "has more than"},
		{"the same content, another digest", func(b []byte) []byte { b[4] ^= 1; return b }, "has the digest"}, // the time in the header of gzip
		{"a byte less", func(b []byte) []byte { return b[:len(b)-1] }, "layer 1 of 1"},
	} {
		t.Run(c.summary, func(t *testing.T) {
			at := t.TempDir()
			p, err := layout.Write(at, empty.Index)
			if err == nil {
				err = p.AppendImage(imageOf(t, runtime.GOARCH, layer))
			}
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(at, "blobs/sha256", digest.Hex)
			b, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(file, c.change(b), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			s := newStore(t)
			if _, err = s.Import(t.Context(), "a", at, nil, Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if left := s.contents(t); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
	t.Run("a diff ID", func(t *testing.T) {
		at := t.TempDir()
		p, err := layout.Write(at, empty.Index)
		if err != nil {
			t.Fatal(err)
		}
		one := imageOf(t, runtime.GOARCH, layer)
		c, err := one.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		c = c.DeepCopy()
		c.RootFS.DiffIDs[0] = v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("1", 64)}
		changed, err := mutate.ConfigFile(one, c)
		if err == nil {
			err = p.AppendImage(changed)
		}
		if err != nil {
			t.Fatal(err)
		}
		s := newStore(t)
		if _, err = s.Import(t.Context(), "a", at, nil, Options{}); err == nil || !strings.Contains(err.Error(), "(diff ID)") {
			t.Errorf("%v", err)
		}
		if left := s.contents(t); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	})
}

// Layers that are there already are not unpacked again, unless their files depend on other layers
// below.
func TestSharedLayers(t *testing.T) {
	roottest.Need(t)
	s := newStore(t)
	base, change := layerOf(t, "etc/", "etc/passwd"), layerOf(t, "etc/.wh.passwd", "srv/new")
	add := func(name string, layers ...v1.Layer) *Image {
		at := t.TempDir()
		p, err := layout.Write(at, empty.Index)
		if err == nil {
			err = p.AppendImage(imageOf(t, runtime.GOARCH, layers...))
		}
		if err != nil {
			t.Fatal(err)
		}
		m, err := s.Import(t.Context(), name, at, nil, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	a := add("a", base, change)
	b := add("b", base, change, layerOf(t, "top"))
	c := add("c", layerOf(t, "srv/", "x"), change)
	if a.Layers[0] != b.Layers[0] || a.Layers[1] != b.Layers[1] {
		t.Errorf("not shared: %+v and %+v", a.Layers, b.Layers)
	}
	if c.Layers[1].Number == a.Layers[1].Number {
		t.Error("a layer with a whiteout is shared by images with other layers below it")
	}
	if _, err := os.Lstat(s.layerDir(c.Layers[1].Number) + "/etc"); err == nil {
		t.Error("a whiteout of nothing was made")
	}
	if err := s.Remove(t.Context(), "a", nil); err != nil {
		t.Fatal(err)
	}
	if again, err := s.Lookup("b"); err != nil || !s.isComplete(again) {
		t.Errorf("b after the removal of a: %v", err)
	}
	var record json.RawMessage
	if err := readJSON(s.layerFile(b.Layers[0].Number), &record); err != nil {
		t.Error(err)
	}
}
