//go:build fault

package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"stead/reconcile/control"
	"stead/runtime/fault"
	"stead/runtime/keeper"

	"golang.org/x/sys/unix"
)

// process is a daemon.
type process struct {
	*exec.Cmd
	ended chan struct{}
}

// kill ends it, if it has not ended, and collects it.
func (p *process) kill() {
	_ = p.Process.Kill()
	<-p.ended
}

func (p *process) dead() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// spawn starts a daemon and waits for nothing.
func (l *life) spawn(program string) {
	cmd := l.command("daemon")
	cmd.Path, cmd.Stderr = program, l.journal
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	p := &process{cmd, make(chan struct{})}
	go func() { _ = cmd.Wait(); close(p.ended) }()
	l.daemon = p
}

// revive makes sure that a daemon answers. One that finds the state directory
// locked, by a verb that does its work, ends and is started again, as systemd would.
func (l *life) revive(program string) error {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if l.daemon == nil || l.daemon.dead() {
			l.spawn(program)
		}
		if _, err := control.Dial(l.run + "/daemon.sock"); err == nil && !l.daemon.dead() {
			return nil
		}
	}
	return errors.New("no daemon answers")
}

// startKiller kills daemon, keeper and both some times, at random moments and at
// fault points, beside what happens. It tells what it did when it is over.
func (l *life) startKiller() <-chan []string {
	var did []string
	told := make(chan []string, 1)
	r := rand.New(rand.NewPCG(l.Uint64(), 1))
	l.killer.Go(func() {
		defer func() { told <- did }()
		for range r.IntN(4) {
			time.Sleep(time.Duration(r.IntN(150)) * time.Millisecond)
			who := []string{"daemon", "keeper", "both"}[r.IntN(3)]
			if r.IntN(2) == 0 {
				l.killNow(who)
				did = append(did, "SIGKILL of "+who)
			} else {
				if l.killAt(fault.Any, who) {
					did = append(did, "SIGKILL of "+who+" at a fault point")
				}
			}
			// The next daemon may be another build, which has the keeper become
			// one of its own, and may be killed before it answers.
			if l.daemon.dead() {
				l.spawn(l.programs[r.IntN(2)])
			}
		}
		if err := l.revive(l.programs[r.IntN(2)]); err != nil {
			did = append(did, err.Error())
		}
	})
	return told
}

func (l *life) killNow(who string) {
	if who != "keeper" {
		_ = l.daemon.Process.Kill()
	}
	if who != "daemon" {
		if pidfd, _ := l.keeperNow(); pidfd >= 0 {
			_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
			unix.Close(pidfd)
			l.keeperDied = true
		}
	}
	if who != "keeper" {
		<-l.daemon.ended
	}
	l.kills++
}

// killAt lays a trap out for a while.
func (l *life) killAt(point, who string) bool {
	victims := ""
	if who != "keeper" {
		victims += fmt.Sprint(" ", l.daemon.Process.Pid)
	}
	if who != "daemon" {
		pidfd, pid := l.keeperNow()
		if pidfd < 0 {
			return false
		}
		defer unix.Close(pidfd) // it keeps the pid from being another's
		victims += fmt.Sprint(" ", pid)
	}
	os.Remove(l.run + "/fault.hit")
	if os.WriteFile(l.run+"/fault~", []byte(point+victims), 0o600) != nil || os.Rename(l.run+"/fault~", l.run+"/fault") != nil {
		return false
	}
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if _, err := os.Stat(l.run + "/fault.hit"); err == nil {
			break
		}
	}
	os.Remove(l.run + "/fault")
	if _, err := os.Stat(l.run + "/fault.hit"); err != nil {
		return false
	}
	if who != "keeper" {
		<-l.daemon.ended
	}
	l.hits++
	l.kills++
	l.keeperDied = l.keeperDied || who != "daemon"
	return true
}

// keeperNow holds the keeper by a pidfd; -1 if there is none.
func (l *life) keeperNow() (pidfd, pid int) {
	k := keeper.Client{Run: l.run}
	pid, _, err := k.Ping(l.t.Context())
	if err != nil {
		return -1, 0
	}
	if pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
		return -1, 0
	}
	if again, _, err := k.Ping(l.t.Context()); err != nil || again != pid {
		unix.Close(pidfd)
		return -1, 0
	}
	return pidfd, pid
}

// otherBuild is this program with another build id.
func otherBuild(t *testing.T, path string) string {
	b, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	s := f.Section(".note.go.buildid")
	b[s.Offset+s.Size-1] ^= 1
	if err := os.WriteFile(path, b, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}
