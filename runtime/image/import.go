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
	if source == "-" {
		return nil, nil, errors.New("not supported yet")
	}
	file, choice, err := splitChoice(source)
	if err != nil {
		return nil, nil, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, nil, err
	}
	if !info.IsDir() {
		return nil, nil, errors.New("archives are not supported yet")
	}
	if _, err := os.Stat(filepath.Join(file, "oci-layout")); err == nil {
		return nil, nil, errors.New("OCI layouts are not supported yet")
	}
	if choice != "" {
		return nil, nil, fmt.Errorf("%s is no image layout, so there is no %q in it", file, choice)
	}
	open := func(ctx context.Context) (io.ReadCloser, error) { return packDirectory(ctx, file) }
	return &found{layers: []blob{{size: -1, plain: true, open: open}}}, func() {}, nil
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
