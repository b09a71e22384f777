package source

import (
	"slices"

	"golang.org/x/sys/unix"
)

// isRemote reports whether a file lies on a file system where EAGAIN for a lease only
// means that the server granted no delegation (fs/nfs/nfs4proc.c, fs/smb/client/cifsfs.c).
func isRemote(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && slices.Contains([]string{"NFS", "SMB"}, fileSystemKind(&st))
}

// Shared returns the name of the file system of a directory if other machines can change
// it, which inotify does not notice: the periodic resync finds such changes. It returns ""
// for a local file system or a missing directory.
func Shared(dir string) string {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return ""
	}
	return fileSystemKind(&st)
}

// fileSystemKind returns the name of a file system that several machines share, else "".
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
