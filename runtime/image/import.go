package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Import adds an image under a local name. The source is a directory (a root, or an image in the
// OCI layout), an archive, or "-" for an archive from in. SOURCE:NAME chooses one of several images
// in a layout or archive. Import runs in this process.
func (s *Store) Import(ctx context.Context, name, source string, in io.Reader, o Options) (*Image, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	release, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	f, done, err := s.find(ctx, source, in, o)
	if err != nil {
		return nil, explain(fmt.Errorf("import %s: %w", source, err))
	}
	defer done()
	m, err := s.add(ctx, f, ref{Name: name, Source: source, Asked: o.Digest}, o)
	if err != nil {
		return nil, explain(fmt.Errorf("import %s: %w", source, err))
	}
	return m, nil
}

// begin deletes what died jobs have left and takes a lease.
func (s *Store) begin(ctx context.Context) (release func(), err error) {
	if err := s.Recover(ctx); err != nil {
		return nil, fmt.Errorf("clean up images: %w", err)
	}
	return s.Lease(ctx)
}

// CheckName returns an error if a name is not one of a local image.
func CheckName(name string) error {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	if name == "" || len(name) > 63 || strings.Trim(name, letters+"-._") != "" || strings.Trim(name[:1]+name[len(name)-1:], letters) != "" {
		return fmt.Errorf("image name %.100q: want at most 63 of a-z, 0-9, '-', '.' and '_', with a letter or digit at both ends", name)
	}
	return nil
}

// find looks at what a source holds. The caller must call done when the image is added.
func (s *Store) find(ctx context.Context, source string, in io.Reader, o Options) (f *found, done func(), err error) {
	if o.Digest != "" {
		if _, err := parseDigest(o.Digest); err != nil {
			return nil, nil, err
		}
	}
	if source == "-" {
		return s.findArchive(ctx, in, nil, "", o)
	}
	path, choice, err := splitChoice(source)
	if err != nil {
		return nil, nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if !info.IsDir() {
		return s.findInFile(ctx, path, choice, o)
	}
	if _, err := os.Stat(filepath.Join(path, "oci-layout")); err == nil {
		root, err := os.OpenRoot(path)
		if err != nil {
			return nil, nil, err
		}
		f, err := findInLayout(ctx, dirFiles{root}, choice)
		if err == nil && o.Digest != "" && f.digest != o.Digest && f.index != o.Digest {
			err = fmt.Errorf("the image has the digest %s, want %s", f.digest, o.Digest)
		}
		if err != nil {
			root.Close()
			return nil, nil, err
		}
		return f, func() { root.Close() }, nil
	}
	if choice != "" {
		return nil, nil, fmt.Errorf("%s is no image layout, so there is no %q in it", path, choice)
	}
	if o.Digest != "" {
		return nil, nil, errors.New("a directory has no digest to compare with; import an archive")
	}
	open := func(ctx context.Context) (io.ReadCloser, error) { return packDirectory(ctx, path) }
	return &found{layers: []blob{{size: -1, plain: true, open: open}}}, func() {}, nil
}

// findInFile looks at what an archive in a file holds.
func (s *Store) findInFile(ctx context.Context, path, choice string, o Options) (*found, func(), error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	random := file
	if !info.Mode().IsRegular() { // a FIFO
		random = nil
	}
	f, done, err := s.findArchive(ctx, file, random, choice, o)
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return f, func() { done(); file.Close() }, nil
}

// splitChoice splits SOURCE:NAME. A file that has the whole name comes first.
func splitChoice(source string) (file, choice string, err error) {
	for file = source; ; {
		if _, err := os.Lstat(file); err == nil {
			return file, choice, nil
		}
		i := strings.LastIndexByte(file, ':')
		if i <= 0 {
			_, err := os.Stat(source)
			return "", "", err
		}
		file, choice = source[:i], source[i+1:]
	}
}
