package keeper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"stead/runtime/launch"
	"stead/runtime/record"

	"golang.org/x/sys/unix"
)

// Socket returns the path of the keeper's socket in the run directory.
func Socket(run string) string { return filepath.Join(run, "keeper.sock") }

// The keeper outlives the daemon and may be older than its clients. It decodes every
// request and every body strictly and refuses unknown fields: a field that it ignored would
// silently be missing from the container. The reply to list names the keeper's features, for
// changes that a field name can't show: a new value or a new meaning. A client decodes
// replies leniently, as a newer keeper may send more.

// features lists what this keeper can do that the first keepers could not. A released
// feature stays in the list for ever.
var features = []string{Strict}

// Strict is the feature of a keeper that refuses unknown fields.
const Strict = "strict"

// request is one message to the keeper. The body of start and exec is in a memfd, the first
// descriptor of the message.
type request struct {
	Op       string   `json:"op"` // start, exec, exec-prepared, signal, wait, limit, list, watch, mount-root, unmount-root, freeze, thaw, upgrade, quit
	ID       string   `json:"id,omitempty"`
	Signal   int      `json:"signal,omitempty"`
	Stopping bool     `json:"stopping,omitempty"`
	LogSize  int64    `json:"logSize,omitempty"`
	LogKeep  int      `json:"logKeep,omitempty"`
	Command  *Command `json:"command,omitempty"` // of exec-prepared

	Overlay *launch.Overlay `json:"overlay,omitempty"` // of mount-root
	Dir     string          `json:"dir,omitempty"`     // of unmount-root and freeze
	Millis  int64           `json:"millis,omitempty"`  // of freeze: how long at most
}

// reply is one message from the keeper.
type reply struct {
	Error   string         `json:"error,omitempty"`
	Where   string         `json:"where,omitempty"` // launch.Where of a failed launch
	Errno   syscall.Errno  `json:"errno,omitempty"` // of a failed launch; 0 from a keeper that does not send it
	Missing bool           `json:"missing,omitempty"`
	Pid     int            `json:"pid,omitempty"`
	Ended   *record.Ending `json:"ended,omitempty"`
	ID      string         `json:"id,omitempty"`
	Live    int            `json:"live,omitempty"`
	Build   string         `json:"build,omitempty"`

	Unknown  bool     `json:"unknown,omitempty"`  // this keeper does not know a part of the request
	Features []string `json:"features,omitempty"` // in the reply to list
	Notes    []string `json:"notes,omitempty"`    // in the reply to list: what an admin should know about this keeper

	Faults []Fault `json:"faults,omitempty"` // in the reply to list: logs that lose lines

	Mounted *launch.Mounted `json:"mounted,omitempty"` // in the reply to mount-root
	Held    bool            `json:"held,omitempty"`    // the error is launch.ErrHeld
}

// startBody is the body of start.
type startBody struct {
	Record *record.Record
	Config *launch.Config
}

const maxMessage = 16 << 10

// conn is one end of the socket.
type conn struct{ *net.UnixConn }

func (c conn) send(v any, fds ...int) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxMessage {
		return fmt.Errorf("message of %d bytes is too long", len(b))
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	_, _, err = c.WriteMsgUnix(b, rights, nil)
	return err
}

// receive reads a reply. It returns io.EOF when the other end is closed.
func (c conn) receive(v any) (fds []int, err error) {
	b, fds, err := c.read()
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, v); err != nil {
		closeAll(fds)
		return nil, fmt.Errorf("decode message: %w", err)
	}
	return fds, nil
}

// receiveRequest reads a request. It returns io.EOF when the other end is closed, and
// errUnknown if this keeper does not know a part of the request.
func (c conn) receiveRequest(q *request) (fds []int, err error) {
	b, fds, err := c.read()
	if err != nil {
		return nil, err
	}
	if err := decodeStrictly(bytes.NewReader(b), q); err != nil {
		closeAll(fds)
		return nil, err
	}
	return fds, nil
}

// errUnknown is the keeper's error for a request of a newer stead.
var errUnknown = errors.New("the keeper is older than the stead that sent the request")

// decodeStrictly decodes one JSON value; the error wraps errUnknown.
func decodeStrictly(r io.Reader, v any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", errUnknown, err)
	}
	return nil
}

func (c conn) read() (b []byte, fds []int, err error) {
	b, control := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(8*4))
	n, nc, _, _, err := c.ReadMsgUnix(b, control)
	if err != nil {
		if errors.Is(err, unix.ECONNRESET) {
			err = io.EOF
		}
		return nil, nil, err
	}
	if n == 0 {
		return nil, nil, io.EOF
	}
	if nc > 0 {
		messages, err := unix.ParseSocketControlMessage(control[:nc])
		if err != nil {
			return nil, nil, err
		}
		for i := range messages {
			if more, err := unix.ParseUnixRights(&messages[i]); err == nil {
				fds = append(fds, more...)
			}
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
		}
	}
	return b[:n], fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// body returns a memfd that holds v as JSON.
func body(v any) (*os.File, error) {
	fd, err := unix.MemfdCreate("stead-request", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "request")
	if err := json.NewEncoder(f).Encode(v); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// decodeBody decodes the body of a request strictly and closes it.
func decodeBody(fd int, v any) error {
	f := os.NewFile(uintptr(fd), "request")
	defer f.Close()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return decodeStrictly(f, v)
}
