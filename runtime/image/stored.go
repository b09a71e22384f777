package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"stead/runtime/status"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// storedCache is what Stored returned last, and the state of the directories that it was read
// from. A change of a record changes its directory, as records are replaced by a rename.
type storedCache struct {
	mu     sync.Mutex
	stamps [2]dirStamp
	last   *status.Images
}

// dirStamp is a state of a directory.
type dirStamp struct {
	ino, mtime uint64
	racy       bool // a later change may leave the same state
}

// racyFor is the time for which a change may not be seen in the times of a directory.
const racyFor = 50 * time.Millisecond

// Stored returns the images of this host that are complete. It reads the records only when the
// directories have changed. The value is never changed.
func (s *Store) Stored() (*status.Images, error) {
	c := &s.stored
	c.mu.Lock()
	defer c.mu.Unlock()
	var now [2]dirStamp
	for i, dir := range []string{"refs", "images"} {
		var err error
		if now[i], err = stampOf(filepath.Join(s.dir, dir)); err != nil {
			return nil, fmt.Errorf("look at images: %w", err)
		}
	}
	if c.last != nil && now == c.stamps && !now[0].racy && !now[1].racy {
		return c.last, nil
	}
	images, refs, err := s.read()
	if err != nil {
		return nil, err
	}
	list := &status.Images{ByName: make(map[string]status.Image, len(refs)), Digests: make(map[string]bool, len(images))}
	configs := make(map[string]*spec.ImageConfig, len(images))
	for _, m := range images {
		list.Digests[m.Digest], configs[m.Digest] = true, &m.Config
	}
	for _, r := range refs {
		if list.Digests[r.Digest] {
			list.ByName[r.Name] = status.Image{Config: configs[r.Digest], Name: r.Name, Digest: r.Digest, Index: r.Index, Source: r.Source, Asked: r.Asked, Superseded: r.Superseded}
		}
	}
	c.stamps, c.last = now, list
	return list, nil
}

// stampOf returns the state of a directory; the zero value if it is not there.
func stampOf(dir string) (dirStamp, error) {
	var st unix.Stat_t
	err := unix.Stat(dir, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return dirStamp{}, nil
	}
	if err != nil {
		return dirStamp{}, &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	changed := time.Unix(st.Mtim.Unix())
	return dirStamp{st.Ino, uint64(st.Mtim.Nano()), time.Since(changed) < racyFor}, nil
}

// Name gives an image another name, as if it had been pulled or imported under it for that source
// and digest.
func (s *Store) Name(ctx context.Context, m *Image, name, source, asked string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	release, err := s.Lease(ctx)
	if err != nil {
		return err
	}
	defer release()
	if _, err := s.ByDigest(m.Digest); err != nil { // deleted meanwhile
		return err
	}
	return s.commitImage(m, ref{Name: name, Digest: m.Digest, Index: m.Index, Source: source, Asked: asked, UpdatedAt: time.Now().UTC()})
}

// Use has the containers of a name move to the image that it stands for now.
func (s *Store) Use(ctx context.Context, name string) error {
	release, err := s.Lease(ctx)
	if err != nil {
		return err
	}
	defer release()
	var r ref
	if err := readJSON(s.refFile(name), &r); err != nil {
		return fmt.Errorf("image %s: %w", name, ErrNotFound)
	}
	r.Superseded = r.Earlier
	return writeJSON(s.refFile(name), r)
}
