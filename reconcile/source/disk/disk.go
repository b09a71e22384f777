// Package disk reads directories and files for the manifest directories. A system call that
// touches a file system which does not answer never returns, so what lies on one that may hang
// (hostpath.Remote) is read in a process of its own for each mount, which holds no lock. A
// call that is not answered in time fails with touch.HungError, and so do those after it,
// at once, until the process answers.
//
// The package knows paths, not what is in the files.
package disk

import (
	"fmt"
	"os"
	"slices"
	"sync"

	"stead/runtime/files"
	"stead/runtime/hostpath"

	"golang.org/x/sys/unix"
)

// Disk reads. The zero value is ready to use. Only one goroutine may use it at a time.
type Disk struct {
	// Answered is called when a file system answers that did not before; nil calls nothing.
	Answered func()

	mounts map[string]*hostpath.RemoteMount // by mount point, as of Begin
	links  hostpath.Resolver                // of this round

	mu      sync.Mutex // guards what follows
	readers map[int]*reader
}

// Begin starts a round of reads: mounts that came later are noticed by the next one.
func (d *Disk) Begin() {
	d.mounts, d.links = hostpath.RemoteMounts(), hostpath.Resolver{}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.readers {
		r.used, r.spent = false, 0
	}
}

// End ends a round, and the processes that it did not use. It reports whether something that was
// read lies on a file system that may hang: inotify does not notice all changes there.
func (d *Disk) End() (remote bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, r := range d.readers {
		if !r.used {
			delete(d.readers, id)
			r.end()
		}
	}
	return len(d.readers) > 0
}

// mount returns the mount that a path leads to if it may hang.
func (d *Disk) mount(path string) *hostpath.RemoteMount {
	if len(d.mounts) == 0 {
		return nil
	}
	m, _ := d.links.Remote(path)
	return m
}

// IsRemote reports whether a path leads to a file system that may hang.
func (d *Disk) IsRemote(path string) bool { return d.mount(path) != nil }

// Resolve is hostpath.Resolve. With an error, what lies on the file system that does not answer
// is as written.
func (d *Disk) Resolve(path string) (real string, links []string, err error) {
	if m := d.mount(path); m != nil {
		r, err := d.ask(m, request{Op: opResolve, Path: path})
		if err != nil {
			r.Real = hostpath.Resolver(nil).ResolveLocal(path)
		}
		return r.Real, r.Links, err
	}
	real, links = hostpath.Resolve(path)
	return real, links, nil
}

// Steps is the function Steps.
func (d *Disk) Steps(path string) ([]Step, error) {
	if m := d.mount(path); m != nil {
		r, err := d.ask(m, request{Op: opSteps, Path: path})
		return r.Steps, err
	}
	return Steps(path), nil
}

// Dir is an open directory.
type Dir struct {
	Stat unix.Stat_t

	disk  *Disk
	path  string                // without links
	fd    int                   // -1 with a mount
	mount *hostpath.RemoteMount // it lies on a file system that may hang
	id    string
	stats map[string]result // of names in it, if it lies there
}

// result is what a stat found.
type result struct {
	Stat  unix.Stat_t
	Errno unix.Errno
}

func (r *result) get() (unix.Stat_t, error) {
	if r.Errno != 0 {
		return r.Stat, r.Errno
	}
	return r.Stat, nil
}

// OpenRoot opens the directory of an absolute path. real is that path without links, and names returns
// those whose attributes are wanted, which spares a call for each where it may hang.
func (d *Disk) OpenRoot(path, real string, names func() []string) (*Dir, error) {
	return d.open(unix.AT_FDCWD, path, &Dir{disk: d, path: real, mount: d.mount(path)}, path, names)
}

// Open opens the directory of a name in the directory. link says that the name is a link. real and
// names are as in OpenRoot.
func (in *Dir) Open(name string, link bool, real string, names func() []string) (*Dir, error) {
	return in.disk.open(in.fd, name, &Dir{disk: in.disk, path: real, mount: in.mountAt(name, link)}, in.path+"/"+name, names)
}

func (d *Disk) open(dirfd int, name string, dir *Dir, path string, names func() []string) (*Dir, error) {
	if dir.mount == nil {
		err := retryEINTR(func() (err error) {
			dir.fd, err = unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			return err
		})
		if err != nil {
			return nil, err
		}
		if err := unix.Fstat(dir.fd, &dir.Stat); err != nil {
			dir.Close()
			return nil, err
		}
		return dir, nil
	}
	dir.fd = -1
	wanted := names()
	r, err := d.ask(dir.mount, request{Op: opFolder, Path: path, Names: wanted})
	if err != nil {
		return nil, err
	}
	dir.Stat, dir.id, dir.stats = r.Stat, r.Identity, make(map[string]result, len(wanted))
	for i, name := range wanted {
		dir.stats[name] = r.Stats[i]
	}
	return dir, nil
}

// Close closes the directory.
func (in *Dir) Close() {
	if in.fd >= 0 {
		unix.Close(in.fd)
	}
}

// IsRemote reports whether the directory lies on a file system that may hang.
func (in *Dir) IsRemote() bool { return in.mount != nil }

// Leads reports whether a name in the directory leads to a file system that may hang. link says
// that the name is a link.
func (in *Dir) Leads(name string, link bool) bool { return in.mountAt(name, link) != nil }

