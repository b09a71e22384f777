package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"stead/runtime/atomicfile"
	"stead/runtime/hostpath"
	"stead/runtime/launch"
	"stead/runtime/specconv"
	"stead/runtime/store"
	"stead/runtime/weak"

	"golang.org/x/sys/unix"
)

// sharedDirs are the directories and files of the host that a container can write, or
// ever could: a link or a manifest that it left there outlives it. They are durable: a
// file with one on each line, quoted, by each path under which the host showed it and
// by its identity.
type sharedDirs struct {
	file string
	mu   sync.Mutex
	all  map[string]bool // without links
	list []string        // the same, in the order in which they came
}

// open reads them. What is not there is among them: it may be on a disk that is
// not mounted yet.
func (s *sharedDirs) open(file string) error {
	s.file, s.all = file, map[string]bool{}
	for _, dir := range []string{"containers", "removed"} { // private roots
		s.list = append(s.list, filepath.Join(store.Resolved(filepath.Dir(file)), dir))
	}
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read shared directories: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		dir, err := strconv.Unquote(strings.TrimSpace(line)) // the last line may be half there
		if err == nil {
			s.put(dir)
		}
	}
	return nil
}

func (s *sharedDirs) put(dir string) {
	if dir != "" && !s.all[dir] {
		s.all[dir] = true
		s.list = append(s.list, dir)
	}
}

func (s *sharedDirs) has(dir string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[dir]
}

// add notes them on disk before it returns.
func (s *sharedDirs) add(dirs []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := ""
	for _, dir := range dirs {
		if dir != "" && !s.all[dir] {
			text += "\n" + strconv.Quote(dir) + "\n" // never behind half a line
		}
	}
	if text == "" {
		return nil
	}
	f, err := os.OpenFile(s.file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Sync(), f.Close(), atomicfile.SyncDir(filepath.Dir(s.file)))
	}
	if err != nil {
		return fmt.Errorf("note shared directories: %w", err)
	}
	for _, dir := range dirs {
		s.put(dir)
	}
	return nil
}

// begin notes what containers can write that an earlier stead started, which kept
// no such list, or none of files.
func (r *Runtime) begin() error {
	var found []string
	r.mounts.Refresh()
	renew := !slices.ContainsFunc(r.shared.list, func(s string) bool { _, is := hostpath.Inode(s); return is })
	for _, c := range r.byName {
		m := c.facts.Manifest
		var paths []string
		if !m.Spec.Rootfs.ReadOnly {
			paths = append(paths, r.root(m))
		}
		for _, mount := range m.Spec.Mounts {
			if mount.Source != "" && !mount.ReadOnly {
				paths = append(paths, mount.Source)
			}
		}
		for _, path := range paths {
			if r.isShared(path) && !renew {
				continue // as nearly all are
			}
			at, err := r.lookAtPath(path)
			if err != nil { // it may be on a disk that is not mounted yet
				found = append(found, path)
			} else {
				found = append(append(found, r.mounts.Names(at.real)...), at.identity)
			}
		}
	}
	return r.shared.add(found)
}

// isShared says whether containers may have made what is directly in a directory
// of the host: links there are not followed.
func (r *Runtime) isShared(dir string) bool {
	state := r.host.Owner // without links
	if rest, ok := strings.CutPrefix(dir, state+"/containers/"); ok && strings.Contains(rest, "/upper") {
		return true
	}
	return strings.HasPrefix(dir, state+"/removed/") || r.shared.has(dir)
}

// place is what a path of the host leads to.
type place struct {
	real       string // without links
	dir        bool
	identity   string
	notMounted error // it is no mount point
}

func (r *Runtime) lookAtPath(name string) (place, error) {
	if weak.Is("sources by path") { // CVE-2017-1002101
		return place{real: name, dir: true}, nil
	}
	fd, real, err := hostpath.Open(name, r.isShared)
	if err != nil {
		return place{}, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return place{}, err
	}
	return place{real, st.Mode&unix.S_IFMT == unix.S_IFDIR, hostpath.Identity(fd), launch.CheckMountPoint(fd, name)}, nil
}

