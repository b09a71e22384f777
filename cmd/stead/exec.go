package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"stead/runtime"
	"stead/runtime/keeper"
	"stead/runtime/launch"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func (a *app) execCommand() *cobra.Command {
	var o runtime.ExecOptions
	var stdin bool
	cmd := &cobra.Command{
		Use:   "exec [-i] NAME [--] COMMAND [ARG…]",
		Short: "Run a command in a running container",
		Long: `exec runs a command in a running container, with its environment, user and limits.
There is no terminal: output and, with -i, input go through pipes. Signals are
passed on. The exit code is the command's; 125 is a failure of stead's own, 126 a
command that can't be executed, 127 one that is not there.`,
		Example:           "  stead exec web -- cat /etc/os-release\n  stead exec -i -u 0 web sh < script.sh",
		ValidArgsFunction: a.completeNames,
		Args:              cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Argv = args[1:]
			if o.Argv[0] == "--" {
				o.Argv = o.Argv[1:]
			}
			if len(o.Argv) == 0 {
				return usage(cmd, errors.New("want a command to run"))
			}
			for _, e := range o.Env {
				if key, _, ok := strings.Cut(e, "="); !ok || key == "" {
					return usage(cmd, fmt.Errorf("--env %s: want NAME=VALUE", e))
				}
			}
			code, err := a.exec(cmd.Context(), args[0], o, stdin)
			if err != nil {
				return &exitError{execCode(err), err}
			}
			return quietApply(code)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows the name is the command's
	f.BoolVarP(&stdin, "interactive", "i", false, "pass stdin on")
	f.StringArrayVarP(&o.Env, "env", "e", nil, "NAME=VALUE, besides the container's own; repeatable")
	f.StringVarP(&o.User, "user", "u", "", "user name or id, optionally :group; the container's if absent")
	f.StringVarP(&o.WorkingDir, "workdir", "w", "", "working directory inside; the container's if absent")
	return cmd
}

// execCode is what a failure of exec's own exits with, as in Podman.
func execCode(err error) int {
	var start *keeper.StartError
	if errors.As(err, &start) && start.Where == launch.AtCommand {
		if strings.Contains(start.Message, unix.EACCES.Error()) || strings.Contains(start.Message, unix.ENOEXEC.Error()) {
			return 126
		}
		return 127
	}
	return exitExec
}

// exec runs a command and passes streams and signals, until it ended.
func (a *app) exec(ctx context.Context, name string, o runtime.ExecOptions, stdin bool) (code int, err error) {
	ctx = context.WithoutCancel(ctx) // a signal is the command's to answer
	rt, err := a.open(ctx, true, a.log(slog.LevelWarn))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", a.stateDir, err)
	}
	defer rt.Close()
	p := pipes{}
	defer p.close()
	if err := p.open(stdin); err != nil {
		return 0, err
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	process, err := rt.Exec(ctx, name, o, p.inside[:]...)
	if err != nil {
		return 0, err
	}
	p.closeInside()
	go func() {
		for s := range signals {
			_ = process.Signal(int(s.(syscall.Signal)))
		}
	}()
	output := p.copy(a.in, a.out, a.err)
	code, err = process.Wait()
	p.finish(output)
	return code, err
}

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
	pass := func(w io.Writer, r *os.File) chan struct{} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			buffer := make([]byte, 32<<10)
			for {
				n, err := r.Read(buffer)
				if n > 0 {
					if _, err := w.Write(buffer[:n]); err != nil {
						r.Close() // nobody reads: the command gets SIGPIPE, as it would have
						return
					}
				}
				if err != nil {
					return
				}
			}
		}()
		return done
	}
	return [2]chan struct{}{pass(out, p.out), pass(err, p.err)}
}

// finish takes what the command wrote before it ended. What it left running in
// the background may hold the pipes open for ever, and is not waited for.
func (p *pipes) finish(output [2]chan struct{}) {
	for i, r := range []*os.File{p.out, p.err} {
		for idle := false; !idle; {
			select {
			case <-output[i]:
				idle = true
			case <-time.After(20 * time.Millisecond):
				idle = empty(r)
			}
		}
	}
}

// empty tells whether nothing waits in a pipe.
func empty(r *os.File) bool {
	c, err := r.SyscallConn()
	if err != nil {
		return true
	}
	n := 0
	err = c.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return err != nil || n == 0
}
