package main

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"stead/runtime/keeper"
	"stead/runtime/launch"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal is the terminal of the admin who runs exec.
type terminal struct {
	file *os.File

	mu     sync.Mutex
	before *term.State // the original state; nil while it is unchanged
}

func openTerminal(in io.Reader) (*terminal, error) {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, errors.New("-t needs a terminal as stdin; leave out -t, and use -i to pass stdin")
	}
	return &terminal{file: f}, nil
}

func (t *terminal) size() launch.Size {
	w, err := unix.IoctlGetWinsize(int(t.file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return launch.Size{}
	}
	return launch.Size{Rows: w.Row, Cols: w.Col}
}

// raw makes every key arrive immediately and unchanged, also ^C.
func (t *terminal) raw() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	state, err := term.MakeRaw(int(t.file.Fd()))
	if err == nil && t.before == nil {
		t.before = state
	}
	return err
}

// restore restores the original state of the terminal. It may be called again.
func (t *terminal) restore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.before != nil {
		_ = term.Restore(int(t.file.Fd()), t.before) // it may be gone
		t.before = nil
	}
}

// onPanic restores the terminal before a panic ends the program. It is deferred in
// goroutines, since a panic there does not run the deferred calls of others.
func (t *terminal) onPanic() {
	if v := recover(); v != nil {
		t.restore()
		panic(v)
	}
}

// hangUp is the exit code after the terminal is gone.
const hangUp = 128 + int(syscall.SIGHUP)

// execTerminal connects the admin's terminal to a terminal inside.
func (a *app) execTerminal(start starter, t *terminal, out io.Writer, stdin bool) (code int, err error) {
	// There is no signal.Stop: a SIGHUP after the terminal is gone would end exec before it
	// returns its exit code.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGWINCH, syscall.SIGCONT)
	process, err := start()
	if err != nil {
		return 0, err
	}
	defer process.Terminal.Close()
	defer t.restore()
	var hungUp chan struct{} // never without stdin
	if stdin {
		if err := t.raw(); err != nil {
			return 0, err
		}
		hungUp = t.passKeys(process.Terminal)
	}
	output := make(chan struct{})
	go func() {
		defer t.onPanic()
		defer close(output)
		drain(out, process.Terminal) // ends with EIO when all inside have closed theirs
	}()
	type end struct {
		code int
		err  error
	}
	ended := make(chan end, 1)
	go func() {
		defer t.onPanic()
		code, err := process.Wait()
		ended <- end{code, err}
	}()
	for {
		select {
		case e := <-ended:
			finish(process.Terminal, output)
			return e.code, e.err
		case <-hungUp:
			return hangUp, nil // the keeper ends a command when its client is gone
		case s := <-signals:
			if code := t.handleSignal(s.(syscall.Signal), process, stdin); code != 0 {
				return code, nil
			}
		}
	}
}

// handleSignal handles a signal. exec exits with the code, unless it is 0.
func (t *terminal) handleSignal(s syscall.Signal, process *keeper.Exec, stdin bool) (code int) {
	switch {
	case s == syscall.SIGWINCH || s == syscall.SIGCONT:
		if s == syscall.SIGCONT && stdin {
			_ = t.raw() // the shell has changed it meanwhile
		}
		if size := t.size(); size != (launch.Size{}) {
			_ = unix.IoctlSetWinsize(int(process.Terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols})
		}
	case stdin: // ^C goes to the command as a key, so this signal is for exec
		return 128 + int(s)
	default:
		_ = process.Signal(int(s))
	}
	return 0
}

// passKeys copies keys to the command until the terminal is gone.
func (t *terminal) passKeys(inside io.Writer) chan struct{} {
	gone := make(chan struct{})
	go func() {
		defer t.onPanic()
		defer close(gone)
		buffer := make([]byte, 4096)
		for {
			n, err := t.file.Read(buffer)
			if err != nil || n == 0 {
				return
			}
			if _, err := inside.Write(buffer[:n]); err != nil {
				select {} // the command is ending
			}
		}
	}()
	return gone
}
