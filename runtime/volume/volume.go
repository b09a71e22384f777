// Package volume keeps the volumes of this host: directories below STATE/volumes that outlive
// the containers that mount them. It makes, lists and deletes them. It must not know who may
// mount what.
//
// What containers leave in a volume is hostile: nothing in it is opened by a path that a link
// could lead elsewhere.
package volume

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"stead/runtime/atomicfile"
	"stead/runtime/fault"
	"stead/runtime/rootfs"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// ErrMissing is the error for a name that no volume has.
var ErrMissing = errors.New("no such volume")

// Store is the directory of all volumes.
type Store struct{ Dir string }

// Path returns the directory of a volume.
func (s *Store) Path(name string) string { return filepath.Join(s.Dir, name) }

// Owner says whose a new volume is.
type Owner struct {
	UID, GID uint32
	Mode     uint32
	// HasOwner and HasMode are set if they are to be so, whatever the volume begins with.
	HasOwner, HasMode bool
}

// Ensure makes a volume unless it is there, and returns its directory. A new one has what seed
// puts into an empty directory; seed reports whether it has set the owner and the mode of that.
// It appears when it is complete. A volume that is there stays as it is.
func (s *Store) Ensure(ctx context.Context, name string, o Owner, seed func(dir string) (bool, error)) (string, error) {
	unlock, err := s.lock(ctx, name) // also of one that is there: it may be about to be deleted
	if err != nil {
		return "", err
	}
	defer unlock()
	path := s.Path(name)
	if there, err := s.look(name); there || err != nil {
		return path, err
	}
	if err := s.Make(ctx, name, o, seed); err != nil {
		return "", fmt.Errorf("make volume %s: %w", name, err)
	}
	return path, nil
}

// Check returns an error if something else is in the place of a volume.
func (s *Store) Check(name string) error {
	_, err := s.look(name)
	return err
}

// look reports whether a volume is there. A link in its place is an error: it was not made by
// stead, and would lead elsewhere.
func (s *Store) look(name string) (bool, error) {
	info, err := os.Lstat(s.Path(name))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !info.IsDir():
		return false, fmt.Errorf("volume %s: found %s at %s, want a directory", name, kindOf(info.Mode()), s.Path(name))
	}
	return true, nil
}

func kindOf(mode fs.FileMode) string {
	if mode&fs.ModeSymlink != 0 {
		return "a symbolic link"
	}
	return "a file"
}

// unfinished is the directory in which a volume is made. No volume has such a name.
func (s *Store) unfinished(name string) string { return s.Path(".new-" + name) }

// Make is Ensure of a volume that is not there, for a caller that nobody else makes or deletes
// volumes beside.
func (s *Store) Make(ctx context.Context, name string, o Owner, seed func(dir string) (bool, error)) (err error) {
	tmp := s.unfinished(name)
	if err := rootfs.Delete(ctx, tmp); err != nil { // left by a process that died
		return err
	}
	if err := errors.Join(os.MkdirAll(s.Dir, 0o700), os.Mkdir(tmp, 0o700)); err != nil {
		return err
	}
	defer func() {
		if err != nil { // the disk may be full of it
			err = errors.Join(err, rootfs.Delete(context.WithoutCancel(ctx), tmp))
		}
	}()
	seeded, err := seed(tmp)
	if err != nil {
		return err
	}
	if o.HasOwner || !seeded { // first: it may take bits of the mode away
		if err := os.Lchown(tmp, int(o.UID), int(o.GID)); err != nil {
			return err
		}
	}
	if o.HasMode || !seeded {
		if err := unix.Chmod(tmp, o.Mode); err != nil {
			return err
		}
	}
	fault.Point("volume-made")
	d, err := os.Open(tmp)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return os.NewSyscallError("syncfs", err)
	}
	if err := os.Rename(tmp, s.Path(name)); err != nil {
		return err
	}
	return atomicfile.SyncDir(s.Dir)
}

// lock locks one volume, and makes the directory of all if it is missing. A volume is made and
// deleted under its lock. That may take long, and harms only who needs the same volume.
func (s *Store) lock(ctx context.Context, name string) (unlock func(), err error) {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, err
	}
	for {
		unlock, err = s.tryLock(name)
		if err != unix.EAGAIN && err != unix.EACCES && err != unix.EINTR {
			return unlock, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("volume %s is being made or deleted: %w", name, context.Cause(ctx))
		case <-time.After(10 * time.Millisecond): // only a thread could wait for it
		}
	}
}

// tryLock locks a volume unless it is locked. Each has a byte of the lock file, by a hash of its
// name: two of the same byte wait for each other, which does no harm.
func (s *Store) tryLock(name string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.Dir, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	sum := fnv.New32a()
	sum.Write([]byte(name))
	at := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(sum.Sum32()), Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &at); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// List returns the names of all volumes, sorted.
func (s *Store) List() (names []string, err error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, err
}

// Size returns how many bytes of the disk the files of a volume use.
func (s *Store) Size(ctx context.Context, name string) (bytes int64, err error) {
	seen := map[uint64]bool{} // files with several names
	err = filepath.WalkDir(s.Path(name), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, os.ErrNotExist) && path != s.Path(name) { // it is in use
				return nil
			}
			return err
		}
		var st unix.Stat_t
		if ctx.Err() != nil || unix.Lstat(path, &st) != nil || st.Nlink > 1 && !d.IsDir() && seen[st.Ino] {
			return ctx.Err()
		}
		seen[st.Ino] = st.Nlink > 1
		bytes += st.Blocks * 512
		return nil
	})
	return bytes, err
}

// Remove deletes a volume, unless inUse returns an error. From then on the volume is gone, and
// what is left of it after an interruption goes with the next Recover.
func (s *Store) Remove(ctx context.Context, name string, inUse func() error) error {
	unlock, err := s.lock(ctx, name)
	if err != nil {
		return err
	}
	doomed := s.Path(".deleting-" + name)
	err = func() error {
		defer unlock()
		if strings.HasPrefix(name, ".") || strings.Contains(name, "/") || name == "" {
			return ErrMissing
		}
		if _, err := os.Lstat(s.Path(name)); err != nil {
			if _, err := os.Lstat(doomed); err == nil { // what an earlier call could not delete
				return nil
			}
			return ErrMissing
		}
		if err := inUse(); err != nil {
			return err
		}
		if mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(s.Path(name))); err != nil || len(mounts) > 0 {
			if err == nil {
				err = fmt.Errorf("%s is a mount: unmount it first, or what is mounted there would be deleted", mounts[0].Mountpoint)
			}
			return err
		}
		if err := rootfs.Delete(ctx, doomed); err != nil { // of an earlier one of this name
			return err
		}
		return os.Rename(s.Path(name), doomed)
	}()
	if err == nil {
		err = rootfs.Delete(ctx, doomed)
	}
	if err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	return nil
}

// Recover deletes what an interrupted Ensure or Remove left.
func (s *Store) Recover(ctx context.Context) error {
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return nil // there are no volumes
	}
	var failed error
	for _, e := range entries {
		name, isNew := strings.CutPrefix(e.Name(), ".new-")
		name, isOld := strings.CutPrefix(name, ".deleting-")
		if !isNew && !isOld {
			continue
		}
		unlock, err := s.tryLock(name)
		if err != nil {
			continue // somebody makes or deletes it
		}
		failed = errors.Join(failed, rootfs.Delete(ctx, s.Path(e.Name())))
		unlock()
	}
	return failed
}
