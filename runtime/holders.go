package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// maxHolders is how many processes a message names.
const maxHolders = 5

// holders describes the processes that may still use the merged root of a container's directory:
// those in whose mount namespace it is mounted, and those that have a file open in an overlay that
// is mounted nowhere.
func holders(dir string) string {
	var found []string
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		if why := holds(p, dir); why != "" {
			comm, _ := os.ReadFile(p + "/comm")
			found = append(found, fmt.Sprintf("process %s (%s), %s", filepath.Base(p), strings.TrimSpace(string(comm)), why))
		}
	}
	switch {
	case len(found) == 0:
		return "no process was found that does"
	case len(found) > maxHolders:
		found = append(found[:maxHolders], fmt.Sprintf("and %d others", len(found)-maxHolders))
	}
	return "used by " + strings.Join(found, "; ")
}

// holds returns how a process uses the merged root of a container's directory, "" if it does not.
func holds(process, dir string) string {
	f, err := os.Open(process + "/mountinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return ""
	}
	for _, m := range mounts {
		if m.FSType == "overlay" && m.Source == dir {
			return "in whose mount namespace it is mounted at " + m.Mountpoint
		}
	}
	open, _ := filepath.Glob(process + "/fd/*")
	for _, file := range append([]string{process + "/cwd", process + "/root"}, open...) {
		// Nothing that asks a server, which may never answer, of a file system that is mounted.
		var st unix.Statx_t
		if unix.Statx(unix.AT_FDCWD, file, unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st) != nil || st.Mask&unix.STATX_MNT_ID == 0 {
			continue
		}
		mounted := func(m *mountinfo.Info) bool { return m.ID == int(st.Mnt_id) }
		var fs unix.Statfs_t
		if !slices.ContainsFunc(mounts, mounted) && unix.Statfs(file, &fs) == nil && fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
			return "which has " + strings.TrimPrefix(file, process+"/") + " in an overlay that is unmounted"
		}
	}
	return ""
}
