package source

import (
	"slices"

	"golang.org/x/sys/unix"
)

// isRemote tells file systems whose EAGAIN only means that the server granted no
// delegation (fs/nfs/nfs4proc.c, fs/smb/client/cifsfs.c).
func isRemote(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && slices.Contains([]string{"NFS", "SMB"}, fileSystemKind(&st))
}

// Shared names the file system of a directory if other machines may change it, of
// which inotify knows nothing: such changes are found by the resync tick. "" if
// it is a local one, or not there.
func Shared(dir string) string {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return ""
	}
	return fileSystemKind(&st)
}

func fileSystemKind(st *unix.Statfs_t) string {
	const cifs, smb2, ceph, lustre, gfs2, ocfs2 = 0xFF534D42, 0xFE534D42, 0x00C36400, 0x0BD00BD0, 0x01161970, 0x7461636F
	switch uint32(st.Type) {
	case unix.NFS_SUPER_MAGIC:
		return "NFS"
	case unix.SMB_SUPER_MAGIC, cifs, smb2:
		return "SMB"
	case unix.FUSE_SUPER_MAGIC:
		return "FUSE"
	case unix.V9FS_MAGIC:
		return "9P"
	case ceph, lustre, gfs2, ocfs2:
		return "a cluster file system"
	}
	return ""
}
