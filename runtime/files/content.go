// Package files puts the content that manifests name into a file system in memory, from where
// containers see it read-only.
//
// A source may be secret. Its content is only ever held in memory and in that file system.
// What is recorded of it is an HMAC under a key of this host: a plain hash of a short secret
// can be guessed. The package knows directories and ids, and
// the format of environment files; it must not know manifests.
package files

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"stead/runtime/atomicfile"
	"stead/spec"

	"golang.org/x/sys/unix"
)

const (
	// MaxSize is the maximum size of the content of one source, in bytes.
	MaxSize = 16 << 20
	// maxItems is the maximum number of files and directories in one source.
	maxItems = 4096
)

// ErrWriting is the error for a file that another process has open for writing.
var ErrWriting = errors.New("another process has it open for writing")

// Content is a file, or a directory with all that is in it.
type Content struct {
	Dir   bool
	Items []Item // a file, or the directory and what is in it: parents first, sorted
}

// Item is one file or directory of a Content.
type Item struct {
	Name string // below the directory; "" for the file or the directory itself
	Dir  bool
	Mode uint32 // permissions
	Data []byte
}

// Text returns the content of a file with this text.
func Text(text string) *Content {
	return &Content{Items: []Item{{Mode: 0o444, Data: []byte(text)}}}
}

// Read reads a file or directory. fd is open on it and stays open. Everything but regular
// files and directories is an error, and so is more than MaxSize.
func Read(fd int) (*Content, error) { return ReadSlowly(fd, func() {}) }

// ReadSlowly is Read, and calls progress whenever it gets on.
func ReadSlowly(fd int, progress func()) (*Content, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	r := reader{left: MaxSize, progress: progress}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err := r.directory(fd, "", &st)
		return &Content{Dir: true, Items: r.items}, err
	}
	err := r.file("/proc/self/fd/"+strconv.Itoa(fd), unix.AT_FDCWD, "", &st)
	return &Content{Items: r.items}, err
}

// reader reads one source.
type reader struct {
	items    []Item
	left     int64 // bytes
	progress func()
}

func (r *reader) add(i Item) error {
	if len(r.items) == maxItems {
		return fmt.Errorf("more than %d files and directories", maxItems)
	}
	r.items = append(r.items, i)
	r.progress()
	return nil
}

