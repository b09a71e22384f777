package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"stead/runtime"
	"stead/runtime/keeper"
	"stead/runtime/status"
	"stead/runtime/store"

	"github.com/spf13/cobra"
)

func (a *app) execCommand() *cobra.Command {
	var o runtime.ExecOptions
	var stdin, tty bool
	cmd := &cobra.Command{
		Use:               "exec [-it] NAME [--] COMMAND [ARG…]",
		Short:             "Run a command in a running container",
		ValidArgsFunction: a.completeNames,
		Args:              args(2, math.MaxInt, "exec needs a container and a command: stead exec NAME COMMAND"),
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.prepare(cmd) }, // without catch: signals go to the command
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Argv = args[1:]
			if o.Argv[0] == "--" {
				o.Argv = o.Argv[1:]
			}
			if len(o.Argv) == 0 {
				return usage(cmd, errors.New("exec needs a command after --"))
			}
			for i, e := range o.Env {
				key, _, ok := strings.Cut(e, "=")
				if key == "" {
					return usage(cmd, fmt.Errorf("--env %s: want NAME=VALUE, or NAME for the value that it has here", e))
				}
				if ok {
					continue
				}
				value, set := os.LookupEnv(key)
				if !set {
					return usage(cmd, fmt.Errorf("--env %s: want NAME=VALUE; %[1]s has no value here", e))
				}
				o.Env[i] = key + "=" + value
			}
			code, err := a.exec(cmd.Context(), args[0], o, stdin, tty)
			if err != nil {
				return &exitError{execCode(err), err}
			}
			return quietly(code)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // flags after the name belong to the command
	f.BoolVarP(&stdin, "interactive", "i", false, "pass stdin to the command")
	f.BoolVarP(&tty, "tty", "t", false, "give the command a terminal; stdin must be a terminal")
	f.StringArrayVarP(&o.Env, "env", "e", nil, "additional variable NAME=VALUE, or NAME for the value that it has here; repeatable")
	f.StringVarP(&o.User, "user", "u", "", "user name or id, optionally with :group (default: the container's)")
	f.StringVarP(&o.WorkingDir, "workdir", "w", "", "working directory inside (default: the container's)")
	return cmd
}

// execCode returns the exit code for a failure of exec itself.
func execCode(err error) int {
	var start *keeper.StartError
	if errors.As(err, &start) {
		return start.ExitCode()
	}
	return exitExec
}

// exec runs a command and waits for its end.
func (a *app) exec(ctx context.Context, name string, o runtime.ExecOptions, stdin, tty bool) (code int, err error) {
	if err := store.CheckPair(a.stateDir, a.runDir); err != nil {
		return 0, err
	}
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
		if x, err = rt.Exec(ctx, name, o, files...); err != nil {
			return nil, a.explainExec(ctx, name, err)
		}
		return x, nil
	}
	if t == nil {
		return a.execPipes(start, stdin)
	}
	o.Size = t.size()
	if kind := os.Getenv("TERM"); kind != "" {
		o.Env = append([]string{"TERM=" + kind}, o.Env...) // first: -e wins
	}
	run := currentRun(a.runDir, name)
	screen := &screen{out: a.out}
	code, err = a.execTerminal(start, t, screen, stdin)
	if err == nil && code == 128+int(syscall.SIGKILL) {
		if why := runEnd(a.runDir, name, run); why != "" {
			screen.leave()
			fmt.Fprintf(a.err, "stead: %s %s, which ended this session\n", name, why)
		}
	}
	return code, err
}

// explainExec says why a command cannot run in a container that is missing or not
// running.
func (a *app) explainExec(ctx context.Context, name string, err error) error {
	if errors.Is(err, status.ErrMissing) {
		return a.missing(ctx, name)
	}
	r, _, e := a.status(ctx)
	if e != nil {
		return err
	}
	views, e := pick(r.Containers, []string{name}, "")
	if e != nil || views[0].Pid != 0 {
		return err
	}
	why := string(views[0].State)
	if views[0].Why != "" {
		why += ", " + views[0].Why
	}
	return fmt.Errorf("%s is not running: %s; see stead logs %[1]s", name, why)
}

// starter starts the command with three streams, or without any for a terminal.
type starter func(...*os.File) (*keeper.Exec, error)

// execPipes runs the command with pipes and passes signals.
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
	// Until here a signal ends exec, and with it the command. There is no signal.Stop: the
	// program ends anyway.
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
