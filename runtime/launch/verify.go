package launch

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// shown is a mount of the container's, by its descriptor, and where it is to be seen.
type visibleMount struct {
	target string
	mount  int
}

// verify is a variable for test builds, in which attacks are to get further.
var verify = (*startJob).verify

// verify looks, when all is attached, whether each mount is where it should be.
// Whoever shares the root or a volume may have renamed a target after it was
// found: no harm to the host, but the container would run without the mount. One
// of its own over another is meant so.
func (b *startJob) verify() error {
	ids := make([]uint64, len(b.visibleMount))
	for i, s := range b.visibleMount {
		var err error
		if ids[i], err = mountID(s.mount); err != nil {
			return fmt.Errorf("look at mount %s: %w", s.target, err)
		}
	}
	for i, s := range b.visibleMount {
		at, err := openBeneath(b.rootFD, s.target, 0)
		if err != nil {
			return TargetError(s.target, errnoOf(err))
		}
		id, err := mountID(at)
		unix.Close(at)
		kernels := strings.Count(s.target, "/") == 0 // proc and sys: nothing else will do
		if err == nil && (kernels && id != ids[i] || !slices.Contains(ids, id)) {
			err = unix.ESTALE
		}
		if err != nil {
			return &Error{AtTarget, "mount at /" + strings.TrimPrefix(s.target, "/"), errnoOf(err), "it is elsewhere now: somebody changed the root at the same time"}
		}
	}
	return nil
}

// mountID is the kernel's number of the mount that fd is on (statx(2), Linux 5.8).
func mountID(fd int) (uint64, error) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, unix.STATX_MNT_ID, &st)
	if err == nil && st.Mask&unix.STATX_MNT_ID == 0 {
		err = unix.ENOSYS
	}
	return st.Mnt_id, err
}
