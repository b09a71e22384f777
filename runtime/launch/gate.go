package launch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// gateEnd is the parent's end of the gate to one child.
type gateEnd struct {
	program *program // of the child, to explain a failure
	gate    int
}

func (l *gateEnd) send(what byte) error {
	if err := unix.Sendto(l.gate, []byte{what}, unix.MSG_NOSIGNAL, nil); err != nil {
		return l.deathError(err)
	}
	return nil
}

// deathError returns the failure that the child has reported, if any, else err.
func (l *gateEnd) deathError(err error) error {
	if _, said := l.expect('-'); said != nil {
		return said
	}
	return fmt.Errorf("send to the child: %w", err)
}

// expectSeparate waits until the child has its own descriptor table. Until then the parent
// also holds the child's end of the gate, so the child's death causes no end of file.
func (l *gateEnd) expectSeparate() error {
	all := []unix.PollFd{{Fd: int32(l.gate), Events: unix.POLLIN}, {Fd: l.program.pidfd, Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(all, int(execTimeout.Milliseconds()))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return os.NewSyscallError("poll", err)
		case n == 0:
			return fmt.Errorf("start: %w", errTimeout)
		case all[0].Revents != 0:
			_, err = l.expect('d')
			return err
		default:
			return fmt.Errorf("start: %w", errKilled)
		}
	}
}

// expect reads one message of the child: the wanted letter with its descriptors, a failure,
// or end of file, for which `want` is 0.
func (l *gateEnd) expect(want byte) ([]int, error) {
	m, err := l.receive(want)
	return m.fds, err
}

// expectPid reads the pid of the process that takes the child's place. It accepts the message only from the
// child itself: the container's root can already attach to the other process and may use
// its gate, and the keeper will signal the pid of this message.
func (l *gateEnd) expectPid(child int) (int, error) {
	m, err := l.receive('b')
	if err == nil && (len(m.text) < int(unsafe.Sizeof(pidMessage{})) || m.sender != child) {
		err = fmt.Errorf("read from the child: %w", unix.EPROTO)
	}
	closeAll(m.fds)
	if err != nil {
		return 0, err
	}
	return int(int32(binary.NativeEndian.Uint32(m.text[unsafe.Offsetof(pidMessage{}.pid):]))), nil
}

// message is one message from the gate.
type message struct {
	text   []byte
	fds    []int
	sender int // its pid in the keeper's pid namespace; 0 without SO_PASSCRED
}

func (l *gateEnd) receive(want byte) (message, error) {
	var text, control [64]byte
	var n, nc int
	var err error
	for {
		n, nc, _, _, err = unix.Recvmsg(l.gate, text[:], control[:], unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	if err == unix.EAGAIN { // SO_RCVTIMEO
		return message{}, fmt.Errorf("start: %w", errTimeout)
	}
	if err != nil && err != unix.ECONNRESET {
		return message{}, fmt.Errorf("read from the child: %w", err)
	}
	m, err := parseControl(control[:nc])
	m.text = text[:n]
	switch {
	case err != nil:
	case n >= int(unsafe.Sizeof(failure{})) && text[0] == 'e':
		err = l.program.explain(decodeFailure(m.text))
	case n == 0 && want == 0:
	case n == 0:
		err = fmt.Errorf("start: %w", errKilled)
	case text[0] != want:
		err = fmt.Errorf("read from the child: %w", unix.EPROTO)
	}
	if err != nil {
		closeAll(m.fds)
		return message{}, err
	}
	return m, nil
}

var (
	errKilled  = errors.New("the process was killed before its command ran")
	errTimeout = errors.New("the process did not execute its command in time; the container is frozen or has stopped the process")
)

// parseControl returns the descriptors and the sender of a message.
func parseControl(control []byte) (m message, err error) {
	all, err := unix.ParseSocketControlMessage(control)
	for i := range all {
		if fds, err := unix.ParseUnixRights(&all[i]); err == nil {
			m.fds = append(m.fds, fds...)
		} else if cred, err := unix.ParseUnixCredentials(&all[i]); err == nil {
			m.sender = int(cred.Pid)
		}
	}
	return m, err
}

func decodeFailure(b []byte) failure {
	return failure{runMark: b[0], index: int32(binary.NativeEndian.Uint32(b[4:])), errno: int32(binary.NativeEndian.Uint32(b[8:]))}
}

// launchError turns every error into an *Error.
func launchError(err error) error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, errKilled) {
		return &Error{AtStep, "start", unix.ECANCELED, errKilled.Error()}
	}
	if errors.Is(err, errTimeout) {
		return &Error{AtStep, "start", unix.ETIMEDOUT, errTimeout.Error()}
	}
	errno := errnoOf(err)
	return &Error{AtStep, strings.TrimSuffix(err.Error(), ": "+errno.Error()), errno, ""}
}

// ReadRan reads a ran file. ran reports whether the command was executed; failed is the
// error of a failed execve. If neither is set, the child never reached the execve.
func ReadRan(file string) (ran bool, failed error, err error) {
	b, err := os.ReadFile(file)
	if err != nil || len(b) == 0 {
		return false, nil, err
	}
	if len(b) >= int(unsafe.Sizeof(failure{})) && b[0] == 'e' {
		errno := unix.Errno(decodeFailure(b).errno)
		return false, &Error{AtCommand, "execute", errno, commandHint(errno)}, nil
	}
	return true, nil, nil
}
