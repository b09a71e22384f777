package main

import (
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// pipes connects the three streams of a command.
type pipes struct {
	inside   [3]*os.File // the ends of the command
	in       *os.File    // nil without stdin
	out, err *os.File
}

func (p *pipes) open(stdin bool) (err error) {
	if !stdin {
		p.inside[0], err = os.Open(os.DevNull)
	} else {
		p.inside[0], p.in, err = os.Pipe()
	}
	if err != nil {
		return err
	}
	if p.out, p.inside[1], err = os.Pipe(); err != nil {
		return err
	}
	p.err, p.inside[2], err = os.Pipe()
	return err
}

func (p *pipes) closeInside() {
	for i, f := range p.inside {
		if f != nil {
			f.Close()
		}
		p.inside[i] = nil
	}
}

func (p *pipes) close() {
	p.closeInside()
	for _, f := range []*os.File{p.in, p.out, p.err} {
		if f != nil {
			f.Close()
		}
	}
}

// copy copies all streams. Each of the two channels is closed at the end of its stream.
func (p *pipes) copy(in io.Reader, out, err io.Writer) [2]chan struct{} {
	if p.in != nil {
		go func() {
			_, _ = io.Copy(p.in, in) // it fails if the command does not read
			p.in.Close()
		}()
	}
	done := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	go func() { defer close(done[0]); drain(out, p.out) }()
	go func() { defer close(done[1]); drain(err, p.err) }()
	return done
}

// drain copies r to w until the end of either.
func drain(w io.Writer, r *os.File) {
	_, _ = io.Copy(w, r)
	r.Close() // if w failed, the command gets SIGPIPE or SIGHUP, as without stead in between
}

// finish waits for the output that the command wrote before it ended. It does not wait for
// background processes that keep the stream open.
func finish(r *os.File, output chan struct{}) {
	for idle := false; !idle; {
		select {
		case <-output:
			idle = true
		case <-time.After(20 * time.Millisecond):
			idle = empty(r)
		}
	}
}

// empty reports whether a pipe or a terminal has nothing to read.
func empty(r *os.File) bool {
	c, err := r.SyscallConn()
	if err != nil {
		return true
	}
	n := 0
	err = c.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return err != nil || n == 0
}
