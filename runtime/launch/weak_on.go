//go:build weak

package launch

import (
	"time"

	"stead/runtime/weak"

	"golang.org/x/sys/unix"
)

// weaken does what other runtimes did between the mount of proc and its masks.
func (b *birth) weaken(kernel []int) {
	if b.late != nil {
		b.late()
	}
	if weak.Is("masks by path") { // and a moment for whoever swaps the path
		time.Sleep(2 * time.Millisecond)
		for i, name := range []string{"/proc", "/sys"} {
			if fd, err := unix.Open(b.root+name, unix.O_PATH|unix.O_CLOEXEC, 0); err == nil {
				kernel[i] = fd
				b.opened = append(b.opened, fd)
			}
		}
	}
	if weak.Is("console from the root") { // CVE-2025-52565
		fd, err := unix.OpenTree(unix.AT_FDCWD, b.root+"/dev/pts/0", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return
		}
		unix.Mknod(consoleOf(b.root), unix.S_IFREG|0o666, 0)
		unix.MoveMount(fd, "", unix.AT_FDCWD, consoleOf(b.root), unix.MOVE_MOUNT_F_EMPTY_PATH)
		b.opened = append(b.opened, fd)
	}
}
