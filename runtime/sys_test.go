package runtime

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Containers without a network share one sysfs, which shows none: to make another
// takes longer the more there are.
func TestSysOfNoNetworkIsShared(t *testing.T) {
	w := newWorld(t)
	look := script("stat -c %d /sys; ls /sys/class/net; cat /sys/class/net/lo/flags; echo x 2>&1 >/sys/kernel/mm/ksm/run ; echo end; sleep 1000")
	var said []string
	for _, name := range []string{"a", "b"} {
		w.create(name, look+"\nstop: {signal: KILL}")
		w.awaitOutput(name, "end")
		said = append(said, w.output(name))
	}
	if said[0] != said[1] {
		t.Errorf("one sees %q, the other %q", said[0], said[1])
	}
	var host unix.Stat_t
	w.must(unix.Stat("/sys", &host))
	lines := strings.Split(said[0], "\n")
	if len(lines) < 4 || lines[0] == fmt.Sprint(host.Dev) || lines[1] != "lo" || lines[2] != "0x9" {
		t.Errorf("not a sysfs of its own network (loopback, up) alone: %q, the host's is %d", lines, host.Dev)
	}
}
