package launch

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// visibleMount is a mount of the container and the path at which it must be visible.
type visibleMount struct {
	target string
	mount  int
	link   bool // it is a symbolic link into another mount of the container
}

// verify checks the mounts of a start. Test builds replace it, so that attacks get further.
var verify = (*startJob).verify

// verify checks, after all mounts are attached, that each one is visible at its target. A
// process that shares the root or a volume may have renamed a target after it was opened:
// that does not harm the host, but the container would run without the mount. A mount
// may cover another mount of the same container.
func (b *startJob) verify() error {
	ids := make([]uint64, len(b.visibleMount))
	for i, s := range b.visibleMount {
		var err error
		if ids[i], err = mountID(s.mount); err != nil {
			return fmt.Errorf("check mount %s: %w", s.target, err)
		}
	}
	for i, s := range b.visibleMount {
		at, err := openVisible(b.rootFD, s)
		if err != nil {
			return TargetError(s.target, errnoOf(err))
		}
		id, err := mountID(at)
		unix.Close(at)
		kernels := strings.Count(s.target, "/") == 0 // proc and sys: no other mount is accepted
		if err == nil && (kernels && id != ids[i] || !slices.Contains(ids, id)) {
			err = unix.ESTALE
		}
		if err != nil {
			return &Error{AtTarget, "mount at /" + strings.TrimPrefix(s.target, "/"), errnoOf(err), "the target was moved during the start: another process has changed the root"}
		}
	}
	return nil
}

// openVisible opens what is visible at the target of a mount: of a symbolic link, what it leads
// to in the root.
func openVisible(root int, m visibleMount) (int, error) {
	if !m.link {
		return openBeneath(root, m.target, 0)
	}
	return unix.Openat2(root, m.target, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
}

// mountID returns the kernel's id of the mount that fd is on (statx(2), Linux 5.8).
func mountID(fd int) (uint64, error) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, unix.STATX_MNT_ID, &st)
	if err == nil && st.Mask&unix.STATX_MNT_ID == 0 {
		err = unix.ENOSYS
	}
	return st.Mnt_id, err
}
