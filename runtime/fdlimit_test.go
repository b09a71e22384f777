package runtime

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"stead/runtime/keeper"
	"stead/runtime/roottest"
	"stead/runtime/status"

	"golang.org/x/sys/unix"
)

// A keeper takes no more containers than it has descriptors for, whoever asks, and
// does all else as ever: it has them for another keeper to take over.
func TestKeeperIsFull(t *testing.T) {
	w := newWorld(t)
	body := script(forever)
	first := w.create("c0", body)
	pid, _, err := w.keeper.Ping(ctx)
	if err != nil {
		t.Fatal(err)
	}
	files := uint64(100)
	for keeper.Room(files) < 7 {
		files++
	}
	var limit unix.Rlimit
	if err = unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit); err == nil {
		err = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: limit.Max}, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	room := keeper.Room(files)
	for i := 1; i < room; i++ {
		w.create(fmt.Sprintf("c%d", i), body)
	}
	_, err = w.Create(ctx, parse(t, "more", body), origin)
	if want := fmt.Sprintf("the keeper is full: it holds %d containers at its limit of %d open files", room, files); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	w.Remove(ctx, "more")

	var clients []net.Conn
	for err = nil; err == nil && len(clients) < int(files); {
		c, e := net.Dial("unixpacket", keeper.Socket(w.o.RunDir))
		if e != nil {
			t.Fatal(e)
		}
		clients = append(clients, c)
		_, _, _, err = w.exec("c0", "", ExecOptions{Argv: []string{"true"}})
	}
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("the keeper is too busy for its limit of %d open files; try again", files)) {
		t.Errorf("exec with %d other clients: %v", len(clients), err)
	}
	if err := w.Stop(ctx, "c1", status.StopOptions{}); err != nil { // what is left is for this
		t.Error(err)
	}
	for range files { // now none is left
		if c, err := net.Dial("unixpacket", keeper.Socket(w.o.RunDir)); err == nil {
			clients = append(clients, c)
		}
	}
	ended, _ := w.Get("c2")
	unix.Kill(ended.Pid, unix.SIGKILL)
	for end := time.Now().Add(roottest.Patience); unix.Kill(ended.Pid, 0) == nil && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	for _, c := range clients {
		c.Close()
	}
	w.await("c2", status.Exited)
	for end := time.Now().Add(roottest.Patience); ; time.Sleep(10 * time.Millisecond) { // it has yet to see that they are gone
		if code, _, _, err := w.exec("c0", "", ExecOptions{Argv: []string{"true"}}); code == 0 && err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatalf("exec when all is well again: %d %v", code, err)
		}
	}
	if now, _, err := w.keeper.Ping(ctx); now != pid || err != nil {
		t.Errorf("the keeper was %d and is %d (%v)", pid, now, err)
	}

	w.Close()
	w.o.Upgrade = true // as a daemon does
	w.open()
	w.create("more", body)
	if err := w.Start(ctx, "c1", status.StartOptions{}); err != nil {
		t.Errorf("with the daemon's own limit: %v", err)
	}
	if s, _ := w.Get("c0"); s.Pid != first.Pid {
		t.Errorf("a container was touched: process %d became %d", first.Pid, s.Pid)
	}
}
