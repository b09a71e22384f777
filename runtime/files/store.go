package files

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"stead/runtime/atomicfile"

	"golang.org/x/sys/unix"
)

// Store holds the content of the files of running containers, in a tmpfs that has nothing
// else. It has a directory for each run:
//
//	NAME.NONCE/record.json  what was written, without content
//	NAME.NONCE/data/0       the first file, by path; the container sees data
//	NAME.NONCE/links/0      a link to it as the container sees it
//	NAME.NONCE/env.json     variables from files
//	NAME.NONCE/exec.json    the configuration for exec, if it has such variables
//
// A directory has its content in data/1/..2, say, to which the link data/1/..data leads, and
// a link through that for each name: so all of it changes at once.
//
// One file system serves all containers: it costs the host one mount, and a container is
// shown its own directory of it only. Calls for one run must not overlap.
type Store struct {
	Dir  string // the mount point, without links
	Base string // where the data is seen inside a container
}

// Entry is a file or directory for a container. The ids are those inside.
type Entry struct {
	Path    string // inside
	Content *Content
	Sum     string // of Content
	Mode    uint32 // of files, if HasMode; otherwise theirs without write permissions
	HasMode bool
	UID     uint32
	GID     uint32
	Keep    bool // leave it as it is recorded
}

// State is what is recorded of an Entry.
type State struct {
	Index int    `json:"index"` // of the path among those of the container
	Dir   bool   `json:"dir,omitempty"`
	Sum   string `json:"sum"`
	Mode  string `json:"mode,omitempty"` // "" is that of the source
	UID   uint32 `json:"uid,omitempty"`
	GID   uint32 `json:"gid,omitempty"`

	Version int `json:"version,omitempty"` // of a directory
}

// NoFile is the Index of a source of variables: what it holds is no file of the container.
const NoFile = -1

// States are the recorded entries of a run, by path inside. A value never changes.
type States map[string]State

// ErrKind is the error for a path whose file became a directory or the other way round: a
// mount can't follow that.
var ErrKind = errors.New("a file became a directory, or a directory a file, which needs a restart")

// ErrNotInMemory is the error for a store that is no tmpfs of its own: nothing is written.
var ErrNotInMemory = errors.New("is not a tmpfs of its own; nothing secret is written there")

// Mount mounts the tmpfs unless it is mounted.
func (s *Store) Mount() error {
	if dir, err := s.open(); err == nil {
		return dir.Close()
	}
	if err := os.Mkdir(s.Dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	fd, err := newTmpfs(true)
	if errors.Is(err, unix.EINVAL) { // noswap came with Linux 6.4
		fd, err = newTmpfs(false)
	}
	if err == nil {
		err = os.NewSyscallError("move_mount", unix.MoveMount(fd, "", unix.AT_FDCWD, s.Dir, unix.MOVE_MOUNT_F_EMPTY_PATH))
		unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("mount tmpfs for files: %w", err)
	}
	return nil
}

// newTmpfs returns a new tmpfs as a detached mount.
func newTmpfs(noswap bool) (int, error) {
	fd, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fd)
	err = unix.FsconfigSetString(fd, "mode", "0700")
	if err == nil && noswap {
		err = unix.FsconfigSetFlag(fd, "noswap")
	}
	if err == nil {
		err = unix.FsconfigCreate(fd)
	}
	if err != nil {
		return -1, os.NewSyscallError("fsconfig", err)
	}
	mount, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	return mount, os.NewSyscallError("fsmount", err)
}

// Unmount unmounts the tmpfs if it is mounted and holds nothing.
func (s *Store) Unmount() error {
	dir, err := s.open()
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		names, _ := dir.Readdirnames(1)
		dir.Close()
		if len(names) > 0 {
			return nil
		}
		err = unix.Unmount(s.Dir, unix.UMOUNT_NOFOLLOW)
	}
	if err == nil || errors.Is(err, ErrNotInMemory) {
		err = os.Remove(s.Dir)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", s.Dir, err)
	}
	return nil
}

// open opens the tmpfs. What is written below the descriptor is written to a tmpfs, whatever
// is mounted or unmounted there later.
func (s *Store) open() (*os.File, error) {
	dir, err := os.Open(s.Dir)
	if err != nil {
		return nil, err
	}
	var fs unix.Statfs_t
	var st, above unix.Stat_t
	err = errors.Join(unix.Fstatfs(int(dir.Fd()), &fs), unix.Fstat(int(dir.Fd()), &st), unix.Stat(filepath.Dir(s.Dir), &above))
	if err == nil && (fs.Type != unix.TMPFS_MAGIC || st.Dev == above.Dev) {
		err = ErrNotInMemory
	}
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("%s: %w", s.Dir, err)
	}
	return dir, nil
}

