package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// prefixSize is how much of an archive is looked at to tell what it holds.
const prefixSize = 1 << 20

// findArchive looks at what an archive holds: a root, an image layout or a docker-archive. in is
// read once; file is set if it can be read at random. The caller must call done.
func (s *Store) findArchive(ctx context.Context, in io.Reader, file *os.File, choice string, o Options) (f *found, done func(), err error) {
	buffered := bufio.NewReaderSize(in, prefixSize)
	prefix, err := buffered.Peek(prefixSize)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	first, compressed, err := firstName(prefix)
	if err != nil {
		return nil, nil, fmt.Errorf("not an archive: %w", err)
	}
	if !isOfImage(first) {
		if choice != "" {
			return nil, nil, fmt.Errorf("it is the archive of a root, so there is no %q in it", choice)
		}
		size := int64(-1)
		if file != nil {
			if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
				size = info.Size()
			}
		}
		open := func(context.Context) (io.ReadCloser, error) { return io.NopCloser(buffered), nil }
		return &found{layers: []blob{{size: size, digest: o.Digest, plain: true, open: open}}}, func() {}, nil
	}
	done = func() {}
	if file == nil || compressed {
		if file, done, err = s.spool(ctx, buffered, o); err != nil {
			return nil, nil, err
		}
	} else if err := checkFile(ctx, file, o.Digest); err != nil {
		return nil, nil, err
	}
	if f, err = findInArchive(ctx, file, choice); err != nil {
		done()
		return nil, nil, err
	}
	return f, done, nil
}

// findInArchive returns the image in a tar.
func findInArchive(ctx context.Context, file *os.File, choice string) (*found, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	in, err := indexTar(file, info.Size())
	if err != nil {
		return nil, err
	}
	switch {
	case has(in, "oci-layout"):
		return findInLayout(ctx, in, choice)
	case has(in, "manifest.json"):
		return findInDockerArchive(in, choice)
	}
	return nil, errors.New("it looks like the archive of an image, and has neither oci-layout nor manifest.json")
}

func has(in *tarFiles, name string) bool {
	_, ok := in.files[name]
	return ok
}

// firstName returns the name of the first file, besides the root, in a tar of which the
// beginning is given.
func firstName(prefix []byte) (name string, compressed bool, err error) {
	inside, compressed, err := decompress(bufio.NewReader(bytes.NewReader(prefix)))
	if err != nil {
		return "", compressed, err
	}
	defer inside.Close()
	for r := tar.NewReader(inside); name == ""; {
		h, err := r.Next()
		if err == io.EOF && len(prefix) == 0 {
			return "", compressed, errors.New("it is empty")
		}
		if err == io.EOF { // an empty root
			break
		}
		if err != nil {
			return "", compressed, err
		}
		name = path.Clean("/" + h.Name)[1:]
	}
	return name, compressed, nil
}

// isOfImage reports whether the first file of an archive is one of a layout or docker-archive.
func isOfImage(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	switch first {
	case "blobs", "oci-layout", "index.json", "manifest.json", "repositories":
		return true
	}
	for _, part := range []string{".gz", ".tar", ".json"} {
		first = strings.TrimSuffix(first, part)
	}
	_, err := parseDigest("sha256:" + strings.TrimPrefix(first, "sha256:"))
	return err == nil
}

// spool decompresses an archive into a file of the store that has no name, so that it is gone
// with its last user.
func (s *Store) spool(ctx context.Context, in *bufio.Reader, o Options) (file *os.File, done func(), err error) {
	tmp := filepath.Join(s.dir, "tmp")
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return nil, nil, err
	}
	file, err = os.CreateTemp(tmp, "archive-")
	if err != nil {
		return nil, nil, err
	}
	os.Remove(file.Name())
	limit := orDefault(o.MaxBytes, DefaultMaxBytes)
	outer := &hashedReader{ctx: ctx, r: in, sum: sha256.New(), limit: -1}
	buffered := bufio.NewReaderSize(outer, 256<<10)
	inside, _, err := decompress(buffered)
	if err == nil {
		_, err = io.Copy(file, &hashedReader{ctx: ctx, r: inside, limit: limit, inside: true})
		inside.Close()
	}
	if err == nil {
		_, err = io.Copy(io.Discard, buffered)
	}
	if err == nil && o.Digest != "" && outer.digest() != o.Digest {
		err = fmt.Errorf("the archive has the digest %s, want %s", outer.digest(), o.Digest)
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, func() { file.Close() }, nil
}

// checkFile checks the digest of a file.
func checkFile(ctx context.Context, file *os.File, want string) error {
	if want == "" {
		return nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, &hashedReader{ctx: ctx, r: io.NewSectionReader(file, 0, 1<<62), limit: -1}); err != nil {
		return err
	}
	if digest := "sha256:" + hex.EncodeToString(sum.Sum(nil)); digest != want {
		return fmt.Errorf("the archive has the digest %s, want %s", digest, want)
	}
	return nil
}
