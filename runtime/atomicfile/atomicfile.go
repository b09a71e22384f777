// Package atomicfile replaces files as a whole: a reader finds the old content or the new,
// never a part of it. It is the one way in which stead writes a file that another process
// reads. It knows nothing about their contents.
package atomicfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Write replaces a file so that the new content survives a loss of power once Write has
// returned: temporary file, fsync, rename, fsync of the directory. The file's mode is 0600.
func Write(file string, content []byte) error {
	err := replace(file, content, (*os.File).Sync)
	if err == nil {
		err = SyncDir(filepath.Dir(file))
	}
	return err
}

// WriteVolatile replaces a file for other processes on this boot, without a sync: after a
// loss of power its content may be gone.
func WriteVolatile(file string, content []byte) error {
	return replace(file, content, func(*os.File) error { return nil })
}

func replace(file string, content []byte, sync func(*os.File) error) error {
	tmp := file + "~"
	out, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = out.Write(content)
	err = errors.Join(err, sync(out), out.Close())
	if err == nil {
		err = os.Rename(tmp, file)
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

// Symlink makes link a symbolic link to target, and replaces an existing one.
func Symlink(link, target string) error {
	if now, err := os.Readlink(link); err == nil && now == target {
		return nil
	}
	err := os.Symlink(target, link)
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	tmp := link + "~"
	os.Remove(tmp) // left by a daemon that died here
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, link)
}

// SyncDir syncs a directory, so that new names in it survive a loss of power.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
