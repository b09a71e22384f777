package runtime

import (
	"errors"
	"os"

	"stead/runtime/keeper"

	"golang.org/x/sys/unix"
)

func (r *Runtime) makePipes(rec *keeper.Record) error {
	for _, p := range []string{keeper.StdoutPath(r.RunDir, rec.ID()), keeper.StderrPath(r.RunDir, rec.ID())} {
		if err := unix.Mkfifo(p, 0o600); err != nil {
			return &os.PathError{Op: "mkfifo", Path: p, Err: err}
		}
		// Any user in the container may write to /dev/stdout by its path.
		if err := errors.Join(os.Chown(p, int(rec.IDBase), int(rec.IDBase)), os.Chmod(p, 0o622)); err != nil {
			return err
		}
	}
	return os.WriteFile(keeper.RanPath(r.RunDir, rec.ID()), nil, 0o600)
}

// clearPipes removes what only a container that runs has need of.
func (r *Runtime) clearPipes(id string) {
	for _, p := range []string{keeper.StdoutPath(r.RunDir, id), keeper.StderrPath(r.RunDir, id), keeper.RanPath(r.RunDir, id), keeper.PreparedPath(r.RunDir, id)} {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			r.Log.Error("clean up", "error", err)
		}
	}
}
