package keeper

import (
	"fmt"
	"os"
	goruntime "runtime"

	"stead/runtime/launch"

	"golang.org/x/sys/unix"
)

// resetMemory resets what this process has inherited for its memory and would pass on.
func resetMemory() {
	_ = unix.Prctl(unix.PR_SET_THP_DISABLE, 0, 0, 0, 0)               // older kernels have neither
	_ = os.WriteFile("/proc/self/coredump_filter", []byte("0x33"), 0) // the kernel's default, core(5)
}

// ownNotes returns what this keeper has inherited and can't reset, for an admin.
func ownNotes() (notes []string) {
	if inForeignNetwork() {
		notes = append(notes, "the keeper runs in another network namespace than process 1, so containers with network: host have that one; "+
			"to change it stop all containers and the daemon, and start the daemon outside of that namespace")
	}
	failed := make(chan error)
	go func() {
		goruntime.LockOSThread() // for good: what is half reset ends with the goroutine
		failed <- launch.ResetThread()
	}()
	if err := <-failed; err != nil {
		notes = append(notes, fmt.Sprintf("containers inherit from the process that started the keeper: %v; start the daemon with all capabilities", err))
	}
	return notes
}

// inForeignNetwork reports whether this process is in another network namespace than process 1.
// Each network namespace has files of its own in proc, which anybody may look at; ns/net of
// process 1 needs rights to trace it.
func inForeignNetwork() bool {
	own, err := os.Stat("/proc/self/net/dev")
	host, err2 := os.Stat("/proc/1/net/dev")
	return err == nil && err2 == nil && !os.SameFile(own, host)
}
