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

	"stead/runtime/hostpath"
	"stead/runtime/launch"
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

// open reads them. What is not there any more is left out.
func (s *sharedDirs) open(file string) error {
	s.file, s.all = file, map[string]bool{}
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read shared directories: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		dir, err := strconv.Unquote(strings.TrimSpace(line)) // the last line may be half there
		if _, e := os.Lstat(dir); err == nil && !errors.Is(e, os.ErrNotExist) {
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

// isShared says whether containers may have made what is directly in a directory
// of the host: links there are not followed.
func (r *Runtime) isShared(dir string) bool {
	state := r.host.Owner // without links
	if rest, ok := strings.CutPrefix(dir, state+"/containers/"); ok && strings.Contains(rest, "/upper") {
		return true
	}
	return strings.HasPrefix(dir, state+"/removed/") || r.shared.has(dir)
}

// hostPaths are the paths of the host that a start opens, with what is known of
// them.
type hostPaths struct {
	shared   []string // directories above them in which links are not followed
	writable []string // directories that the container will be able to write
}

// lookAtPaths opens and closes root and sources of mounts as the launch will.
func (r *Runtime) lookAtPaths(root launch.Root, mounts []launch.Mount) (hostPaths, error) {
	var found hostPaths
	look := func(name string, readOnly bool) (dir bool, err error) {
		if weak.Is("sources by path") { // CVE-2017-1002101
			return true, nil
		}
		fd, real, err := hostpath.Open(name, r.isShared)
		if err != nil {
			return false, err
		}
		defer unix.Close(fd)
		for above := real; above != "/"; above = filepath.Dir(above) {
			if r.isShared(above) && !slices.Contains(found.shared, above) {
				found.shared = append(found.shared, above)
			}
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return false, err
		}
		dir = st.Mode&unix.S_IFMT == unix.S_IFDIR
		if dir && !readOnly && !r.isShared(real) {
			found.writable = append(found.writable, real)
		}
		return dir, nil
	}
	dir, err := look(root.Path, root.ReadOnly)
	if err == nil && !dir {
		err = unix.ENOTDIR
	}
	if err != nil {
		return found, &startError{launch.AtRoot, fmt.Sprintf("rootfs.path %s: %v", root.Path, reasonOf(err))}
	}
	for _, m := range mounts {
		if m.Source == "" {
			continue
		}
		if _, err := look(m.Source, m.ReadOnly); err != nil {
			return found, &startError{launch.AtSource, fmt.Sprintf("open mount source %s: %v", m.Source, reasonOf(err))}
		}
	}
	return found, nil
}
