package main

import (
	"net"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"stead/reconcile/view"
	"stead/runtime/roottest"
)

// What systemd is told: that the daemon is ready, reloads, how the host stands,
// that it is alive, and that it ends.
func TestNotify(t *testing.T) {
	h := newHost(t)
	h.write("a.yaml", manifest("a", ""))
	h.ok("apply")
	socket := h.dir + "/systemd"
	notices, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notices.Close()
	h.daemon = h.command("daemon")
	h.daemon.Env = append(h.daemon.Env, "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=300000")
	h.daemon.Stderr = &h.log
	if err := h.daemon.Start(); err != nil {
		t.Fatal(err)
	}
	// until reads notices until one matches.
	until := func(want string) {
		t.Helper()
		match := regexp.MustCompile(`^` + want + `$`)
		if err := notices.SetReadDeadline(time.Now().Add(roottest.Patience)); err != nil {
			t.Fatal(err)
		}
		var seen []string
		for buffer := make([]byte, 4096); ; {
			n, err := notices.Read(buffer)
			if err != nil {
				t.Fatalf("no %s among %q", want, seen)
			}
			if seen = append(seen, string(buffer[:n])); match.Match(buffer[:n]) {
				return
			}
		}
	}
	until(`READY=1`)
	until(`STATUS=1 of 1 containers running`)
	until(`WATCHDOG=1`)
	until(`WATCHDOG=1`)
	if err := h.daemon.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(`RELOADING=1\nMONOTONIC_USEC=\d+`)
	until(`READY=1`)
	h.write("b.yaml", strings.Replace(manifest("b", ""), "network", "netwrok", 1))
	until(`STATUS=1 of 1 containers running, 1 not as declared`) // a manifest with errors is no container
	if err := h.daemon.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until(`STOPPING=1`)
	h.endDaemon(syscall.SIGTERM)
}

// The daemon ends within two seconds even while it waits for a container that
// takes its time; the stop goes on to its end with the next one.
func TestEndsInTheMiddle(t *testing.T) {
	h := newHost(t)
	h.write("deaf.yaml", strings.Replace(manifest("deaf", "  stop: {timeout: 6s}\n"), `trap "exit 0" TERM`, `trap "" TERM`, 1))
	h.startDaemon()
	h.untilLogged("deaf", "I am deaf") // and is from here on
	stop := h.command("stop", "deaf")
	if err := stop.Start(); err != nil {
		t.Fatal(err)
	}
	h.until("deaf", "stopping", func(v view.Container) bool { return v.State == "Stopping" })
	began := time.Now()
	h.endDaemon(syscall.SIGTERM)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v to end", took)
	}
	if err := stop.Wait(); err == nil {
		t.Error("the verb that asked for the stop was told that it is done")
	}
	h.startDaemon()
	h.until("deaf", "stopped", func(v view.Container) bool { return v.State == "Stopped" && v.Reason == "StoppedByAdmin" })
}