// Path returns the path of the directory without links.
func (in *Dir) Path() string { return in.path }

func (in *Dir) mountAt(name string, link bool) *hostpath.RemoteMount {
	if in.mount != nil || len(in.disk.mounts) == 0 {
		return in.mount
	}
	path := in.path + "/" + name
	if !link && in.disk.mounts[path] == nil {
		return nil
	}
	return in.disk.mount(path)
}

// Identity is hostpath.Identity of the directory.
func (in *Dir) Identity() string {
	if in.mount != nil {
		return in.id
	}
	return hostpath.Identity(in.fd)
}

// StatName returns the attributes of what a name leads to. link says that the name is a link.
func (in *Dir) StatName(name string, link bool) (st unix.Stat_t, err error) {
	m := in.mountAt(name, link)
	if m == nil {
		err = unix.Fstatat(in.fd, name, &st, 0)
		return st, err
	}
	if r, ok := in.stats[name]; ok {
		return r.get()
	}
	r, err := in.disk.ask(m, request{Op: opStat, Path: in.path + "/" + name})
	return r.Stat, err
}

// Lstat returns the attributes of a name, without following a link.
func (in *Dir) Lstat(name string) (st unix.Stat_t, err error) {
	m := in.mountAt(name, false)
	if m == nil {
		err = unix.Fstatat(in.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		return st, err
	}
	r, err := in.disk.ask(m, request{Op: opLstat, Path: in.path + "/" + name})
	return r.Stat, err
}

// Entry is a name in a directory.
type Entry struct {
	Name string
	Type os.FileMode // as in os.DirEntry
}

// Entries returns what is in the directory, unsorted.
func (in *Dir) Entries() ([]Entry, error) {
	if in.mount == nil {
		return entries(in.fd, in.path, nothing)
	}
	r, err := in.disk.ask(in.mount, request{Op: opEntries, Path: in.path})
	return r.Entries, err
}

// ReadFile reads a file of at most max bytes that no process is writing; see readFile.
func (in *Dir) ReadFile(name string, link bool, max int64, refuse func(*unix.Stat_t) string) ([]byte, unix.Stat_t, error) {
	m := in.mountAt(name, link)
	if m == nil {
		return readFile(in.fd, name, max, refuse)
	}
	r, err := in.disk.ask(m, request{Op: opFile, Path: in.path + "/" + name, Max: max})
	if err == nil {
		if why := refuse(&r.Stat); why != "" {
			return nil, r.Stat, &failure{Text: why}
		}
	}
	return r.Data, r.Stat, err
}

// Look is what is found at a path, before it is read.
type Look struct {
	Real  string // the path without links
	Links []string
	Seen  []Seen // itself, and what is in it
	// Remote says that it lies on a file system that may hang.
	Remote bool
}

// Seen is a path with its attributes.
type Seen struct {
	Path string
	Stat unix.Stat_t
}

// mountOfTree returns the mount that a path, or something below it, leads to if it may hang.
func (d *Disk) mountOfTree(path string) *hostpath.RemoteMount {
	if len(d.mounts) == 0 {
		return nil
	}
	m, real := d.links.Remote(path)
	if m != nil {
		return m
	}
	for point, m := range d.mounts {
		if hostpath.Within(point, real) {
			return m
		}
	}
	return nil
}

// LeadsBelow reports whether a path, or something below it, leads to a file system that may hang.
func (d *Disk) LeadsBelow(path string) bool { return d.mountOfTree(path) != nil }

// Look looks at a file, or a directory with all that is in it.
func (d *Disk) Look(path string) (Look, error) {
	m := d.mountOfTree(path)
	if m == nil {
		return look(path, nothing), nil
	}
	r, err := d.ask(m, request{Op: opLook, Path: path})
	if err != nil {
		r.Look.Real = hostpath.Resolver(nil).ResolveLocal(path)
	}
	r.Look.Remote = true
	return r.Look, err
}

// Content reads a file, or a directory with all that is in it. shared are the directories in
// which no link is followed, and owners the users beside root whose links are; see
// hostpath.OpenFor. inode and identity are those of what was opened.
func (d *Disk) Content(path string, shared []string, owners []uint32) (c *files.Content, inode uint64, identity string, err error) {
	m := d.mountOfTree(path)
	if m == nil {
		return content(path, shared, owners, nothing)
	}
	r, err := d.ask(m, request{Op: opContent, Path: path, Shared: shared, Owners: owners})
	if err == nil && r.Content == nil {
		err = fmt.Errorf("the process that reads %s returned nothing", path)
	}
	return r.Content, r.Stat.Ino, r.Identity, err
}

// nothing is the progress of a read that nobody waits for with a deadline.
func nothing(string) {}

func content(path string, shared []string, owners []uint32, progress func(path string)) (*files.Content, uint64, string, error) {
	fd, _, err := hostpath.OpenFor(path,
		func(dir string) bool { return slices.Contains(shared, dir) },
		func(uid uint32) bool { return slices.Contains(owners, uid) })
	if err != nil {
		return nil, 0, "", err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, 0, "", err
	}
	c, err := files.ReadSlowly(fd, func() { progress(path) })
	return c, st.Ino, hostpath.Identity(fd), err
}
