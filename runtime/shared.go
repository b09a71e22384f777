package runtime

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"stead/runtime/atomicfile"
	"stead/runtime/hostpath"
	"stead/runtime/launch"
	"stead/runtime/specconv"
	"stead/runtime/weak"

	"golang.org/x/sys/unix"
)

// sharedDirs are directories of the host that a container can write, or ever
// could: a link that it left there outlives it. They are durable: a file with one
// on each line, quoted.
type sharedDirs struct {
	file string
	mu   sync.Mutex
	all  map[string]bool // without links
}

// open reads them. What is not there is among them: it may be on a disk that is
// not mounted yet.
func (s *sharedDirs) open(file string) error {
	s.file, s.all = file, map[string]bool{}
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read shared directories: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		dir, err := strconv.Unquote(strings.TrimSpace(line)) // the last line may be half there
		if err == nil {
			s.all[dir] = true
		}
	}
	return nil
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
		if !s.all[dir] {
			text += "\n" + strconv.Quote(dir) + "\n" // never behind half a line
		}
	}
	if text == "" {
		return nil
	}
	f, err := os.OpenFile(s.file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("note shared directories: %w", err)
	}
	for _, dir := range dirs {
		s.all[dir] = true
	}
	return nil
}

// begin notes what containers can write that an earlier stead started, which kept
// no such list.
func (r *Runtime) begin() error {
	if _, err := os.Lstat(r.shared.file); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	text := ""
	for name, c := range r.byName {
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
			at, err := r.lookAtPath(path)
			if err != nil { // it can't start either
				r.Log.Warn("links in a directory of a container may be followed: it is not there", "container", name, "path", path, "error", err)
			} else if at.dir && !r.isShared(at.real) {
				r.shared.all[at.real] = true
				text += strconv.Quote(at.real) + "\n"
			}
		}
	}
	if err := atomicfile.Write(r.shared.file, []byte(text)); err != nil {
		return fmt.Errorf("note shared directories: %w", err)
	}
	return nil
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
	real string // without links
	dir  bool
}

func (r *Runtime) lookAtPath(name string) (place, error) {
	if weak.Is("sources by path") { // CVE-2017-1002101
		return place{name, true}, nil
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
	return place{real, st.Mode&unix.S_IFMT == unix.S_IFDIR}, nil
}

// lookAtPaths replaces root and sources of mounts by what they are without links:
// the launch follows none. Until then another container may start that can write
// there. writable are the directories that this one will be able to write.
func (r *Runtime) lookAtPaths(root *launch.Root, mounts []launch.Mount) (writable []string, err error) {
	look := func(name *string, readOnly bool) (place, error) {
		at, err := r.lookAtPath(*name)
		if err != nil {
			return at, err
		}
		if *name = at.real; at.dir && !readOnly && !r.isShared(at.real) {
			writable = append(writable, at.real)
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
		if m := &mounts[i]; m.Source != "" {
			if _, err := look(&m.Source, m.ReadOnly); err != nil {
				return nil, &specconv.Error{Where: launch.AtSource, Message: fmt.Sprintf("open mount source %s: %v", m.Source, specconv.Reason(err))}
			}
		}
	}
	return writable, nil
}
