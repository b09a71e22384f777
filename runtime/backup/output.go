package backup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"stead/runtime/atomicfile"

	"golang.org/x/sys/unix"
)

// output is a file that gets its name when it is complete.
type output struct {
	name string
	file *os.File
	temp string // its name until then; "" for none
	inode
}

// newOutput makes the file. Only its owner may ever read it: it has all secrets of a container.
func newOutput(name string) (*output, error) {
	if _, err := os.Lstat(name); err == nil {
		return nil, fmt.Errorf("%s exists; a backup replaces no file", name)
	}
	o := &output{name: name}
	fd, err := unix.Open(filepath.Dir(name), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		o.file = os.NewFile(uintptr(fd), name)
	} else if err == unix.EOPNOTSUPP || err == unix.EISDIR { // this file system knows no files without a name
		sweepTemps(filepath.Dir(name))
		o.file, err = os.CreateTemp(filepath.Dir(name), tempPrefix+"*"+tempSuffix) // 0600
		if err == nil {
			o.temp = o.file.Name()
			_ = unix.Flock(int(o.file.Fd()), unix.LOCK_EX|unix.LOCK_NB) // see sweepTemps
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(o.file.Fd()), &st); err != nil {
		o.close()
		return nil, err
	}
	o.inode = inode{st.Dev, st.Ino}
	return o, nil
}

const tempPrefix, tempSuffix = ".stead-backup-", ".tmp"

// sweepTemps removes the temporary files of backups that were killed: of those that nobody has
// locked. One that is written by another host may show no lock, but it is young.
func sweepTemps(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), tempPrefix) || !strings.HasSuffix(e.Name(), tempSuffix) {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, e.Name()), os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		st, err := f.Stat()
		if err == nil && time.Since(st.ModTime()) > time.Hour && unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.Remove(f.Name())
		}
		f.Close()
	}
}

// commit gives the file its name.
func (o *output) commit() error {
	var err error
	if o.temp == "" {
		err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", o.file.Fd()), unix.AT_FDCWD, o.name, unix.AT_SYMLINK_FOLLOW)
	} else {
		err = unix.Renameat2(unix.AT_FDCWD, o.temp, unix.AT_FDCWD, o.name, unix.RENAME_NOREPLACE)
		if err == unix.EINVAL { // this file system can't; the name was free a moment ago
			err = os.Rename(o.temp, o.name)
		}
	}
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%s exists by now; a backup replaces no file", o.name)
	}
	if err != nil {
		return &os.PathError{Op: "link", Path: o.name, Err: err}
	}
	o.temp = ""
	return atomicfile.SyncDir(filepath.Dir(o.name))
}

// close closes the file, and removes it unless it was committed.
func (o *output) close() {
	o.file.Close()
	if o.temp != "" {
		os.Remove(o.temp)
	}
}
