package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"stead/runtime/fault"
	"stead/runtime/image/unpack"

	"golang.org/x/sys/unix"
)

// Limits of what one image may unpack to, and of its layers. Overlay mounts at most 500.
const (
	DefaultMaxBytes   = 100 << 30
	DefaultMaxEntries = 5_000_000
	maxLayers         = 400
)

// parallel is how many layers are unpacked at a time.
const parallel = 3

// Progress is how far a pull or import has come, in bytes of its source. Total is 0 as long as
// it is unknown.
type Progress struct {
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
}

// Options are those of a pull or import.
type Options struct {
	MaxBytes   int64 `json:"maxBytes,omitempty"`   // 0 means DefaultMaxBytes
	MaxEntries int64 `json:"maxEntries,omitempty"` // 0 means DefaultMaxEntries
	// Digest is what the source must have: of the manifest or index in a registry or layout, of the
	// file for an archive, of the image for a directory. "" means any.
	Digest string `json:"digest,omitempty"`
	// Progress is called at most every 100 ms, and at the end. It may be nil.
	Progress func(Progress) `json:"-"`
}

// found is an image in its source, before it is unpacked.
type found struct {
	config        []byte // nil for a root, whose configuration is made
	digest, index string // "" if made
	layers        []blob
}

// add adds an image to the store. The caller holds a lease.
func (s *Store) add(ctx context.Context, f *found, r ref, o Options) (*Image, error) {
	if len(f.layers) == 0 || len(f.layers) > maxLayers {
		return nil, fmt.Errorf("the image has %d layers, want 1 to %d", len(f.layers), maxLayers)
	}
	records, err := s.addLayers(ctx, f.layers, o)
	if err != nil {
		return nil, err
	}
	if f.config == nil {
		if f.config, err = makeConfig(records); err != nil {
			return nil, err
		}
	}
	if f.digest == "" {
		if f.digest, err = makeDigest(f.config, records); err != nil {
			return nil, err
		}
	}
	config, err := parseConfig(f.config)
	if err != nil {
		return nil, err
	}
	m := &Image{Digest: f.digest, Config: config, OCIConfig: json.RawMessage(f.config), Source: r.Source, CreatedAt: time.Now().UTC(), Root: RootDir{Mode: 0o755}}
	for _, l := range records {
		if l.OpaqueRoot {
			m.Layers, m.Size, m.HighestID, m.HighestIDPath, m.Root = nil, 0, 0, "", RootDir{Mode: 0o755}
		}
		m.Layers, m.Size = append(m.Layers, l.Layer), m.Size+l.Size
		if l.HighestID > m.HighestID {
			m.HighestID, m.HighestIDPath = l.HighestID, l.HighestIDPath
		}
		if l.HasRoot {
			var st unix.Stat_t
			if err := unix.Lstat(s.layerDir(l.Number), &st); err != nil {
				return nil, &os.PathError{Op: "lstat", Path: s.layerDir(l.Number), Err: err}
			}
			m.Root = RootDir{Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid}
		}
	}
	if old, err := s.ByDigest(m.Digest); err == nil && s.isComplete(old) {
		m.CreatedAt = old.CreatedAt
	}
	r.Digest, r.Index, r.UpdatedAt = m.Digest, f.index, time.Now().UTC()
	fault.Point("image-layers-complete")
	return m, s.commitImage(m, r)
}

// addLayers puts all layers of an image into the store. A layer that fails does not take
// those with it that are complete: the next try goes on from there.
func (s *Store) addLayers(ctx context.Context, blobs []blob, o Options) ([]*layerRecord, error) {
	tmp, err := s.makeTmp()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a := &adding{
		Store: s, tmp: tmp, blobs: blobs, records: make([]*layerRecord, len(blobs)), unpacked: make([]*unpackedLayer, len(blobs)),
		budget: &unpack.Budget{Bytes: orDefault(o.MaxBytes, DefaultMaxBytes), Entries: orDefault(o.MaxEntries, DefaultMaxEntries)},
		meter:  newMeter(blobs, o.Progress), slots: make(chan struct{}, parallel), ready: make([]chan error, len(blobs)),
	}
	var all sync.WaitGroup
	for i := range blobs {
		a.ready[i] = make(chan error, 1)
		all.Go(func() {
			err := a.unpack(ctx, i)
			if err != nil {
				cancel(err)
			}
			a.ready[i] <- err
		})
	}
	err = a.finish()
	if err != nil {
		cancel(err)
	}
	all.Wait()
	a.meter.end()
	for _, l := range a.unpacked {
		if l != nil {
			l.Close()
		}
	}
	if err != nil {
		return nil, context.Cause(ctx) // the first failure
	}
	return a.records, nil
}

func orDefault(n, fallback int64) int64 {
	if n > 0 {
		return n
	}
	return fallback
}

