package control

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A daemon that hangs still has its socket: who asks is told what to do.
func TestDialADaemonThatHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", path) // and never accept
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := dial(path, 10*time.Millisecond); err == nil || !strings.HasPrefix(err.Error(), "reach the daemon: no answer after 10ms: ") {
		t.Errorf("got %v", err)
	}
}
