package accept

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// answers is a listener that answers with each of these in turn.
type answers []error

func (a *answers) Accept() (net.Conn, error) {
	err := (*a)[0]
	*a = (*a)[1:]
	if err != nil {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", err)}
	}
	c, _ := net.Pipe()
	return c, nil
}
func (a *answers) Close() error   { return nil }
func (a *answers) Addr() net.Addr { return nil }

func TestFrom(t *testing.T) {
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	l := &answers{unix.EMFILE, unix.ECONNABORTED, nil, nil, unix.EINVAL}
	for range 2 {
		if c, err := From(l, log); c == nil || err != nil {
			t.Errorf("got %v, %v", c, err)
		}
	}
	if got := said.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "accept failed; retrying") || !strings.Contains(got, "accept succeeds again") {
		t.Errorf("the log tells %q, want when it began and when it was over", got)
	}
	if _, err := From(l, log); err == nil || len(*l) != 0 {
		t.Errorf("what does not pass: %v", err)
	}
}