// DataDir is the directory of a run that its container sees.
func (s *Store) DataDir(id string) string { return filepath.Join(s.Dir, id, "data") }

// LinkPath is the symbolic link for a file, DirPath the directory for a directory.
func (s *Store) LinkPath(id string, st State) string {
	return filepath.Join(s.Dir, id, "links", strconv.Itoa(st.Index))
}

// DirPath is the path of a directory among the data of a run.
func (s *Store) DirPath(id string, st State) string {
	return filepath.Join(s.DataDir(id), strconv.Itoa(st.Index))
}

// Write writes the entries of a run that differ from what is recorded of it, and returns what
// is to be recorded and the paths that it wrote. Each file changes at once, each directory
// too; whoever reads while it changes reads the old or the new. The owners' ids are offset by
// base. Without a record all is written. The caller records it with Record, once what follows
// from the change is done.
func (s *Store) Write(id string, entries []Entry, base uint32) (now States, wrote []string, err error) {
	before, err := s.States(id)
	if err != nil {
		return nil, nil, err
	}
	w, err := s.openRun(id, base)
	if err != nil {
		return nil, nil, err
	}
	defer w.Close()
	now = States{}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	for i, e := range entries {
		old, known := before[e.Path]
		st := State{Index: i, Dir: e.Content.Dir, Sum: e.Sum, UID: e.UID, GID: e.GID, Version: old.Version}
		if e.HasMode {
			st.Mode = fmt.Sprintf("%04o", e.Mode)
		}
		if known && !e.Keep && (st.Dir != old.Dir || st.Index != old.Index) {
			return nil, nil, fmt.Errorf("%s: %w", e.Path, ErrKind)
		}
		if known && e.Keep {
			st = old
		}
		if known && st == old {
			now[e.Path] = st
			continue
		}
		if st.Dir {
			err = w.directory(&e, &st)
		} else {
			err = w.file(&e, "data/"+strconv.Itoa(i), &e.Content.Items[0])
		}
		if err == nil && !known && !st.Dir {
			err = w.link(filepath.Join(s.Base, strconv.Itoa(i)), "links/"+strconv.Itoa(i))
		}
		if err != nil {
			return nil, nil, fmt.Errorf("write %s: %w", e.Path, reason(err))
		}
		now[e.Path] = st
		wrote = append(wrote, e.Path)
	}
	return now, wrote, nil
}

// Record records what was written for a run.
func (s *Store) Record(id string, now States) error {
	dir, err := s.open()
	if err != nil {
		return err
	}
	defer dir.Close()
	text, err := json.Marshal(now)
	if err != nil {
		return err
	}
	return atomicfile.WriteVolatile(fmt.Sprintf("/proc/self/fd/%d/%s/record.json", dir.Fd(), id), text)
}

// WriteEnv keeps the variables of a run, as NAME=VALUE.
func (s *Store) WriteEnv(id string, vars []string) error {
	dir, err := s.open()
	if err != nil {
		return err
	}
	defer dir.Close()
	text, err := json.Marshal(vars)
	if err != nil {
		return err
	}
	return atomicfile.WriteVolatile(fmt.Sprintf("/proc/self/fd/%d/%s/env.json", dir.Fd(), id), text)
}

// Env returns the variables of a run, nil if it has none.
func (s *Store) Env(id string) (vars []string, err error) {
	b, err := os.ReadFile(filepath.Join(s.Dir, id, "env.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &vars)
	}
	return vars, err
}

// PreparedPath is where the configuration for exec lies if it has variables from files.
func (s *Store) PreparedPath(id string) string { return filepath.Join(s.Dir, id, "exec.json") }

// States returns what is recorded of a run; nil if nothing is.
func (s *Store) States(id string) (States, error) {
	b, err := os.ReadFile(filepath.Join(s.Dir, id, "record.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var all States
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("read the record of files: %w", err)
	}
	return all, nil
}

// Tidy removes the old versions of the directories of a run that nobody reads any more.
func (s *Store) Tidy(id string, now States) error {
	var w *run
	var failed error
	for _, st := range now {
		if !st.Dir || st.Version == 0 {
			continue
		}
		if w == nil {
			var err error
			if w, err = s.openRun(id, 0); err != nil {
				return err
			}
			defer w.Close()
		}
		failed = errors.Join(failed, w.removeVersions("data/"+strconv.Itoa(st.Index), st.Version, maxOld))
	}
	return failed
}

// Remove deletes what was written for a run. It is safe to repeat.
func (s *Store) Remove(id string) error { return os.RemoveAll(filepath.Join(s.Dir, id)) }

// Runs returns the runs that have content.
func (s *Store) Runs() []string {
	entries, _ := os.ReadDir(s.Dir)
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return ids
}

// Paths returns the paths inside, sorted.
func (s States) Paths() []string { return slices.Sorted(maps.Keys(s)) }
