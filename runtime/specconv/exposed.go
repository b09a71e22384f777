package specconv

import (
	"path/filepath"
	"slices"
	"strings"

	"stead/runtime/hostpath"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// Exposed returns the directories of the host in which a container's root can
// leave a set-user-ID file that any user of the host can run. It runs as root, as on disk
// the files of a container's root belong to root. It says nothing about file systems that may
// hang, and does not touch them.
func Exposed(c *spec.Container) (exposed []string) {
	if user, _, _ := strings.Cut(string(c.Spec.User), ":"); user != "0" && user != "root" && (c.Spec.Security.NoNewPrivileges == nil || *c.Spec.Security.NoNewPrivileges) {
		return nil // no process of the container becomes root
	}
	var dirs []string
	if p := c.Spec.Rootfs.Path; p != "" && !c.Spec.Rootfs.ReadOnly {
		dirs = append(dirs, p)
	}
	for _, m := range c.Spec.Mounts {
		if m.Source != "" && !m.ReadOnly && (m.IDMap == nil || *m.IDMap) { // else its files belong to ids of the container's own
			dirs = append(dirs, m.Source)
		}
	}
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) {
		if hostpath.Remote(dir) == nil && reachable(dir) {
			exposed = append(exposed, dir)
		}
	}
	return exposed
}

// reachable reports whether other users than root can reach a directory and run
// set-user-ID files there.
func reachable(dir string) bool {
	fd, real, err := hostpath.Open(dir, func(string) bool { return false })
	if err != nil {
		return false // the container can't start either
	}
	defer unix.Close(fd)
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil || fs.Flags&unix.ST_NOSUID != 0 {
		return false
	}
	for above := real; ; above = filepath.Dir(above) {
		var st unix.Stat_t
		if err := unix.Stat(above, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Mode&0o001 == 0 {
			return false
		}
		if above == "/" {
			return true
		}
	}
}
