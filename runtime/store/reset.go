package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"stead/runtime/fault"
	"stead/runtime/rootfs"
)

// When the image of a container changes, its private files are of no use any more: they are
// changes of files of the old image. They are kept in STATE/removed like those of a
// removed container, but no container gets them back.

// resetMark is in the entries of private files that a new image replaced:
// NAME@20261123T041500Z.reset.
const resetMark = ".reset"

func isReset(entry string) bool { return strings.Contains(entry, resetMark) }

// resetDir holds, in the directory of the container, what is about to move to removed/.
const resetDir = "reset~"

// beside are the files and directories of a container that belong to its upper directory. They
// move after it: where upper is, the rest has to go too.
var beside = append([]string{"work"}, rootfs.EtcRecords...)

// PutAwayUpper moves a container's private files, which f describes, to removed/. If it is
// interrupted, FinishReset or the next call continues it.
func (r *Removed) PutAwayUpper(name, dir string, f *Facts) error {
	if err := r.FinishReset(name, dir); err != nil {
		return err
	}
	tmp := filepath.Join(dir, resetDir)
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	if err := f.Write(tmp); err != nil { // it says which image they belong to
		return err
	}
	fault.Point("reset-begun")
	if err := os.Rename(filepath.Join(dir, "upper"), filepath.Join(tmp, "upper")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	fault.Point("reset-moved")
	return r.FinishReset(name, dir)
}

// FinishReset finishes a call of PutAwayUpper that was interrupted.
func (r *Removed) FinishReset(name, dir string) error {
	tmp := filepath.Join(dir, resetDir)
	if _, err := os.Lstat(tmp); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, err := os.Lstat(filepath.Join(tmp, "upper")); err == nil {
		for _, name := range beside {
			if err := os.Rename(filepath.Join(dir, name), filepath.Join(tmp, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		_, err := r.PutAwayReplaced(name, tmp)
		return err
	}
	return os.RemoveAll(tmp) // at most the facts, and a work directory that an older version of stead moved first
}

// PutAwayReplaced moves data of a container that other data has replaced to removed/, and returns
// its entry. No container gets it back.
func (r *Removed) PutAwayReplaced(name, dir string) (entry string, err error) {
	err = r.move(dir, func(n int) string {
		entry = name + "@" + time.Now().UTC().Format(entryTime) + resetMark
		if n > 1 {
			entry += fmt.Sprintf(".%d", n)
		}
		return entry
	})
	return entry, err
}

// move moves a directory to the first free entry.
func (r *Removed) move(dir string, entry func(n int) string) error {
	for n := 1; ; n++ {
		err := os.Rename(dir, filepath.Join(r.dir, entry(n)))
		if !errors.Is(err, os.ErrExist) { // ENOTEMPTY too: there were two in one second
			return err
		}
	}
}
