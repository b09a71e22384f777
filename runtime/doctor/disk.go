package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"stead/runtime/launch"

	"golang.org/x/sys/unix"
)

// fileSystem checks the state directory, whose file system must be able to map ids.
func (h *host) fileSystem() []Check {
	dir := nearestExisting(h.StateDir)
	name, err := fsName(dir)
	if err != nil {
		return single("state directory", Missing, fmt.Sprintf("%s: %v", dir, err), "name a directory that can be read with --state-dir")
	}
	all := single("state directory", OK, h.StateDir+" on "+name, "")
	if info, err := os.Stat(h.StateDir); err == nil && info.Mode().Perm()&0o077 != 0 {
		all = single("state directory", Warning, fmt.Sprintf("%s on %s, mode %04o", h.StateDir, name, info.Mode().Perm()),
			"chmod 700 "+h.StateDir+": set-user-ID files made in containers are root's on disk")
	}
	if h.uid != 0 {
		return append(all, Check{"id mapping", Warning, "not tried without root", "run stead doctor as root"})
	}
	if err := tryIDMap(dir); err != nil {
		return append(all, Check{"id mapping", Warning, fmt.Sprintf("refused on %s: %v", name, err),
			"put --state-dir on ext4, xfs, btrfs or (from Linux 6.3) tmpfs, not on overlay or NFS; or say security: {userns: host} in the manifests"})
	}
	return append(all, Check{"id mapping", OK, "works on " + name, ""})
}

// nearestExisting returns dir or its nearest existing parent.
func nearestExisting(dir string) string {
	for dir != "/" && !exists(dir) {
		dir = filepath.Dir(dir)
	}
	return dir
}

func fsName(dir string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", err
	}
	names := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
		unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.NFS_SUPER_MAGIC: "nfs", unix.FUSE_SUPER_MAGIC: "fuse", unix.F2FS_SUPER_MAGIC: "f2fs", 0x2fc12fc1: "zfs",
	}
	if name, ok := names[int64(st.Type)]; ok {
		return name, nil
	}
	return fmt.Sprintf("a file system of type %#x", st.Type), nil
}

// tryIDMap maps the ids of a detached copy of the directory's mount, as the start of a container
// does. It attaches nothing, so nothing is left.
func tryIDMap(dir string) error {
	userns, err := newUserNamespace()
	if err != nil {
		return err
	}
	defer userns.Close()
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns.Fd())}
	return os.NewSyscallError("mount_setattr", unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr))
}

// firstID is the first host id of the user namespaces that are made to try something.
const firstID = 1 << 20

// newUserNamespace returns a new user namespace with id maps. The process that made it is gone
// when this returns.
func newUserNamespace() (*os.File, error) {
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: firstID, Size: 1 << 16}}
	cmd := exec.Command("/bin/cat") // it stays until its input ends
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("make a user namespace: %w", err)
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid))
	in.Close()
	if waited := cmd.Wait(); err == nil && waited != nil {
		f.Close()
		return nil, fmt.Errorf("make a user namespace: %w", waited)
	}
	return f, err
}

// hostRoot checks that /bin and /lib are links into /usr: `rootfs: {host: {}}` shows only /usr.
func (h *host) hostRoot() []Check {
	for _, dir := range []string{"/bin", "/lib"} {
		target, err := os.Readlink(h.path(dir))
		if err != nil || strings.Trim(target, "/") != "usr"+dir {
			return single("host roots", Warning, dir+" is no link into /usr", "rootfs: {host: {}} needs a merged /usr (Debian: apt install usrmerge); use rootfs: {path: …} otherwise")
		}
	}
	return single("host roots", OK, "/usr is merged", "")
}

// overlay checks that roots of images can be mounted: an overlay of the state directory's file
// system, with mapped ids.
func (h *host) overlay() []Check {
	b, err := os.ReadFile(h.path("/proc/filesystems"))
	if err != nil || !strings.Contains(string(b), "\toverlay\n") {
		return single("image roots", Warning, "overlay is not available, or its module is not loaded", "modprobe overlay; roots of kind host and path don't need it")
	}
	dir := nearestExisting(h.StateDir)
	name, err := fsName(dir)
	switch {
	case err != nil:
		return single("image roots", Warning, err.Error(), "name a directory that can be read with --state-dir")
	case h.uid != 0:
		return single("image roots", Warning, "not tried without root", "run stead doctor as root")
	}
	if err := launch.TryOverlay(dir, firstID); err != nil {
		return single("image roots", Warning, fmt.Sprintf("an overlay is refused on %s: %v", name, err),
			"install Linux 5.19 or later and put --state-dir on ext4, xfs or btrfs; roots of kind host and path don't need it")
	}
	return single("image roots", OK, "overlays with mapped ids work on "+name, "")
}

// watches checks the inotify limits: the daemon watches each manifest directory and its parents.
func (h *host) watches() []Check {
	limit, err := h.number("/proc/sys/fs/inotify/max_user_watches")
	if err != nil {
		return single("inotify", Warning, err.Error(), "use a kernel with CONFIG_INOTIFY_USER; until then manifests are polled every few seconds")
	}
	instances, _ := h.number("/proc/sys/fs/inotify/max_user_instances")
	dirs := int64(0)
	for _, dir := range h.Manifests {
		_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs++
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
	}
	found := fmt.Sprintf("%d watches, %d instances; manifests are in %d directories", limit, instances, dirs)
	enough := limit >= 2*dirs+16 && instances >= 8
	return single("inotify", levelIf(enough, Warning), found, "sysctl -w fs.inotify.max_user_watches=524288 fs.inotify.max_user_instances=512")
}
