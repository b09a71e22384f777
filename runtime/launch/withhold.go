package launch

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// withhold keeps this process's heap and stacks out of children that it clones
// (madvise(2), MADV_DONTFORK), but for what lies in keep. It makes a clone
// cheaper, as there are fewer pages to be copied and then faulted in again by
// both sides, and a container's process never holds the keeper's memory.
//
// The heap grows by new mappings, so it is repeated from time to time; what was
// missed is merely copied.
func withhold(keep [][]byte) error {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		// Anonymous and private ones have five fields; the first below is .bss.
		if len(fields) != 5 || fields[1] != "rw-p" {
			continue
		}
		var from, to uintptr
		if _, err := fmt.Sscanf(fields[0], "%x-%x", &from, &to); err != nil || from < firstArena {
			continue
		}
		if overlaps(from, to, keep) {
			continue
		}
		if _, _, e := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTFORK); e != 0 && e != unix.ENOMEM {
			return os.NewSyscallError("madvise", e) // ENOMEM: unmapped meanwhile
		}
	}
	return nil
}

// firstArena is where Go's heap begins on 64-bit systems; static data is below.
const firstArena = 0xc000000000

func overlaps(from, to uintptr, keep [][]byte) bool {
	for _, k := range keep {
		at := address(k)
		if at < to && from < at+uintptr(len(k)) {
			return true
		}
	}
	return false
}
