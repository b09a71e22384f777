package keeper

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// acceptAnswers is a listener that answers with each of these in turn.
type acceptAnswers []error

func (a *acceptAnswers) Accept() (net.Conn, error) {
	err := (*a)[0]
	*a = (*a)[1:]
	if err != nil {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", err)}
	}
	c, _ := net.Pipe()
	return c, nil
}
func (a *acceptAnswers) Close() error   { return nil }
func (a *acceptAnswers) Addr() net.Addr { return nil }

func TestAcceptFrom(t *testing.T) {
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	l := &acceptAnswers{unix.EMFILE, unix.ECONNABORTED, nil, nil, unix.EINVAL}
	for range 2 {
		if c, err := acceptFrom(l, log); c == nil || err != nil {
			t.Errorf("got %v, %v", c, err)
		}
	}
	if got := said.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "accept failed; retrying") || !strings.Contains(got, "accept succeeds again") {
		t.Errorf("the log tells %q, want when it began and when it was over", got)
	}
	if _, err := acceptFrom(l, log); err == nil || len(*l) != 0 {
		t.Errorf("what does not pass: %v", err)
	}
}
