//go:build fault

package fault

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// dir is open: some points lie in a mount namespace that lacks its path.
var dir *os.Root

// Any, instead of a point's name, selects a random point.
const Any = "any"

// Self, instead of a pid, is the process that reaches the point.
const Self = "self"

// Dir sets the directory of the file `fault`, which holds the name of a point and the pids to kill
// there.
func Dir(path string) { dir, _ = os.OpenRoot(path) }

// Point kills the processes that the file names for it, the calling one last.
func Point(name string) {
	if dir == nil {
		return
	}
	b, err := dir.ReadFile("fault")
	words := strings.Fields(string(b))
	if err != nil || len(words) < 2 || words[0] != name && (words[0] != Any || rand.IntN(8) > 0) {
		return
	}
	if dir.Rename("fault", "fault.hit") != nil {
		return // another thread has taken it
	}
	self := false
	for _, w := range words[1:] {
		pid, _ := strconv.Atoi(w)
		if pid == os.Getpid() || w == Self {
			self = true
		} else if pid > 1 {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if self {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
