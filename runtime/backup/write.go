package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"stead/runtime/cgroup"
	"stead/runtime/fault"
	"stead/runtime/keeper"
	"stead/runtime/record"

	"golang.org/x/sys/unix"
)

// Request is what to back up.
type Request struct {
	Index Index
	// Manifest, Applied and DropIns are those of the index.
	Manifest, Applied string
	DropIns           []string

	Dirs     []string // the directory of each tree of the index
	Runs     []Run    // are frozen: that of the container, if it runs, and of others that write its volumes
	Unfrozen bool     // nothing is frozen, though it may run
	RunDir   string   // of the keeper
	Record   string   // the directory of the container; if its facts change meanwhile, the backup fails
	// Check is called when all is copied and Runs still stand still, unless it is nil.
	Check func() error `json:"-"`
	// MaxFreeze is how long the container may stand still.
	MaxFreeze time.Duration
	// Output is the file to make, which must not exist; "" writes to stdout.
	Output  string
	Scratch string // a directory for files without a name

	between func() // of tests: called after the first copy
}

// Run is a run of a container that is to be frozen.
type Run struct {
	ID     string
	Cgroup string // directory in the cgroup2 hierarchy
}

// Result is what a backup came to.
type Result struct {
	File   string        `json:"file,omitempty"`
	Size   int64         `json:"size"`   // of the archive
	Bytes  int64         `json:"bytes"`  // that were copied
	Frozen time.Duration `json:"frozen"` // how long the container stood still
	Notes  []Note        `json:"notes,omitempty"`
}

// TooLongError is returned for a container that would have to stand still for too long.
type TooLongError struct {
	Changed int64         // bytes that changed since they were copied
	Needs   time.Duration // 0 if it was tried
	Limit   time.Duration
}

func (e *TooLongError) Error() string {
	if e.Needs == 0 {
		return fmt.Sprintf("copying what had changed took longer than --max-freeze %v; the container goes on, and there is no backup; allow more, or back up when it writes less", e.Limit)
	}
	return fmt.Sprintf("%d MiB changed since they were copied: the container would have to stand still for about %v, more than --max-freeze %v; it was not frozen, and there is no backup; allow more, or back up when it writes less",
		e.Changed>>20, e.Needs.Round(100*time.Millisecond), e.Limit)
}

// Write makes an archive. Nothing of it is visible before it is complete, on disk and verified.
func Write(ctx context.Context, q *Request, progress func(bytes int64)) (*Result, error) {
	q.Index.Format, q.Index.Version = Format, Version
	q.Index.Manifest, q.Index.Applied, q.Index.DropIns = q.Manifest, q.Applied, q.DropIns
	q.Index.Frozen = len(q.Runs) > 0
	if q.Output == "" {
		return writeTo(ctx, q, os.Stdout, inode{}, progress)
	}
	out, err := newOutput(q.Output)
	if err != nil {
		return nil, err
	}
	defer out.close()
	r, err := writeTo(ctx, q, out.file, out.inode, progress)
	if err != nil {
		return nil, err
	}
	fault.Point("backup-written")
	if err := out.file.Sync(); err != nil {
		return nil, fmt.Errorf("write %s: %w", q.Output, err)
	}
	if _, err := out.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	if _, err := Verify(ctx, out.file); err != nil {
		return nil, fmt.Errorf("read the new archive again: %w", err)
	}
	fault.Point("backup-verified")
	if err := out.commit(); err != nil {
		return nil, err
	}
	fault.Point("backup-linked")
	r.File = q.Output
	return r, nil
}

// counted counts the bytes of an archive.
type counted struct {
	io.Writer
	n int64
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.n += int64(n)
	return n, err
}

func writeTo(ctx context.Context, q *Request, to io.Writer, target inode, progress func(int64)) (*Result, error) {
	out := &counted{Writer: to}
	w, err := newWriter(out)
	if err != nil {
		return nil, err
	}
	defer w.close()
	c := &copier{writer: w, ctx: ctx, buffer: make([]byte, 1<<20), target: target, progress: progress}
	r := &Result{}
	err = w.index(&q.Index)
	if err == nil {
		err = c.copyAll(q, r)
	}
	if err == nil {
		err = w.finish()
	}
	r.Size, r.Bytes, r.Notes = out.n, w.bytes, w.notes
	return r, err
}