// lookAtPaths replaces root and sources of mounts by what they are without links:
// the launch follows none. Until then another container may start that can write
// there. writable are the directories and files that this one will be able to write,
// by all their paths.
//
// What it may not write is refused here, by what was opened and not by what the path
// was when the manifest was read, which whoever can make links may have changed since.
// Nothing of that can change before the launch opens it again, by its path without
// links: only a rename could put something else there, and neither a container, in
// whose mounts no such place lies, nor a user, who may not write where such a place
// lies, can rename one to there.
func (r *Runtime) lookAtPaths(root *launch.Root, mounts []launch.Mount) (writable []string, err error) {
	var orders *hostpath.Orders // made when asked for: most containers write to their private root only
	look := func(name *string, readOnly bool) (place, error) {
		at, err := r.lookAtPath(*name)
		if err != nil {
			return at, err
		}
		if *name = at.real; readOnly || root.Usr != "" && name == &root.Path {
			return at, nil
		}
		if orders == nil {
			orders = hostpath.Look(*r.orders.Load()...)
			r.mounts.Refresh()
		}
		names := r.mounts.Names(at.real)
		if why := orders.Fault(names); why != "" {
			return at, errors.New(why)
		}
		if !r.isShared(at.real) || !r.shared.has(at.identity) {
			writable = append(append(writable, names...), at.identity)
		}
		return at, nil
	}
	at, err := look(&root.Path, root.ReadOnly)
	if err == nil && !at.dir {
		err = unix.ENOTDIR
	}
	if err != nil {
		return nil, &specconv.Error{Where: launch.AtRoot, Message: fmt.Sprintf("rootfs.path %s: %v", root.Path, specconv.Reason(err))}
	}
	if root.Usr != "" {
		if _, err := look(&root.Usr, true); err != nil {
			return nil, &specconv.Error{Where: launch.AtRoot, Message: fmt.Sprintf("open %s: %v", root.Usr, specconv.Reason(err))}
		}
	}
	for i := range mounts {
		m := &mounts[i]
		if m.Source == "" {
			continue
		}
		if m.Create != nil {
			if err := makeSource(m.Source, *m.Create, r.isShared); err != nil {
				return nil, err
			}
		}
		at, err := look(&m.Source, m.ReadOnly)
		if err != nil {
			return nil, &specconv.Error{Where: launch.AtSource, Message: fmt.Sprintf("open mount source %s: %v", m.Source, specconv.Reason(err))}
		}
		if m.MountPoint && at.notMounted != nil {
			return nil, &specconv.Error{Where: launch.AtSource, Message: at.notMounted.Error()}
		}
	}
	return writable, nil
}

// Orders are the places from which stead takes what it does as root: no container may
// write there.
func Orders(stateDir, runDir, config string, manifests []string) []hostpath.Order {
	list := []hostpath.Order{{What: "the state directory", Path: stateDir, State: true}, {What: "the run directory", Path: runDir}}
	if config != "" && config != os.DevNull {
		list = append(list, hostpath.Order{What: "the configuration", Path: config})
	}
	for _, dir := range manifests {
		list = append(list, hostpath.Order{What: "the manifest directory", Path: dir})
	}
	return list // and the sources of files:, envFiles: and envSecrets:, once there are any
}

// SetOrders says where the configuration and the manifests are.
func (r *Runtime) SetOrders(config string, manifests []string) {
	list := Orders(r.StateDir, r.RunDir, config, manifests)
	r.orders.Store(&list)
}

// Writable are the directories and files of the host that containers can write, or
// ever could: paths without links, and identities. The list only grows at its end.
func (r *Runtime) Writable() []string {
	r.shared.mu.Lock()
	defer r.shared.mu.Unlock()
	return r.shared.list
}

// CheckConfig says why the configuration is not to be read: a container can write to
// it, or to a link that leads there, or once could.
func CheckConfig(stateDir, config string) error {
	list, err := Writable(stateDir)
	if err != nil {
		return err
	}
	real, links := hostpath.Resolve(config)
	for _, name := range append(links, real) {
		for _, dir := range list {
			if hostpath.Within(name, dir) {
				return fmt.Errorf("a container can write to %s, or once could; copy the file to a directory that no container could ever write", dir)
			}
		}
	}
	return nil
}

// Writable is what Runtime.Writable is of a state directory.
func Writable(stateDir string) ([]string, error) {
	var s sharedDirs
	err := s.open(filepath.Join(stateDir, "shared"))
	return s.list, err
}