// makeTmp makes a directory for what is not finished.
func (s *Store) makeTmp() (string, error) {
	dir := filepath.Join(s.dir, "tmp")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make directory for layers: %w", err)
	}
	return os.MkdirTemp(dir, "")
}

// adding is the work of addLayers.
type adding struct {
	*Store
	tmp      string
	blobs    []blob
	budget   *unpack.Budget
	meter    *meter
	slots    chan struct{} // holds one for each layer that is being unpacked
	ready    []chan error  // by layer: it is unpacked, or why not
	commit   sync.Mutex    // held while a layer is added to the store
	records  []*layerRecord
	unpacked []*unpackedLayer // layers that wait for those below
}

// below returns the digests of the content of the layers below one, or ok false if the source
// does not say them.
func (a *adding) below(i int) []string {
	var below []string
	for _, b := range a.blobs[:i] {
		below = append(below, b.diffID)
	}
	return below
}

func (a *adding) dir(i int) string { return filepath.Join(a.tmp, strconv.Itoa(i)) }

// unpack unpacks a layer, and adds it to the store unless it has to wait for those below.
func (a *adding) unpack(ctx context.Context, i int) error {
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	b := a.blobs[i]
	if b.diffID != "" {
		r, err := a.findLayer(b.diffID, a.below(i), b.plain)
		if r != nil || err != nil {
			a.records[i] = r
			a.meter.skip(b.size)
			return err
		}
	}
	var l *unpackedLayer
	var err error
	for try := range max(b.tries, 1) {
		if try > 0 { // another mirror may have a good one
			if err := os.RemoveAll(a.dir(i)); err != nil {
				return err
			}
		}
		if err := os.Mkdir(a.dir(i), 0o700); err != nil {
			return err
		}
		l, err = unpackBlob(ctx, a.dir(i), b, a.budget, a.meter.read)
		var limit *unpack.LimitError
		if err == nil || ctx.Err() != nil || errors.As(err, &limit) || errors.Is(err, unix.ENOSPC) {
			break
		}
	}
	if err != nil {
		if b.plain {
			return err
		}
		return fmt.Errorf("layer %d of %d (%s): %w", i+1, len(a.blobs), nameOf(b), err)
	}
	a.unpacked[i] = l
	fault.Point("image-layer-unpacked")
	if l.NeedsLowers() {
		return nil
	}
	return a.add(i, nil)
}

func nameOf(b blob) string {
	if b.digest != "" {
		return b.digest
	}
	return b.diffID
}

// finish finishes the layers that depend on those below, from the bottom up.
func (a *adding) finish() error {
	var lowers []string
	for i := range a.blobs {
		if err := <-a.ready[i]; err != nil {
			return err
		}
		if a.records[i] == nil {
			if err := a.add(i, lowers); err != nil {
				return err
			}
		}
		lowers = append(lowers, a.layerDir(a.records[i].Number))
	}
	return nil
}

// add finishes a layer and adds it to the store.
func (a *adding) add(i int, lowers []string) error {
	below := ""
	if a.unpacked[i].NeedsLowers() { // on other layers, marks that Finish leaves out here would count
		below = chain(a.below(i))
	}
	if err := a.unpacked[i].Finish(lowers); err != nil {
		return fmt.Errorf("layer %d of %d: %w", i+1, len(a.blobs), err)
	}
	a.commit.Lock()
	defer a.commit.Unlock()
	if r, err := a.findLayer(a.unpacked[i].diffID, a.below(i), a.blobs[i].plain); r != nil || err != nil {
		a.records[i] = r
		return err
	}
	r, err := a.commitLayer(a.dir(i), a.unpacked[i], below, a.blobs[i].plain)
	a.records[i] = r
	return err
}

// meter adds up the progress of several layers.
type meter struct {
	report func(Progress)
	mu     sync.Mutex
	now    Progress
	last   time.Time
}

func newMeter(blobs []blob, report func(Progress)) *meter {
	m := &meter{report: report}
	if slices.ContainsFunc(blobs, func(b blob) bool { return b.size < 0 }) {
		return m
	}
	for _, b := range blobs {
		m.now.Total += b.size
	}
	return m
}

func (m *meter) read(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now.Done += n; m.report != nil && time.Since(m.last) >= 100*time.Millisecond {
		m.last = time.Now()
		m.report(m.now)
	}
}

// skip counts a layer that is there already.
func (m *meter) skip(size int64) { m.read(max(size, 0)) }

func (m *meter) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.report != nil {
		m.report(m.now)
	}
}

// explain adds what to do to an error that has a remedy.
func explain(err error) error {
	var limit *unpack.LimitError
	switch {
	case errors.As(err, &limit) && limit.What == "entries":
		return fmt.Errorf("%w; to allow more: --max-entries", err)
	case errors.As(err, &limit):
		return fmt.Errorf("%w; to allow more: --max-size", err)
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w; what was unpacked is deleted again; make space, for example with stead image prune", err)
	}
	return err
}
