package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"stead/runtime"
	"stead/runtime/keeper"
	"stead/runtime/launch"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func (a *app) execCommand() *cobra.Command {
	var o runtime.ExecOptions
	var stdin, tty bool
	cmd := &cobra.Command{
		Use:   "exec [-it] NAME [--] COMMAND [ARG…]",
		Short: "Run a command in a running container",
		Long: `exec runs a command in a running container, with its environment, user and limits.
Output and, with -i, input go through pipes, and signals are passed on. With -t the
command gets a terminal of the container's own, as large as the one that exec is
typed at and of its TERM; with -it every key goes inside, ^C too, and a signal to
exec itself ends both. The exit code is the command's; 125 is a failure of stead's
own, 126 a command that can't be executed, 127 one that is not there.`,
		Example:           "  stead exec web -- cat /etc/os-release\n  stead exec -i -u 0 web sh < script.sh\n  stead exec -it web sh",
		ValidArgsFunction: a.completeNames,
		Args:              cobra.MinimumNArgs(2),
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.prepare(cmd) }, // signals are the command's to answer
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
			code, err := a.exec(cmd.Context(), args[0], o, stdin, tty)
			if err != nil {
				return &exitError{execCode(err), err}
			}
			return quietApply(code)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows the name is the command's
	f.BoolVarP(&stdin, "interactive", "i", false, "pass stdin on")
	f.BoolVarP(&tty, "tty", "t", false, "a terminal inside; stdin must be one")
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

// exec runs a command until it has ended.
func (a *app) exec(ctx context.Context, name string, o runtime.ExecOptions, stdin, tty bool) (code int, err error) {
	var t *terminal
	if tty {
		if t, err = openTerminal(a.in); err != nil {
			return 0, err
		}
	}
	start := func(files ...*os.File) (*keeper.Exec, error) {
		x, err := runtime.ExecPrepared(a.runDir, name, o, files...)
		if !errors.Is(err, keeper.ErrNotPrepared) {
			return x, err
		}
		rt, err := a.openOnly(ctx, name)
		if err != nil {
			return nil, err
		}
		defer rt.Close()
		return rt.Exec(ctx, name, o, files...)
	}
	if t == nil {
		return a.execPipes(start, stdin)
	}
	o.Size = t.size()
	if kind := os.Getenv("TERM"); kind != "" {
		o.Env = append([]string{"TERM=" + kind}, o.Env...) // first: -e wins
	}
	return a.execTerminal(start, t, stdin)
}

// starter starts the command with its streams, or with a terminal without any.
type starter func(...*os.File) (*keeper.Exec, error)

// execPipes passes streams and signals.
func (a *app) execPipes(start starter, stdin bool) (code int, err error) {
	p := pipes{}
	defer p.close()
	if err := p.open(stdin); err != nil {
		return 0, err
	}
	process, err := start(p.inside[:]...)
	if err != nil {
		return 0, err
	}
	p.closeInside()
	// Until here a signal ends us, and with us the command. For good: to undo it
	// takes as long, and the program ends with it.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for s := range signals {
			_ = process.Signal(int(s.(syscall.Signal)))
		}
	}()
	output := p.copy(a.in, a.out, a.err)
	code, err = process.Wait()
	finish(p.out, output[0])
	finish(p.err, output[1])
	return code, err
}
