package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// If somebody deletes the socket of a keeper, the keeper still holds its containers and its
// lock, but no request reaches it. SIGHUP makes it create the socket again.

// listen creates the socket.
func listen(run string) (*net.UnixListener, error) {
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: Socket(run), Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(Socket(run), 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// relisten creates the socket again if it is missing. Open connections stay open.
func (s *server) relisten() {
	if _, err := os.Lstat(Socket(s.run)); err == nil {
		return
	}
	next, err := listen(s.run)
	if err != nil {
		s.log.Error("cannot create the socket again", "error", err)
		return
	}
	s.log.Warn("the socket was deleted by hand; created it again")
	var old *net.UnixListener
	s.do(func() { old, s.listener = s.listener, next })
	go s.accept(next)
	old.SetUnlinkOnClose(false) // the name belongs to the new listener
	old.Close()
}

// isReplaced reports whether another listener has replaced l.
func (s *server) isReplaced(l *net.UnixListener) (is bool) {
	s.do(func() { is = s.listener != l })
	return is
}

// requestRelisten makes a keeper that runs without its socket create the socket again, and
// returns the keeper's pid; ErrNoKeeper if there is none.
func (k Client) requestRelisten(ctx context.Context) (int, error) {
	if _, err := os.Lstat(Socket(k.Run)); !errors.Is(err, os.ErrNotExist) {
		return 0, ErrNoKeeper // left by a dead keeper
	}
	pid := lockHolder(filepath.Join(k.Run, lockFile))
	if pid == 0 {
		return 0, ErrNoKeeper
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return 0, ErrNoKeeper
	}
	defer unix.Close(pidfd)
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if !bytes.HasPrefix(line, []byte(Argv0+"\x00"+k.Run+"\x00")) {
		return 0, ErrNoKeeper
	}
	if err := unix.PidfdSendSignal(pidfd, unix.SIGHUP, nil, 0); err != nil {
		return 0, ErrNoKeeper
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
		if pid, _, err := k.Ping(ctx); err == nil {
			return pid, nil
		}
		if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0); n > 0 {
			break // it was an older keeper, which the signal ended
		}
	}
	return 0, ErrNoKeeper
}

// lockHolder returns the pid of the process that holds a flock(2) lock on a file; 0 if none
// does. /proc/locks has lines such as "1: FLOCK  ADVISORY  WRITE 1234 00:1a:5678 0 EOF".
func lockHolder(file string) (pid int) {
	var st unix.Stat_t
	if unix.Stat(file, &st) != nil {
		return 0
	}
	b, _ := os.ReadFile("/proc/locks")
	want := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 5 && f[1] == "FLOCK" && f[5] == want {
			fmt.Sscan(f[4], &pid)
			return pid
		}
	}
	return 0
}
