package drift

import (
	"errors"
	"fmt"
	"os"

	"stead/runtime/hostpath"
	"stead/runtime/status"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// staleSources compares what a running container has mounted with what its paths lead to on the
// host now. A bind stays with the file or directory that was there at the start: a rename over
// it, or a directory that is deleted and made again, does not reach the container. Paths on
// file systems that may hang are left out.
func staleSources(m *spec.Container, pid int) (stale status.Differences) {
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // it is dead
	}
	defer unix.Close(root)
	if path := m.Spec.Rootfs.Path; path != "" {
		if found := replaced(path, root); found != "" {
			stale = append(stale, status.Difference{Field: "root " + path, Found: found})
		}
	}
	for target, w := range m.Spec.Mounts {
		if w.Source == "" {
			continue
		}
		how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
		fd, err := unix.Openat2(root, target, &how)
		if err != nil {
			continue // a mount that is gone is found elsewhere
		}
		if found := replaced(w.Source, fd); found != "" {
			stale = append(stale, status.Difference{Field: "mount " + target, Found: "has a source that " + found})
		}
		unix.Close(fd)
	}
	stale.Sort()
	return stale
}

// replaced says what became of a path of the host since its file was opened; "" if it is the
// same, or if nothing can be said.
func replaced(path string, opened int) string {
	if hostpath.Remote(path) != nil {
		return ""
	}
	var then unix.Stat_t
	if err := unix.Fstat(opened, &then); err != nil {
		return ""
	}
	var now unix.Stat_t
	switch err := unix.Stat(path, &now); {
	case errors.Is(err, os.ErrNotExist):
		return "was deleted on the host"
	case err == nil && (now.Dev != then.Dev || now.Ino != then.Ino):
		return "was replaced on the host"
	}
	return ""
}
