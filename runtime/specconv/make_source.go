package specconv

import (
	"errors"
	"fmt"
	"os"
	"path"
	"sync"

	"stead/runtime/hostpath"
	"stead/runtime/launch"

	"golang.org/x/sys/unix"
)

// makingSource is held by makeSource: containers that are started at once may share a source.
var makingSource sync.Mutex

// makeSource makes a missing directory atomically, with its owner and mode. It changes
// nothing that exists. On disk an id has the same number as in the container.
func makeSource(source string, how launch.Directory, shared func(string) bool) error {
	makingSource.Lock()
	defer makingSource.Unlock()
	fail := func(err error) error {
		return &Error{Where: launch.AtSource, Message: fmt.Sprintf("make mount source %s: %v", source, Reason(err))}
	}
	dir, _, err := hostpath.Open(path.Dir(source), shared)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(dir)
	var st unix.Stat_t
	name := path.Base(source)
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
		return nil
	}
	unfinished := "." + name + ".stead~"
	_ = unix.Unlinkat(dir, unfinished, unix.AT_REMOVEDIR) // left by a start that was interrupted
	if err := unix.Mkdirat(dir, unfinished, 0o700); err != nil {
		return fail(err)
	}
	fd, err := unix.Openat(dir, unfinished, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		// Who can write to the parent directory may have put another one in its place.
		var made unix.Stat_t
		if err = unix.Fstat(fd, &made); err == nil && (made.Uid != 0 || made.Nlink != 2 || made.Mode&0o7777 != 0o700 || !empty(fd)) {
			err = errors.New("another directory has taken its place")
		}
		if err == nil {
			err = errors.Join(unix.Fchown(fd, int(how.UID), int(how.GID)), unix.Fchmod(fd, how.Mode))
		}
		unix.Close(fd)
	}
	if err == nil {
		err = unix.Renameat2(dir, unfinished, dir, name, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		_ = unix.Unlinkat(dir, unfinished, unix.AT_REMOVEDIR)
		if errors.Is(err, os.ErrExist) {
			return nil // another process was quicker
		}
		return fail(err)
	}
	return nil
}

// empty reports whether an open directory has no entries.
func empty(fd int) bool {
	buf := make([]byte, 4096)
	n, err := unix.ReadDirent(fd, buf)
	if err != nil || n < 0 {
		return false
	}
	_, count, _ := unix.ParseDirent(buf[:n], -1, nil)
	return count == 0
}
