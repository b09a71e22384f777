package keeper

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"stead/runtime/record"

	"golang.org/x/sys/unix"
)

// A keeper becomes that of a newer binary by execve: pid and children stay, so
// exit codes do. It hands on the lock and its ends of the pipes: a pipe that
// nobody holds forgets what is in it when its container ends.

// legacyArg names the descriptor of a memfd that holds a legacy.
const handoverArg = "--legacy="

// legacy is what a keeper hands on to the binary that it becomes: descriptors.
type handover struct {
	Lock  int
	Pipes map[string][2]int // by id of the start: stdout, stderr
}

// upgrade is what is not done while the keeper changes into another.
type upgrade struct {
	sync.RWMutex // read-held by what must not be interrupted: launches
	lock         int
}

// become replaces this process by the program in the memfd. It only returns
// with an error; then all is as before.
func (s *server) upgradeTo(c conn, fds []int) error {
	defer closeAll(fds)
	if len(fds) != 1 {
		return errors.New("upgrade needs a program")
	}
	s.upgrade.Lock()
	defer s.upgrade.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.execs); n > 0 {
		return fmt.Errorf("%d exec sessions would be cut off", n)
	}
	if n := len(s.unrecorded); n > 0 {
		return fmt.Errorf("%d ends are not on record yet", n)
	}
	l := handover{Lock: s.upgrade.lock, Pipes: map[string][2]int{}}
	for id, e := range s.byID {
		e.log.Expire(time.Now().Add(time.Hour)) // beginnings of lines are kept as parts
		l.Pipes[id] = e.out
	}
	will, err := body(l)
	if err != nil {
		return err
	}
	defer will.Close()
	handed := append(l.descriptors(), int(will.Fd()))
	defer func() { // it did not work: they are ours again
		for _, fd := range handed {
			unix.CloseOnExec(fd)
		}
	}()
	for _, fd := range handed {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
	}
	s.log.Info("becoming the keeper of another binary", "containers", len(s.byID))
	var files syscall.Rlimit // set anew, as else Exec puts back that of our start, though a daemon has raised it
	err = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files)
	if err == nil {
		err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files)
	}
	if err != nil {
		return os.NewSyscallError("setrlimit", err)
	}
	argv := []string{Argv0, s.run, handoverArg + strconv.Itoa(int(will.Fd()))}
	return os.NewSyscallError("execve", syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", fds[0]), argv, os.Environ()))
}

func (l *handover) descriptors() []int {
	all := []int{l.Lock}
	for _, p := range l.Pipes {
		all = append(all, p[:]...)
	}
	return all
}

// inherit reads the legacy that an argument names.
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
	if err := json.NewDecoder(f).Decode(l); err != nil { // leniently: a newer keeper's descriptors are as good
		return nil, fmt.Errorf("read legacy: %w", err)
	}
	for _, fd := range l.descriptors() {
		unix.CloseOnExec(fd)
	}
	return l, nil
}

// isChild reports whether the process of a record is our own child: a predecessor
// with our pid cloned it. It may be a zombie by now.
func isChild(r *record.Record) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.Pid))
	if err != nil {
		return false
	}
	parent, started := record.StatFields(b)
	return parent == os.Getpid() && started == r.StartTime
}

// Upgrade has the keeper become that of this program's binary, and returns when
// it answers again.
func (k Client) Upgrade(ctx context.Context) error {
	binary, err := sealedSelf()
	if err != nil {
		return err
	}
	defer binary.Close()
	_, err = k.call(ctx, request{Op: "upgrade"}, int(binary.Fd()))
	if err != nil && !errors.Is(err, ErrNoKeeper) {
		return fmt.Errorf("upgrade keeper: %w", err)
	}
	// It hung up: execve worked. It listens again in a moment, or has died.
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		_, _, err := k.Ping(ctx)
		if !errors.Is(err, ErrNoKeeper) || time.Now().After(end) {
			return err
		}
	}
}

// Build is the id of the running program's binary, as Go's linker gives it; ""
// if it can't be read.
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
