package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"testing"
	"time"

	"stead/runtime/roottest"

	"golang.org/x/sys/unix"
)

// ownNetwork moves this goroutine's thread into a network namespace of its own, for good: what the
// goroutine starts is in it. With network.mode: host, containers of a keeper that is started there
// have that network. It returns a client that is in it too.
func ownNetwork(t *testing.T) *http.Client {
	t.Helper()
	runtime.LockOSThread() // for good
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(s)
	lo, err := unix.NewIfreq("lo")
	if err == nil {
		lo.SetUint16(unix.IFF_UP)
		err = unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo)
	}
	if err != nil {
		t.Fatalf("loopback: %v", err)
	}
	dial := func(ctx context.Context, network, address string) (c net.Conn, err error) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // never unlocked: the thread ends
			if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err == nil {
				c, err = (&net.Dialer{}).DialContext(ctx, network, address)
			}
		}()
		<-done
		return c, err
	}
	transport := &http.Transport{DialContext: dial}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// get returns what a server answers, or the error.
func get(client *http.Client, url string) string {
	r, err := client.Get(url)
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return string(b) + err.Error()
	}
	return string(b)
}

// untilAnswers waits until a server gives an answer.
func untilAnswers(t *testing.T, client *http.Client, url, want string) {
	t.Helper()
	got := ""
	for end := time.Now().Add(roottest.Patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if got = get(client, url); got == want {
			return
		}
	}
	t.Fatalf("%s answers %q, want %q", url, got, want)
}
