package doctor

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// sharedDevices are the device nodes of the host that every container has.
var sharedDevices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// devices checks that everybody may use the device nodes that containers share with the host.
func (h *host) devices() []Check {
	const name = "device nodes"
	var wrong, fix []string
	for _, d := range sharedDevices {
		path := "/dev/" + d
		st, err := os.Stat(h.path(path))
		switch {
		case err != nil:
			return single(name, Missing, fmt.Sprintf("%s: no such device", path), "mount a devtmpfs at /dev")
		case h.root == "" && st.Mode()&os.ModeCharDevice == 0:
			return single(name, Missing, path+" is no character device", "rm "+path+" and make it again: see null(4)")
		case st.Mode().Perm()&0o666 != 0o666:
			wrong = append(wrong, fmt.Sprintf("%s has mode %04o", path, st.Mode().Perm()))
			fix = append(fix, path)
		}
	}
	if len(wrong) > 0 {
		return single(name, Warning, strings.Join(wrong, ", ")+": users other than root fail in every container", "chmod 666 "+strings.Join(fix, " "))
	}
	return single(name, OK, "usable by everybody", "")
}

// rootMount checks that the root directory is a mount: in a plain chroot it is none, and no mount
// namespace can be set up.
func (h *host) rootMount() []Check {
	const name = "root mount"
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, h.path("/"), unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	switch {
	case err != nil:
		return single(name, Warning, err.Error(), "")
	case st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0: // before Linux 5.8
		return nil
	case st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0:
		return single(name, Missing, "/ is a plain directory (a chroot): no container can be started", "bind the directory onto itself and enter it with pivot_root, or run stead outside of the chroot")
	}
	return single(name, OK, "/ is a mount", "")
}
