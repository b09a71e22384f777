package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// MakeUpper makes the private directories of a merged root, upper and work, in a container's
// directory unless they exist, and reports whether it made upper. The top directory of the
// merged root has the owner and mode of upper, so upper gets those of the image's root.
func MakeUpper(ctx context.Context, dir string, mode, uid, gid uint32) (made bool, err error) {
	upper, work := dir+"/upper", dir+"/work"
	if _, err := os.Lstat(upper); err == nil {
		return false, ignoreExisting(os.Mkdir(work, 0o700))
	}
	if err := errors.Join(Delete(ctx, work), Delete(ctx, upper+"~")); err != nil { // of another upper, or of a process that died
		return false, fmt.Errorf("make private files: %w", err)
	}
	err = errors.Join(os.Mkdir(work, 0o700), os.Mkdir(upper+"~", 0o700))
	if err == nil {
		err = errors.Join(os.Chown(upper+"~", int(uid), int(gid)), unix.Chmod(upper+"~", mode&0o7777))
	}
	if err == nil {
		err = os.Rename(upper+"~", upper)
	}
	if err != nil {
		return false, fmt.Errorf("make private files: %w", err)
	}
	return true, nil
}

func ignoreExisting(err error) error {
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}
