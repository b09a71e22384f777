package hostpath

import (
	"fmt"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Within reports whether a path is dir or below it; both without links.
func Within(name, dir string) bool {
	return name == dir || dir == "/" || strings.HasPrefix(name, dir) && name[len(dir)] == '/'
}

// Resolve follows the symbolic links of an absolute path as the kernel does now. real is the
// path without links, links are the links on the way. Missing parts are kept as
// written.
func Resolve(name string) (real string, links []string) { return Resolver(nil).Resolve(name) }

// Resolver resolves many paths and caches which paths are no links. nil caches nothing.
type Resolver map[string]bool // paths that are no links

// Resolve resolves one path like the function Resolve.
func (r Resolver) Resolve(name string) (real string, links []string) {
	real, links, _ = r.resolve(name, nil)
	return real, links
}

// ResolveLocal is Resolve for a path that may lead to a file system that may hang: it does not
// touch that, and keeps what lies there as written. The launch of a container, which opens the
// path elsewhere, follows no links.
func (r Resolver) ResolveLocal(name string) (real string) {
	real, _, _ = r.resolve(name, remoteMounts.current())
	return real
}

// resolve is Resolve, but stops at the first of some mounts, by mount point.
func (r Resolver) resolve(name string, stops map[string]*RemoteMount) (real string, links []string, stop *RemoteMount) {
	real = "/"
	target := make([]byte, unix.PathMax)
	for todo := splitPath(name); len(todo) > 0; {
		next := path.Join(real, todo[0]) // ".." is relative to the target of an earlier link
		todo = todo[1:]
		if stop = stops[next]; stop != nil {
			return path.Join(append([]string{next}, todo...)...), links, stop
		}
		if r[next] {
			real = next
			continue
		}
		n, err := unix.Readlink(next, target)
		if err != nil || len(links) == 40 { // as many as the kernel follows
			if real = next; r != nil && len(todo) > 0 {
				r[next] = true
			}
			continue
		}
		links = append(links, next)
		to := string(target[:n])
		if path.IsAbs(to) {
			real = "/"
		}
		todo = append(splitPath(to), todo...)
	}
	return real, links, nil
}

// Identity returns a text that identifies a file or directory through renames and reboots:
// the inode's number and its time of birth (man 2 statx, stx_btime), which nobody can set.
// "" where the file system has no such time.
func Identity(fd int) string {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil || st.Mask&unix.STATX_BTIME == 0 {
		return ""
	}
	return fmt.Sprintf("inode %d of %d.%09d", st.Ino, st.Btime.Sec, st.Btime.Nsec)
}

// Inode returns the inode's number in an identity; false for a path.
func Inode(identity string) (ino uint64, ok bool) {
	_, err := fmt.Sscanf(identity, "inode %d", &ino)
	return ino, err == nil
}

// Mounts tells under which paths the host shows a file or directory. The zero value is ready
// to use.
type Mounts struct {
	mu     sync.Mutex
	file   *os.File                   // /proc/self/mountinfo
	at     map[string]*mountinfo.Info // by mount point; of several the last, which is on top
	twins  []*mountinfo.Info          // mounts of file systems that are mounted more than once
	number int
}

// Refresh reads the mount table if poll(2) reports a change (man 5 proc). It returns how often
// the table was read. Without a change the cost does not depend on the number of mounts.
func (m *Mounts) Refresh() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file == nil {
		// Not with os.Open, whose poller would consume the event.
		fd, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return m.number
		}
		m.file = os.NewFile(uintptr(fd), "mountinfo")
	} else {
		poll := []unix.PollFd{{Fd: int32(m.file.Fd()), Events: unix.POLLPRI}}
		if n, err := unix.Poll(poll, 0); n == 0 && err == nil {
			return m.number
		}
	}
	if _, err := m.file.Seek(0, 0); err != nil {
		return m.number
	}
	all, err := mountinfo.GetMountsFromReader(m.file, nil)
	if err != nil {
		m.file.Close() // the event of the change is consumed: the next call reads again
		m.file = nil
		return m.number
	}
	m.index(all)
	m.number++
	return m.number
}

func (m *Mounts) index(all []*mountinfo.Info) {
	m.at, m.twins = make(map[string]*mountinfo.Info, len(all)), nil
	times := map[[2]int]int{}
	for _, mount := range all {
		m.at[mount.Mountpoint] = mount
		times[[2]int{mount.Major, mount.Minor}]++
	}
	for _, mount := range all {
		if times[[2]int{mount.Major, mount.Minor}] > 1 && path.IsAbs(mount.Root) { // otherwise it is a namespace
			m.twins = append(m.twins, mount)
		}
	}
}

// Names returns the paths under which the host shows the file or directory real, or a part of
// it, as of the last Refresh: real first, then the paths in other mounts of the same file
// system. Mounts below real count as parts.
func (m *Mounts) Names(real string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := []string{real}
	for _, mount := range m.twins {
		if Within(mount.Mountpoint, real) && mount.Mountpoint != real {
			names = m.add(names, mount, mount.Root)
		}
	}
	for dir := real; len(m.twins) > 0; dir = path.Dir(dir) {
		if mount := m.at[dir]; mount != nil {
			return m.add(names, mount, path.Join(mount.Root, real[len(strings.TrimSuffix(dir, "/")):]))
		}
		if dir == "/" {
			break
		}
	}
	return names
}

// add appends the paths under which other mounts show the path inside of a file system, or a
// part of it.
func (m *Mounts) add(names []string, of *mountinfo.Info, inside string) []string {
	for _, mount := range m.twins {
		switch {
		case mount == of || mount.Major != of.Major || mount.Minor != of.Minor:
		case Within(mount.Root, inside):
			names = append(names, mount.Mountpoint)
		case Within(inside, mount.Root):
			names = append(names, path.Join(mount.Mountpoint, inside[len(strings.TrimSuffix(mount.Root, "/")):]))
		}
	}
	return names
}
