package runtime

import (
	"errors"
	"os"

	"stead/runtime/record"

	"golang.org/x/sys/unix"
)

func (r *Runtime) makePipes(rec *record.Record) error {
	for _, p := range []string{record.StdoutPath(r.RunDir, rec.ID()), record.StderrPath(r.RunDir, rec.ID())} {
		if err := unix.Mkfifo(p, 0o600); err != nil {
			return &os.PathError{Op: "mkfifo", Path: p, Err: err}
		}
		// Any user in the container may write to /dev/stdout by its path.
		if err := errors.Join(os.Chown(p, int(rec.IDBase), int(rec.IDBase)), os.Chmod(p, 0o622)); err != nil {
			return err
		}
	}
	return os.WriteFile(record.RanPath(r.RunDir, rec.ID()), nil, 0o600)
}

// clearPipes removes the pipes, the content of files, and what else only a running container
// needs.
func (r *Runtime) clearPipes(id string) {
	r.clearFiles(id)
	for _, p := range []string{record.StdoutPath(r.RunDir, id), record.StderrPath(r.RunDir, id), record.RanPath(r.RunDir, id), record.PreparedPath(r.RunDir, id)} {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			r.Log.Error("cannot clean up", "error", err)
		}
	}
}
