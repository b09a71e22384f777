package keeper

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"stead/runtime/record"

	"golang.org/x/sys/unix"
)

// newTestServer answers on the other end of the connection that it returns. It needs no
// root and can launch nothing.
func newTestServer(t *testing.T) conn {
	t.Helper()
	run := t.TempDir()
	if err := record.MakeDirs(run); err != nil {
		t.Fatal(err)
	}
	l, err := newLoop(run, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := make([]conn, 2)
	for i, fd := range pair {
		f := os.NewFile(uintptr(fd), "socket")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = conn{c.(*net.UnixConn)}
	}
	s := &server{loop: l}
	go s.answer(ends[1])
	t.Cleanup(func() { ends[0].Close() })
	return ends[0]
}

// A request that holds anything this keeper does not know is refused as a whole: a newer
// daemon's container must not come up without what was left out.
func TestKeeperRefusesWhatItDoesNotKnow(t *testing.T) {
	c := newTestServer(t)
	memfd := func(text string) int {
		fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if _, err := unix.Write(fd, []byte(text)); err != nil {
			t.Fatal(err)
		}
		return fd
	}
	for _, tt := range []struct {
		summary, request, body, names string
	}{
		{"a request", `{"op": "list", "since": 1}`, "", "since"},
		{"an operation", `{"op": "checkpoint", "id": "web.1"}`, "", "checkpoint"},
		{"the body of a start", `{"op": "start"}`, `{"Record": {"name": "web", "nonce": "1"}, "Config": {"Name": "web", "Ports": [80]}}`, "Ports"},
		{"the record in it", `{"op": "start"}`, `{"Record": {"name": "web", "nonce": "1", "lease": 5}}`, "lease"},
		{"the body of an exec", `{"op": "exec", "id": "web.1"}`, `{"Process": {"Argv": ["true"], "Landlock": {}}}`, "Landlock"},
	} {
		var fds []int
		if tt.body != "" {
			fds = append(fds, memfd(tt.body))
		}
		if err := c.send(json.RawMessage(tt.request), fds...); err != nil {
			t.Fatal(err)
		}
		var r reply
		if _, err := c.receive(&r); err != nil {
			t.Fatalf("%s: %v", tt.summary, err)
		}
		var older *OlderKeeperError
		if !errors.As(r.err(), &older) || !strings.Contains(r.Error, tt.names) {
			t.Errorf("%s: answered %+v, want a refusal that names %q", tt.summary, r, tt.names)
		}
	}
	if err := c.send(request{Op: "list"}); err != nil {
		t.Fatal(err)
	}
	var r reply
	if _, err := c.receive(&r); err != nil || r.Error != "" || !slices.Contains(r.Features, "strict") {
		t.Errorf("after the refusals: %+v, %v; want its features", r, err)
	}
}

// What a newer stead prepared for execs is not run without what this keeper does not know.
func TestKeeperRefusesPreparedOfNewer(t *testing.T) {
	run := runOfWeb(t)
	if err := os.WriteFile(filepath.Join(run, "containers", "web.1.exec"), []byte(`{"Process": {"UID": 0}, "Landlock": {}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := newLoop(run, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	err = (&server{loop: l}).execPrepared(conn{}, &request{ID: "web.1", Command: &Command{Argv: []string{"true"}}}, nil)
	if !errors.Is(err, ErrNotPrepared) || !strings.Contains(err.Error(), "Landlock") {
		t.Errorf("got %v, want %v that names Landlock", err, ErrNotPrepared)
	}
}
