package hostpath

import (
	"path"

	"github.com/moby/sys/mountinfo"
)

// A file system that another machine or a process serves may never answer: a system call that
// touches it then never returns, not even after SIGKILL. Where that is so is found in the
// mount table, without touching the file system.

// local lists the file systems that this kernel serves by itself. Any other may hang.
var local = map[string]bool{
	"ext2": true, "ext3": true, "ext4": true, "xfs": true, "btrfs": true, "zfs": true, "f2fs": true, "bcachefs": true,
	"jfs": true, "nilfs2": true, "reiserfs": true, "vfat": true, "exfat": true, "ntfs3": true, "hfsplus": true, "udf": true,
	"iso9660": true, "squashfs": true, "erofs": true, "tmpfs": true, "ramfs": true, "rootfs": true, "devtmpfs": true,
	"overlay": true, "proc": true, "sysfs": true, "cgroup": true, "cgroup2": true, "devpts": true, "mqueue": true,
	"debugfs": true, "tracefs": true, "securityfs": true, "configfs": true, "bpf": true, "pstore": true, "efivarfs": true,
	"hugetlbfs": true, "fusectl": true, "binfmt_misc": true, "selinuxfs": true, "nsfs": true,
}

// RemoteMount is a mount of a file system that may hang.
type RemoteMount struct {
	Point  string // where it is mounted
	Type   string // "nfs4", "fuse.sshfs"
	Source string // "server:/export"
}

func (m *RemoteMount) String() string { return m.Point + " (" + m.Type + " of " + m.Source + ")" }

// hostMounts is the mount table of this process's namespace. It is a cache.
var hostMounts Mounts

// Remote returns the mount that a path of the host leads to, or through, if its file system may
// hang; nil if the whole path is on local file systems. It touches no such file system. One
// that is mounted at / counts as local: without it nothing works.
func Remote(name string) *RemoteMount {
	if hostMounts.Refresh(); !hostMounts.anyRemote() {
		return nil
	}
	_, _, m := Resolver(nil).resolve(name, true)
	return m
}

// anyRemote reports whether any file system of the table may hang.
func (m *Mounts) anyRemote() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.remote) > 0
}

// remoteAt returns the mount on a mount point if its file system may hang, else nil.
func (m *Mounts) remoteAt(point string) *RemoteMount {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := m.remote[point]; i != nil {
		return &RemoteMount{Point: i.Mountpoint, Type: i.FSType, Source: i.Source}
	}
	return nil
}

// indexRemote notes the file systems that may hang. Of several mounts on one point the last is
// on top.
func (m *Mounts) indexRemote(all []*mountinfo.Info) {
	m.remote = nil
	for _, mount := range all {
		if local[mount.FSType] || mount.Mountpoint == "/" {
			delete(m.remote, mount.Mountpoint)
			continue
		}
		if m.remote == nil {
			m.remote = map[string]*mountinfo.Info{}
		}
		m.remote[path.Clean(mount.Mountpoint)] = mount
	}
}