// copyAll copies all trees, and freezes the container for the last of it.
func (c *copier) copyAll(q *Request, r *Result) error {
	before, err := momentOf(q)
	if err != nil {
		return err
	}
	catalogs := make([]*catalog, len(q.Dirs))
	began := time.Now()
	for i, dir := range q.Dirs {
		if catalogs[i], err = newCatalog(q.Scratch); err != nil {
			return err
		}
		defer catalogs[i].close()
		if err := c.copyLive(q.Index.Trees[i], dir, catalogs[i]); err != nil {
			return fmt.Errorf("copy: %w", err)
		}
	}
	if err := c.tar.Flush(); err != nil {
		return err
	}
	speed := float64(c.bytes+8<<20) / (time.Since(began).Seconds() + 0.1) // bytes a second; of little data, a guess
	fault.Point("backup-live-copied")
	if q.between != nil {
		q.between()
	}
	if len(q.Runs) > 0 {
		if err := c.predict(q, catalogs, speed); err != nil {
			return err
		}
	}
	if err := c.copyStill(q, catalogs, r); err != nil {
		return err
	}
	if err := c.spool.release(); err != nil {
		return err
	}
	if now, err := momentOf(q); err != nil || now != before {
		return errors.New("the container was changed, stopped or started meanwhile; run the backup again")
	}
	return nil
}

// predict returns an error if the container would have to stand still for too long.
func (c *copier) predict(q *Request, catalogs []*catalog, speed float64) error {
	began, changed := time.Now(), int64(0)
	for i, dir := range q.Dirs {
		n, err := c.estimate(q.Index.Trees[i], dir, catalogs[i])
		if err != nil {
			return fmt.Errorf("look for changes: %w", err)
		}
		changed += n
	}
	needs := time.Since(began) + time.Duration(float64(changed)/speed*float64(time.Second))
	if needs > q.MaxFreeze {
		return &TooLongError{Changed: changed, Needs: needs, Limit: q.MaxFreeze}
	}
	return nil
}

// copyStill copies what has changed, while all stands still.
func (c *copier) copyStill(q *Request, catalogs []*catalog, r *Result) (err error) {
	began := time.Now()
	for _, run := range q.Runs {
		left := q.MaxFreeze - time.Since(began)
		if left <= 0 {
			return &TooLongError{Limit: q.MaxFreeze}
		}
		held, failed := keeper.Client{Run: q.RunDir}.Freeze(c.ctx, run.ID, run.Cgroup, left)
		if failed != nil {
			return failed
		}
		defer func() { err = c.thaw(held, began, q.MaxFreeze, r, err) }()
	}
	if len(q.Runs) > 0 {
		fault.Point("backup-frozen")
		c.spool.hold() // released when all goes on
		c.deadline = began.Add(q.MaxFreeze)
	}
	if err := c.copyAllFrozen(q, catalogs); err != nil {
		return err
	}
	if q.Check != nil {
		return q.Check()
	}
	return nil
}

// thaw thaws a container, and returns the error of the copy.
func (c *copier) thaw(held *keeper.Frozen, began time.Time, limit time.Duration, r *Result, err error) error {
	thawed := held.Thaw()
	r.Frozen = time.Since(began)
	c.deadline = time.Time{}
	fault.Point("backup-thawed")
	switch {
	case errors.Is(err, errDeadline), err == nil && errors.Is(thawed, cgroup.ErrThawed) && r.Frozen >= limit:
		return &TooLongError{Limit: limit}
	case err == nil:
		return thawed
	}
	return err
}

func (c *copier) copyAllFrozen(q *Request, catalogs []*catalog) error {
	for i, dir := range q.Dirs {
		if err := c.copyFrozen(q.Index.Trees[i], dir, catalogs[i]); err != nil {
			return fmt.Errorf("copy what has changed: %w", err)
		}
	}
	fault.Point("backup-frozen-copied")
	return nil
}

// moment identifies what a container is at a moment. A start makes another run, and a stop or a
// change replaces the file of its facts.
type moment struct {
	facts   inode
	changed unix.Timespec
	run     string // the last one
}

func momentOf(q *Request) (m moment, err error) {
	if q.Record == "" {
		return m, nil
	}
	var st unix.Stat_t
	if err := unix.Stat(q.Record+"/container.json", &st); err != nil {
		return m, &os.PathError{Op: "stat", Path: q.Record + "/container.json", Err: err}
	}
	m.facts, m.changed = inode{st.Dev, st.Ino}, st.Ctim
	m.run, err = os.Readlink(filepath.Join(q.RunDir, record.CurrentDir, filepath.Base(q.Record)))
	if errors.Is(err, os.ErrNotExist) { // it never ran on this boot
		err = nil
	}
	return m, err
}
