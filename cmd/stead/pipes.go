package main

import (
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// pipes are the three streams of a command.
type pipes struct {
	inside   [3]*os.File
	in       *os.File // nil without stdin
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

// copy passes everything on; each of the two channels ends with its stream.
func (p *pipes) copy(in io.Reader, out, err io.Writer) [2]chan struct{} {
	if p.in != nil {
		go func() {
			_, _ = io.Copy(p.in, in) // a command that does not read ends it
			p.in.Close()
		}()
	}
	return [2]chan struct{}{pass(out, p.out), pass(err, p.err)}
}

func pass(w io.Writer, r *os.File) chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		drain(w, r)
	}()
	return done
}

// drain copies what comes out of r, until its end.
func drain(w io.Writer, r *os.File) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := r.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				r.Close() // nobody reads: the command gets SIGPIPE or SIGHUP, as it would have
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// finish takes what the command wrote before it ended. What it left running in
// the background may hold its end open for ever, and is not waited for.
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

// empty tells whether nothing waits in a pipe, or in a terminal.
func empty(r *os.File) bool {
	c, err := r.SyscallConn()
	if err != nil {
		return true
	}
	n := 0
	err = c.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return err != nil || n == 0
}
