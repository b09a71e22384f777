package hostpath

import (
	"encoding/binary"
	"os"
	"sync"
	"unsafe"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
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
	ID     int    // of the mount, in this namespace
	Point  string // where it is mounted
	Type   string // "nfs4", "fuse.sshfs"
	Source string // "server:/export"
}

func (m *RemoteMount) String() string { return m.Point + " (" + m.Type + " of " + m.Source + ")" }

// remoteMounts is what is known of the mounts of this process's namespace whose file systems may
// hang. It is a cache.
var remoteMounts remoteTable

// Remote returns the mount that a path of the host leads to, or through, if its file system may
// hang; nil if the whole path is on local file systems. It touches no such file system. One
// that is mounted at / counts as local: without it nothing works.
func Remote(name string) *RemoteMount {
	if len(remoteMounts.current()) == 0 {
		return nil
	}
	m, _ := Resolver(nil).Remote(name)
	return m
}

// Remote is the function Remote; real is the path without links, as far as it was followed.
func (r Resolver) Remote(name string) (m *RemoteMount, real string) {
	real, _, m = r.resolve(name, remoteMounts.current())
	if m != nil { // it may have been unmounted meanwhile
		real, _, m = r.resolve(name, remoteMounts.reread())
	}
	return m, real
}

// RemoteMounts returns the mounts of file systems that may hang, by mount point. The map must not be
// changed. One of them may have been unmounted meanwhile: Remote finds that out.
func RemoteMounts() map[string]*RemoteMount { return remoteMounts.current() }

// remoteTable finds mounts of file systems that may hang. Where the kernel lists mounts by ids
// that are never reused (listmount and statmount, Linux 6.8), it looks only at those that came
// since the last look: hosts have thousands of mounts, which come and go with containers.
type remoteTable struct {
	mu     sync.Mutex              // guards what follows
	file   int                     // /proc/self/mountinfo, which poll(2) reports changes of; 0 if not open
	known  bool                    // there was no change since the last look
	whole  bool                    // nor since the whole table was read
	last   uint64                  // the highest id of a mount that was looked at
	remote map[string]*RemoteMount // by mount point; replaced, never changed
}

// current returns the mounts as they are now. Without a change it costs one poll(2).
func (t *remoteTable) current() map[string]*RemoteMount {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == 0 {
		fd, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return t.remote
		}
		t.file = fd
	}
	poll := []unix.PollFd{{Fd: int32(t.file), Events: unix.POLLPRI}}
	if n, err := unix.Poll(poll, 0); n == 0 && err == nil && t.known {
		return t.remote
	}
	t.known, t.whole = false, false
	if fresh, ok := t.newRemote(); ok && !fresh {
		t.known = true // only local file systems came
		return t.remote
	}
	t.readWhole()
	return t.remote
}

// reread returns the mounts after a read of the whole table, which also notices what is gone.
func (t *remoteTable) reread() map[string]*RemoteMount {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.whole {
		t.readWhole()
	}
	return t.remote
}

func (t *remoteTable) readWhole() {
	if all, err := readMounts(); err == nil {
		t.remote, t.known, t.whole = remoteOf(all), true, true
	}
}

// newRemote reports whether any mount that came since the last call may hang; ok is false where
// the kernel can't tell.
func (t *remoteTable) newRemote() (found, ok bool) {
	var ids [512]uint64
	for {
		q := mountRequest{size: uint32(unsafe.Sizeof(mountRequest{})), id: listRoot, param: t.last}
		n, _, e := unix.Syscall6(unix.SYS_LISTMOUNT, uintptr(unsafe.Pointer(&q)), uintptr(unsafe.Pointer(&ids[0])), uintptr(len(ids)), 0, 0, 0)
		if e != 0 {
			return false, false
		}
		for _, id := range ids[:n] {
			kind, err := mountType(id)
			if err != nil && err != unix.ENOENT { // ENOENT: it is gone again
				return false, false
			}
			found = found || err == nil && !local[kind]
			t.last = id
		}
		if int(n) < len(ids) {
			return found, true
		}
	}
}

// mountRequest is struct mnt_id_req.
type mountRequest struct {
	size, _          uint32
	id, param, space uint64
}

const (
	listRoot   = 0xffffffffffffffff // LSMT_ROOT
	statFSType = 0x20               // STATMOUNT_FS_TYPE
)

// mountType returns the type of a mount's file system.
func mountType(id uint64) (string, error) {
	var b [512 + 128]byte // struct statmount, and the string
	q := mountRequest{size: uint32(unsafe.Sizeof(mountRequest{})), id: id, param: statFSType}
	if _, _, e := unix.Syscall6(unix.SYS_STATMOUNT, uintptr(unsafe.Pointer(&q)), uintptr(unsafe.Pointer(&b[0])), unsafe.Sizeof(b), 0, 0, 0); e != 0 {
		return "", e
	}
	at := 512 + int(binary.NativeEndian.Uint32(b[36:])) // fs_type, an offset into str
	if at >= len(b) {
		return "", unix.EPROTO
	}
	return unix.ByteSliceToString(b[at:]), nil
}

func readMounts() ([]*mountinfo.Info, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return mountinfo.GetMountsFromReader(f, nil)
}

// remoteOf returns the mounts that may hang, by mount point. Of several on one point the last is
// on top.
func remoteOf(all []*mountinfo.Info) map[string]*RemoteMount {
	remote := map[string]*RemoteMount{}
	for _, m := range all {
		delete(remote, m.Mountpoint)
		if !local[m.FSType] && m.Mountpoint != "/" {
			remote[m.Mountpoint] = &RemoteMount{ID: m.ID, Point: m.Mountpoint, Type: m.FSType, Source: m.Source}
		}
	}
	return remote
}
