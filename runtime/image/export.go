package image

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
)

// ExportFile writes an image to a file of mode 0600, which appears when it is complete: layers
// hold files that other users of the host must not read. To a device or pipe it just writes.
func (s *Store) ExportFile(ctx context.Context, name, file string) error {
	if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
		out, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("export %s: %w", name, err)
		}
		defer out.Close()
		if err := s.Export(ctx, name, out); err != nil {
			return err
		}
		return out.Close()
	}
	out, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"~")
	if err != nil {
		return fmt.Errorf("export %s: %w", name, err)
	}
	defer os.Remove(out.Name())
	defer out.Close()
	if err := s.Export(ctx, name, out); err != nil {
		return err
	}
	if err = out.Sync(); err == nil {
		err = os.Rename(out.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("export %s: %w", name, err)
	}
	return nil
}

// Export writes an image as a tar in the OCI layout. Its layers are packed anew, so its digest
// is another than that of the image that was pulled.
func (s *Store) Export(ctx context.Context, name string, w io.Writer) error {
	release, err := s.Lease(ctx)
	if err != nil {
		return err
	}
	defer release()
	m, err := s.Lookup(name)
	if err != nil {
		return err
	}
	tmp, err := s.makeTmp()
	if err == nil {
		defer os.RemoveAll(tmp)
		buffered := bufio.NewWriterSize(w, 256<<10)
		e := &exporter{Store: s, ctx: ctx, tmp: tmp, out: tar.NewWriter(buffered)}
		if err = e.image(m); err == nil {
			err = e.out.Close()
		}
		if err == nil {
			err = buffered.Flush()
		}
	}
	if err != nil {
		return explain(fmt.Errorf("export %s: %w", name, err))
	}
	return nil
}

// exporter writes a layout.
type exporter struct {
	*Store
	ctx context.Context
	tmp string
	out *tar.Writer
}

func (e *exporter) image(m *Image) error {
	if err := e.file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	manifest := document{SchemaVersion: 2, MediaType: typeOCIManifest, Layers: []descriptor{}}
	diffIDs := []string{}
	for _, l := range m.Layers {
		d, diffID, err := e.layer(l)
		if err != nil {
			return fmt.Errorf("layer %d: %w", l.Number, err)
		}
		manifest.Layers, diffIDs = append(manifest.Layers, d), append(diffIDs, diffID)
	}
	config := map[string]any{}
	if err := json.Unmarshal(m.OCIConfig, &config); err != nil {
		return err
	}
	config["rootfs"] = map[string]any{"type": "layers", "diff_ids": diffIDs}
	delete(config, "history") // it counts the layers
	c, err := e.document(typeOCIConfig, config)
	if err != nil {
		return err
	}
	manifest.Config = &c
	d, err := e.document(typeOCIManifest, manifest)
	if err != nil {
		return err
	}
	d.Annotations = map[string]string{"org.opencontainers.image.ref.name": m.Name}
	b, err := json.Marshal(document{SchemaVersion: 2, MediaType: typeOCIIndex, Manifests: []descriptor{d}})
	if err != nil {
		return err
	}
	return e.file("index.json", b)
}

// document writes a document as a blob.
func (e *exporter) document(mediaType string, v any) (descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return descriptor{}, err
	}
	d := descriptor{MediaType: mediaType, Digest: digestOfBytes(b), Size: int64(len(b))}
	return d, e.file(blobName(d.Digest), b)
}

func blobName(digest string) string {
	return "blobs/sha256/" + strings.TrimPrefix(digest, "sha256:")
}

func (e *exporter) file(name string, content []byte) error {
	if err := e.header(name, int64(len(content))); err != nil {
		return err
	}
	_, err := e.out.Write(content)
	return err
}

func (e *exporter) header(name string, size int64) error {
	return e.out.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)})
}

// layer writes a layer as a blob. It is packed into a file first, as a tar begins with the size.
func (e *exporter) layer(l Layer) (d descriptor, diffID string, err error) {
	var r layerRecord
	if err := readJSON(e.layerFile(l.Number), &r); err != nil {
		return d, "", err
	}
	file, err := os.CreateTemp(e.tmp, "layer")
	if err != nil {
		return d, "", err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	inner, outer := sha256.New(), sha256.New()
	compressed, err := gzip.NewWriterLevel(io.MultiWriter(file, outer), gzip.BestSpeed)
	if err != nil {
		return d, "", err
	}
	dir, err := os.Open(e.layerDir(l.Number))
	if err != nil {
		return d, "", err
	}
	defer dir.Close()
	buffered := bufio.NewWriterSize(io.MultiWriter(compressed, inner), 256<<10)
	p := newPacker(e.ctx, buffered)
	p.whiteouts, p.noRoot = !r.Plain, !r.HasRoot && !r.OpaqueRoot
	if err := p.pack(dir); err != nil {
		return d, "", err
	}
	if err := buffered.Flush(); err != nil {
		return d, "", err
	}
	if err := compressed.Close(); err != nil {
		return d, "", err
	}
	size, err := file.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return d, "", err
	}
	d = descriptor{MediaType: typeOCILayer + "+gzip", Digest: "sha256:" + hex.EncodeToString(outer.Sum(nil)), Size: size}
	if err := e.header(blobName(d.Digest), size); err != nil {
		return d, "", err
	}
	_, err = io.Copy(e.out, &hashedReader{ctx: e.ctx, r: file, limit: -1})
	return d, "sha256:" + hex.EncodeToString(inner.Sum(nil)), err
}