// directory reads an open directory; name is its path below the source.
func (r *reader) directory(fd int, name string, st *unix.Stat_t) error {
	if err := r.add(Item{Name: name, Dir: true, Mode: st.Mode & 0o777}); err != nil {
		return err
	}
	dup, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	d := os.NewFile(uintptr(dup), "")
	names, err := d.Readdirnames(maxItems + 1)
	d.Close()
	if err != nil && err != io.EOF {
		return reason(err)
	}
	slices.Sort(names)
	for _, entry := range names {
		at := path.Join(name, entry)
		if strings.HasPrefix(entry, "..") {
			return fmt.Errorf("%s: names that begin with .. are stead's own", at)
		}
		var st unix.Stat_t
		err := unix.Fstatat(fd, entry, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			err = r.file(entry, fd, at, &st)
		} else if err == nil {
			var below int
			if below, err = unix.Openat(fd, entry, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err == nil {
				err = r.directory(below, at, &st)
				unix.Close(below)
			}
			if err != nil {
				return err // it names the file
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	return nil
}

// file reads the file of a name in a directory. st is what it was found to be; it is opened
// without blocking, as something else may stand there by now.
func (r *reader) file(name string, dir int, at string, st *unix.Stat_t) error {
	if err := regular(st.Mode); err != nil {
		return err
	}
	flags := unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	if dir != unix.AT_FDCWD {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := unix.Openat(dir, name, flags, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), at)
	defer f.Close()
	// With the lease the content is what one writer left (man 2 fcntl, "Leases"). Some file
	// systems have none.
	switch _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK); err {
	case nil:
		defer func() { _, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK) }()
	case unix.EAGAIN:
		if IsLocal(fd) {
			return ErrWriting
		}
	}
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil {
		return err
	}
	if err := regular(now.Mode); err != nil {
		return err
	}
	if now.Size > r.left {
		return tooLarge()
	}
	data, err := io.ReadAll(io.LimitReader(progressReader{f, r.progress}, r.left+1))
	if err != nil {
		return reason(err)
	}
	if r.left -= int64(len(data)); r.left < 0 {
		return tooLarge()
	}
	return r.add(Item{Name: at, Mode: now.Mode & 0o777, Data: data})
}

// progressReader calls progress after each read.
type progressReader struct {
	io.Reader
	progress func()
}

func (r progressReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.progress()
	return n, err
}

// reason returns an error of the file system without its path.
func reason(err error) error {
	if p := new(os.PathError); errors.As(err, &p) {
		return p.Err
	}
	return err
}

func tooLarge() error { return fmt.Errorf("larger than %d MiB; mount it instead", MaxSize>>20) }

// regular returns an error that names what is no regular file.
func regular(mode uint32) error {
	kind := "something else"
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return nil
	case unix.S_IFLNK:
		kind = "a symbolic link"
	case unix.S_IFIFO:
		kind = "a FIFO"
	case unix.S_IFSOCK:
		kind = "a socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		kind = "a device"
	}
	return fmt.Errorf("found %s, want regular files and directories", kind)
}

// IsLocal reports whether EAGAIN for a lease can only mean that a process writes: on NFS and
// SMB it may mean that the server granted no delegation (fs/nfs/nfs4proc.c, fs/smb/client/cifsfs.c).
func IsLocal(fd int) bool {
	const cifs, smb2 = 0xFF534D42, 0xFE534D42
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return true
	}
	kind := uint32(st.Type)
	return kind != unix.NFS_SUPER_MAGIC && kind != unix.SMB_SUPER_MAGIC && kind != cifs && kind != smb2
}

// Key is the key of this host for sums.
type Key [32]byte

// OpenKey reads the key of a state directory. If there is none, it makes one, which it writes
// unless readOnly is set: then nothing that it computes matches a record.
func OpenKey(stateDir string, readOnly bool) (Key, error) {
	file := filepath.Join(stateDir, "files.key")
	var k Key
	b, err := os.ReadFile(file)
	if err == nil && len(b) == len(k) {
		return Key(b), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return k, fmt.Errorf("read the key for files: %w", err)
	}
	rand.Read(k[:]) // never fails (crypto/rand)
	if readOnly {
		return k, nil
	}
	return k, atomicfile.Write(file, k[:])
}

// Sum is an HMAC-SHA256 of content: equal for equal content, and no help in guessing it.
// With modes it covers the permissions as well.
func (c *Content) Sum(k Key, modes bool) string {
	h := hmac.New(sha256.New, k[:])
	for _, i := range c.Items {
		if !modes {
			i.Mode = 0
		}
		fmt.Fprintf(h, "%q %t %o %d\n", i.Name, i.Dir, i.Mode&^0o222, len(i.Data))
		h.Write(i.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// text returns the content of a file.
func (c *Content) text() ([]byte, error) {
	if c.Dir {
		return nil, errors.New("found a directory, want a file")
	}
	return c.Items[0].Data, nil
}

// Env returns the variables, as NAME=VALUE, of an environment file, and what is wrong in it.
func (c *Content) Env(file string) (vars []string, wrong []*spec.Error, err error) {
	data, err := c.text()
	if err == nil && len(data) > spec.MaxEnvFile {
		err = fmt.Errorf("larger than %d MiB", spec.MaxEnvFile>>20)
	}
	if err != nil {
		return nil, nil, err
	}
	vars, wrong = spec.ParseEnvFile(file, data)
	return vars, wrong, nil
}

// Secret returns the value of the variable that a file holds.
func (c *Content) Secret() (string, error) {
	data, err := c.text()
	if err != nil {
		return "", err
	}
	return spec.ParseSecret(data)
}
