package launch

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// excludeFromFork excludes this process's heap and stacks, except keep, from the memory that
// cloned children get (madvise(2), MADV_DONTFORK). It makes a clone cheaper, as fewer
// page tables are copied and fewer pages are faulted in again by both sides, and a
// container's process never has the keeper's memory.
//
// The heap grows by new mappings, so the caller repeats it from time to time. A mapping
// that was missed is only copied.
func excludeFromFork(keep [][]byte) error {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer f.Close()
	for m := range heapMappings(f) {
		for _, r := range subtract(m, keep) {
			if _, _, e := unix.Syscall(unix.SYS_MADVISE, r.from, r.to-r.from, unix.MADV_DONTFORK); e != 0 && e != unix.ENOMEM {
				return os.NewSyscallError("madvise", e) // ENOMEM: unmapped meanwhile
			}
		}
	}
	return nil
}

// heapMappings returns the mappings of heap and stacks: anonymous, private and writable. Go
// names its mappings where the kernel can ("[anon: Go: heap]") and puts them at random
// addresses. Zeroed static data is anonymous, too, but follows a mapping of the file directly.
func heapMappings(maps io.Reader) iter.Seq[span] {
	return func(yield func(span) bool) {
		inFile := uintptr(0) // end of the last mapping of a file
		for s := bufio.NewScanner(maps); s.Scan(); {
			fields := strings.Fields(s.Text()) // addresses, rights, offset, device, inode, name (proc_pid_maps(5))
			var m span
			if len(fields) < 5 {
				continue
			}
			if _, err := fmt.Sscanf(fields[0], "%x-%x", &m.from, &m.to); err != nil {
				continue
			}
			switch {
			case len(fields) > 5 && !strings.HasPrefix(fields[5], "[anon:"):
				inFile = m.to
			case fields[1] == "rw-p" && m.from != inFile && !yield(m):
				return
			}
		}
	}
}

// span is a range of addresses, without the last.
type span struct{ from, to uintptr }

// subtract returns the parts of a mapping that are not in keep: the kernel shows adjacent
// mappings as one.
func subtract(m span, keep [][]byte) []span {
	left := []span{m}
	for _, k := range keep {
		from, to := address(k), address(k)+uintptr(len(k))
		var next []span
		for _, s := range left {
			if before := (span{s.from, min(s.to, from)}); before.from < before.to {
				next = append(next, before)
			}
			if after := (span{max(s.from, to), s.to}); after.from < after.to {
				next = append(next, after)
			}
		}
		left = next
	}
	return left
}
