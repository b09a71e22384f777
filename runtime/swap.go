package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"stead/runtime/atomicfile"
	"stead/runtime/backup"
	"stead/runtime/fault"

	"golang.org/x/sys/unix"
)

// What a restore puts in place are several directories: that of the container, its volumes,
// directories of the host. Each takes its place by one exchange of names. A file (Staging.SetSwaps)
// lists all before the first: after a crash, recovery finishes if all are in place, else it puts back
// those that are. Swaps happen under the lock of the state directory only, and so does recovery.

// swapAll puts all in place, or nothing.
func swapAll(s *backup.Staging, w *backup.Swaps) error {
	for i := range w.List {
		var st unix.Stat_t
		if err := unix.Lstat(w.List[i].Staged, &st); err != nil {
			return &os.PathError{Op: "stat", Path: w.List[i].Staged, Err: err}
		}
		w.List[i].Dev, w.List[i].Ino = st.Dev, st.Ino
	}
	if err := s.SetSwaps(w); err != nil {
		return err
	}
	fault.Point("restore-made")
	for i := range w.List {
		if err := swapIn(&w.List[i]); err != nil {
			return errors.Join(err, undoSwaps(s, w))
		}
		fault.Point("restore-swapped-" + strconv.Itoa(i))
	}
	return nil
}

// swapIn puts one directory in its place.
func swapIn(w *backup.Swap) error {
	if st, err := os.Lstat(w.Target); err == nil && !st.IsDir() {
		return fmt.Errorf("%s is there, and no directory; move it away first", w.Target)
	}
	old, err := os.ReadDir(w.Target)
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = rename(w.Staged, w.Target, unix.RENAME_NOREPLACE)
	case err == nil && len(old) > 0 && !w.Replace:
		err = fmt.Errorf("%s is there, and not empty; move it away first", w.Target)
	case err == nil:
		err = rename(w.Staged, w.Target, unix.RENAME_EXCHANGE)
	}
	return err
}

// rename renames a directory, durably.
func rename(from, to string, flags uint) error {
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return errors.Join(atomicfile.SyncDir(filepath.Dir(to)), atomicfile.SyncDir(filepath.Dir(from)))
}

// isSwapped reports whether a directory is in its place.
func isSwapped(w *backup.Swap) bool {
	var st unix.Stat_t
	return unix.Lstat(w.Target, &st) == nil && st.Dev == w.Dev && st.Ino == w.Ino
}

// undoSwaps puts back what was there before.
func undoSwaps(s *backup.Staging, w *backup.Swaps) error {
	for i := len(w.List) - 1; i >= 0; i-- {
		w := &w.List[i]
		if !isSwapped(w) {
			continue
		}
		flags := uint(unix.RENAME_EXCHANGE)
		if _, err := os.Lstat(w.Staged); errors.Is(err, os.ErrNotExist) {
			flags = unix.RENAME_NOREPLACE
		}
		if err := rename(w.Target, w.Staged, flags); err != nil {
			return fmt.Errorf("put back what was there before: %w", err)
		}
	}
	return s.ClearSwaps()
}

// finishSwaps keeps what was there before. The note says where.
func (r *Runtime) finishSwaps(s *backup.Staging, w *backup.Swaps) (note string, err error) {
	var notes []string
	for i := range w.List {
		w, name := &w.List[i], w.Name
		if _, err := os.Lstat(w.Staged); errors.Is(err, os.ErrNotExist) {
			continue
		}
		kept := ""
		switch {
		case !w.Replace:
			err = os.Remove(w.Staged) // an empty directory
		case w.Target == r.dir(name):
			if err := os.Rename(w.Staged+"/log", w.Target+"/log"); err != nil && !errors.Is(err, os.ErrNotExist) {
				r.Log.Error("cannot keep the output", "container", name, "error", err)
			}
			kept, err = r.Removed.PutAwayReplaced(name, w.Staged)
			kept = "removed/" + kept
		default:
			kept = w.Target + ".replaced-" + time.Now().UTC().Format("20060102T150405.000Z")
			err = rename(w.Staged, kept, unix.RENAME_NOREPLACE)
			if volume, ok := strings.CutPrefix(kept, Volumes(r.StateDir).Path("")+"/"); ok {
				kept = "the volume " + volume
			}
		}
		if err != nil {
			return "", fmt.Errorf("keep the data from before: %w", err)
		}
		if kept != "" {
			notes = append(notes, kept)
		}
	}
	fault.Point("restore-old-kept")
	if len(notes) > 0 {
		note = "the data from before is in " + strings.Join(notes, ", ")
	}
	return note, s.ClearSwaps()
}

// sweepRestores finishes or undoes restores that were interrupted, and deletes what others whose
// processes died have unpacked.
func (r *Runtime) sweepRestores(ctx context.Context) error {
	all, failed := backup.Stagings(r.StateDir)
	for _, s := range all {
		w, err := s.Swaps()
		if err == nil && w != nil {
			err = r.sweepSwaps(s, w)
		}
		failed = errors.Join(failed, err)
	}
	abandoned, err := backup.Abandoned(r.StateDir)
	failed = errors.Join(failed, err)
	for _, s := range abandoned {
		failed = errors.Join(failed, s.Discard(ctx))
	}
	return failed
}

func (r *Runtime) sweepSwaps(s *backup.Staging, w *backup.Swaps) error {
	done := true
	for i := range w.List {
		done = done && isSwapped(&w.List[i])
	}
	if w.New {
		_, err := os.Lstat(s.Container())
		done = done && errors.Is(err, os.ErrNotExist)
	}
	if !done {
		return undoSwaps(s, w)
	}
	_, err := r.finishSwaps(s, w)
	return err
}
