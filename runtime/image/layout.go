package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// files are those of a layout or a docker-archive, in a directory or a tar.
type files interface {
	open(name string) (f io.ReadCloser, size int64, err error)
}

// dirFiles are the files of a directory. No link leads out of it.
type dirFiles struct{ root *os.Root }

func (d dirFiles) open(name string) (io.ReadCloser, int64, error) {
	info, err := d.root.Stat(name) // before it is opened: a FIFO would block
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a regular file", name)
	}
	f, err := d.root.Open(name)
	return f, info.Size(), err
}

// tarFiles are the files in a tar that can be read at random.
type tarFiles struct {
	r     io.ReaderAt
	files map[string]tarFile
}

type tarFile struct {
	offset, size int64
	link         string // of a symbolic link
}

// maxArchived limits the files in the archive of an image: layers and documents.
const maxArchived = 20000

// indexTar reads where the files of a tar are.
func indexTar(r io.ReaderAt, size int64) (*tarFiles, error) {
	section := io.NewSectionReader(r, 0, size)
	t := &tarFiles{r: r, files: map[string]tarFile{}}
	for in := tar.NewReader(section); ; {
		h, err := in.Next()
		if err == io.EOF {
			return t, nil
		}
		if err != nil {
			return nil, err
		}
		name := path.Clean("/" + h.Name)[1:]
		if _, ok := t.files[name]; ok {
			return nil, fmt.Errorf("the archive has two files %.200q", name)
		}
		if len(t.files) == maxArchived {
			return nil, fmt.Errorf("the archive of an image has more than %d files", maxArchived)
		}
		switch h.Typeflag {
		case tar.TypeReg:
			at, err := section.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, err
			}
			t.files[name] = tarFile{offset: at, size: h.Size}
		case tar.TypeSymlink: // docker save has them for layers that occur twice
			t.files[name] = tarFile{link: path.Join("/"+path.Dir(name), h.Linkname)[1:]}
		}
	}
}

func (t *tarFiles) open(name string) (io.ReadCloser, int64, error) {
	f, ok := t.files[path.Clean("/" + name)[1:]]
	if ok && f.link != "" {
		f, ok = t.files[f.link]
	}
	if !ok || f.link != "" {
		return nil, 0, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(io.NewSectionReader(t.r, f.offset, f.size)), f.size, nil
}

// readFile reads a small file.
func readFile(from files, name string) ([]byte, error) {
	f, size, err := from.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > maxDocument {
		return nil, fmt.Errorf("%s has more than %d bytes", name, maxDocument)
	}
	return io.ReadAll(f)
}

// ociLayout is an image layout (image-spec, image-layout.md).
type ociLayout struct{ files }

func (l ociLayout) blob(d descriptor) (io.ReadCloser, error) {
	sum, err := parseDigest(d.Digest)
	if err != nil {
		return nil, err
	}
	f, _, err := l.open("blobs/sha256/" + sum)
	return f, err
}

func (l ociLayout) document(_ context.Context, d descriptor) ([]byte, error) {
	f, err := l.blob(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readDocument(f, d)
}

func (l ociLayout) layer(_ context.Context, d descriptor) (io.ReadCloser, error) { return l.blob(d) }

// findInLayout returns the image of a layout that choice names, or its only one.
func findInLayout(ctx context.Context, from files, choice string) (*found, error) {
	b, err := readFile(from, "index.json")
	if err != nil {
		return nil, err
	}
	index, err := parseDocument(b)
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	var fit []descriptor
	var names []string
	for _, m := range index.Manifests {
		if m.Platform != nil && (m.Platform.OS != "linux" || !slices.Contains(variants[m.Platform.Architecture], m.Platform.Variant)) && len(index.Manifests) > 1 {
			continue
		}
		tags := namesOf(m)
		if choice == "" || slices.Contains(tags, choice) {
			fit = append(fit, m)
		}
		names = append(names, tags...)
	}
	fit = slices.CompactFunc(fit, func(a, b descriptor) bool { return a.Digest == b.Digest })
	if len(fit) != 1 {
		return nil, choiceError(choice, len(fit), names)
	}
	l := ociLayout{from}
	if b, err = l.document(ctx, fit[0]); err != nil {
		return nil, err
	}
	return resolve(ctx, l, fit[0].Digest, b)
}

// namesOf returns the names by which an image of a layout can be chosen.
func namesOf(m descriptor) (names []string) {
	for _, key := range []string{"org.opencontainers.image.ref.name", "io.containerd.image.name"} {
		if name := m.Annotations[key]; name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// choiceError says which images there are to choose from.
func choiceError(choice string, fit int, names []string) error {
	switch {
	case choice != "" && fit == 0:
		return fmt.Errorf("no image %q in it; it has %s", choice, orNone(names))
	case fit == 0:
		return errors.New("there is no image in it")
	}
	return fmt.Errorf("there are several images in it; choose one as SOURCE:NAME of %s", strings.Join(names, ", "))
}

// dockerImage is an entry of manifest.json in a docker-archive.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// findInDockerArchive returns the image of a docker-archive (docker save) that choice names, or
// its only one. Its layers are checked against the configuration, which is checked against its
// name.
func findInDockerArchive(from files, choice string) (*found, error) {
	b, err := readFile(from, "manifest.json")
	if err != nil {
		return nil, err
	}
	var all, fit []dockerImage
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	var names []string
	for _, m := range all {
		if choice == "" || slices.Contains(m.RepoTags, choice) {
			fit = append(fit, m)
		}
		names = append(names, m.RepoTags...)
	}
	if len(fit) != 1 {
		return nil, choiceError(choice, len(fit), names)
	}
	f := &found{}
	if f.config, err = readFile(from, fit[0].Config); err != nil {
		return nil, err
	}
	sum := strings.TrimSuffix(path.Base(fit[0].Config), ".json")
	if _, err := parseDigest("sha256:" + sum); err == nil && digestOfBytes(f.config) != "sha256:"+sum {
		return nil, fmt.Errorf("%s has the digest %s", fit[0].Config, digestOfBytes(f.config))
	}
	config, err := readConfig(f.config)
	if err != nil {
		return nil, err
	}
	if len(config.RootFS.DiffIDs) != len(fit[0].Layers) {
		return nil, fmt.Errorf("manifest.json has %d layers, the configuration %d", len(fit[0].Layers), len(config.RootFS.DiffIDs))
	}
	for i, name := range fit[0].Layers {
		file, size, err := from.open(name)
		if err != nil {
			return nil, err
		}
		file.Close()
		f.layers = append(f.layers, blob{size: size, diffID: config.RootFS.DiffIDs[i], open: func(context.Context) (io.ReadCloser, error) {
			file, _, err := from.open(name)
			return file, err
		}})
	}
	return f, nil
}
