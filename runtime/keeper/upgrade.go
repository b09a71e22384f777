package keeper

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"stead/runtime/launch"
	"stead/runtime/record"
	"stead/runtime/sealed"

	"golang.org/x/sys/unix"
)

// A keeper upgrades itself by execve of a newer binary: its pid and children stay, and with
// them all exit codes. It hands over the lock and its ends of the pipes: a pipe loses its
// content when its container ends while nobody else holds it open.

// handoverArg names the descriptor of a memfd that holds a handover.
const handoverArg = "--legacy="

// handover lists the descriptors that a keeper passes to the next binary.
type handover struct {
	Lock  int
	Pipes map[string][2]int // by id of the start: stdout, stderr
}

// upgrade keeps launches and an upgrade apart.
type upgrade struct {
	sync.RWMutex // read-locked by launches, which an upgrade must not interrupt
	lock         int
}

// upgradePatience is how long an upgrade waits for the starts under way to end.
const upgradePatience = 3 * time.Second

// lockSoon takes the lock for writing. It reports false if launches hold it for too long. It
// must not wait in Lock: that would block every launch that comes later.
func (u *upgrade) lockSoon() bool {
	for end := time.Now().Add(upgradePatience); !u.TryLock(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// upgradeTo replaces this process by the program in the memfd. It returns only with an
// error; then the keeper goes on as before.
func (s *server) upgradeTo(c conn, fds []int) error {
	defer closeAll(fds)
	if len(fds) != 1 {
		return errors.New("upgrade needs a program")
	}
	if !s.upgrade.lockSoon() {
		return errors.New("a start is under way")
	}
	defer s.upgrade.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.execs); n > 0 {
		return fmt.Errorf("%d exec sessions would be cut off", n)
	}
	if n := len(s.unrecorded) + len(s.ending); n > 0 {
		return fmt.Errorf("%d endings are not recorded yet", n)
	}
	l := handover{Lock: s.upgrade.lock, Pipes: map[string][2]int{}}
	for id, e := range s.byID {
		e.log.Expire(time.Now().Add(time.Hour)) // incomplete lines are written as parts
		l.Pipes[id] = e.out
	}
	if !s.logs.Settle(upgradePatience / 3) { // the loop stands still meanwhile
		return errors.New("output is being written to a log, and its disk takes long")
	}
	will, err := body(l)
	if err != nil {
		return err
	}
	defer will.Close()
	handed := append(l.descriptors(), int(will.Fd()))
	defer func() { // execve failed
		for _, fd := range handed {
			unix.CloseOnExec(fd)
		}
	}()
	for _, fd := range handed {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
	}
	s.log.Info("upgrading to another binary", "containers", len(s.byID))
	var files syscall.Rlimit // set again: otherwise Exec restores the limit of this process's start, which a daemon may have raised since
	err = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files)
	if err == nil {
		err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files)
	}
	if err != nil {
		return os.NewSyscallError("setrlimit", err)
	}
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	_ = launch.ResetThread() // a keeper of an older stead has what its daemon had
	argv := []string{Argv0, s.run, handoverArg + strconv.Itoa(int(will.Fd()))}
	return os.NewSyscallError("execve", syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", fds[0]), argv, os.Environ()))
}

func (l *handover) descriptors() []int {
	all := []int{l.Lock}
	for _, p := range l.Pipes {
		for _, fd := range p {
			if fd >= 0 { // the FIFO of an adopted container may have been deleted
				all = append(all, fd)
			}
		}
	}
	return all
}

// readHandover reads the handover whose descriptor the argument names.
func readHandover(arg string) (*handover, error) {
	fd, err := strconv.Atoi(strings.TrimPrefix(arg, handoverArg))
	if err != nil {
		return nil, fmt.Errorf("read legacy: %w", err)
	}
	l := &handover{}
	f := os.NewFile(uintptr(fd), "legacy")
	defer f.Close()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read legacy: %w", err)
	}
	if err := json.NewDecoder(f).Decode(l); err != nil { // leniently: after a downgrade the descriptors of a newer keeper serve as well
		return nil, fmt.Errorf("read legacy: %w", err)
	}
	for _, fd := range l.descriptors() {
		unix.CloseOnExec(fd)
	}
	return l, nil
}

// isChild reports whether the process of a record is a child of this process: an earlier
// binary with the same pid has cloned it. It may be a zombie by now.
func isChild(r *record.Record) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.Pid))
	if err != nil {
		return false
	}
	parent, started := record.StatFields(b)
	return parent == os.Getpid() && started == r.StartTime
}

// Upgrade makes the keeper run this program's binary, and returns when it answers again.
func (k Client) Upgrade(ctx context.Context) error {
	binary, err := sealed.Self(Argv0)
	if err != nil {
		return err
	}
	defer binary.Close()
	_, err = k.call(ctx, request{Op: "upgrade"}, int(binary.Fd()))
	if err != nil && !errors.Is(err, ErrNoKeeper) {
		return fmt.Errorf("upgrade keeper: %w", err)
	}
	// The connection was closed: execve succeeded. The keeper listens again in a moment,
	// unless it has died.
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		_, _, err := k.Ping(ctx)
		if !errors.Is(err, ErrNoKeeper) || time.Now().After(end) {
			return err
		}
	}
}

// Build returns the build id of this program, as Go's linker writes it; "" if it can't be
// read.
var Build = sync.OnceValue(func() string {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		return ""
	}
	defer f.Close()
	s := f.Section(".note.go.buildid")
	if s == nil {
		return ""
	}
	b, err := io.ReadAll(io.LimitReader(s.Open(), 1024))
	if err != nil || len(b) < 16 {
		return ""
	}
	return string(b[16:]) // after the note's header and name
})
