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

// terminal is the admin's own, at which exec was typed.
type terminal struct {
	file *os.File

	mu     sync.Mutex
	before *term.State // as it was found; nil while it is so
}

func openTerminal(in io.Reader) (*terminal, error) {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, errors.New("-t: stdin is not a terminal; leave -t out, -i alone passes it on")
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

// raw has every key arrive at once and unchanged, ^C too.
func (t *terminal) raw() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	state, err := term.MakeRaw(int(t.file.Fd()))
	if err == nil && t.before == nil {
		t.before = state
	}
	return err
}

// restore leaves the terminal as it was found. It is safe to repeat.
func (t *terminal) restore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.before != nil {
		_ = term.Restore(int(t.file.Fd()), t.before) // it may be gone
		t.before = nil
	}
}

// onPanic is deferred in goroutines: one that panics ends the program without
// what the others have deferred.
func (t *terminal) onPanic() {
	if v := recover(); v != nil {
		t.restore()
		panic(v)
	}
}

// hangUp is the exit code of who lost his terminal.
const hangUp = 128 + int(syscall.SIGHUP)

// execTerminal joins the admin's terminal to one inside.
func (a *app) execTerminal(start starter, t *terminal, stdin bool) (code int, err error) {
	// For good: a hang-up that comes after its terminal is gone would end exec
	// before it has said so with its exit code.
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
		drain(a.out, process.Terminal) // ends with EIO when all inside have closed theirs
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
			return hangUp, nil // the keeper ends a command whose client is gone
		case s := <-signals:
			if code := t.signalled(s.(syscall.Signal), process, stdin); code != 0 {
				return code, nil
			}
		}
	}
}

// signalled answers a signal; what it returns, unless 0, ends exec.
func (t *terminal) signalled(s syscall.Signal, process *keeper.Exec, stdin bool) (code int) {
	switch {
	case s == syscall.SIGWINCH || s == syscall.SIGCONT:
		if s == syscall.SIGCONT && stdin {
			_ = t.raw() // the shell had the terminal meanwhile
		}
		if size := t.size(); size != (launch.Size{}) {
			_ = unix.IoctlSetWinsize(int(process.Terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols})
		}
	case stdin: // no key: someone wants exec itself to end
		return 128 + int(s)
	default:
		_ = process.Signal(int(s))
	}
	return 0
}

// passKeys passes on what is typed, until the terminal is gone.
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
