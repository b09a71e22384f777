package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// app is one call of the program: its streams and what its flags say.
type app struct {
	in       io.Reader
	out, err io.Writer

	stateDir, runDir string
	cgroupParent     string
	logFormat        string
	given            given // of what the configuration file says too
	settings               // what holds

	// catch is what has a signal end a verb; nil leaves signals alone.
	catch func(context.Context) context.Context

	verb  string
	begun bool // the command line was understood
}

// searchPath is where manifests are looked for; of two files with the same
// relative path the one in the later directory counts.
var searchPath = []string{"/usr/lib/stead/manifests", "/etc/stead/manifests", "/run/stead/manifests"}

// run carries out a command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.command(args)
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.begun {
		err = usage(cmd, err)
	}
	code := a.report(err)
	o, ok := a.out.(*output)
	if !ok || o.lost.Load() == nil || code != 0 && code != exitDiffers {
		return code
	}
	code = exitFailure
	if cmd.Name() == "exec" {
		code = exitExec
	}
	return a.report(exitWith(code, "what was to be printed is lost: %w", *o.lost.Load()))
}

// command is the tree of commands, as far as args may ask for it.
func (a *app) command(args []string) *cobra.Command {
	root := &cobra.Command{
		Use:   "stead",
		Short: "Keep this host at the state that a directory of manifests declares",
		Long: `stead keeps one Linux host at the state that a directory of YAML manifests
declares: drop a manifest in and a container comes up, edit it and the container
changes, delete it and the container goes, its data kept.`,
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if a.catch != nil {
				cmd.SetContext(a.catch(cmd.Context()))
			}
			return a.prepare(cmd)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
		Args:                       knownVerb,
		SuggestionsMinimumDistance: 2, // letters that may be wrong
	}
	root.SetFlagErrorFunc(plainFlagError)
	f := root.PersistentFlags()
	f.StringVar(&a.stateDir, "state-dir", variable("STEAD_STATE_DIR", "/var/lib/stead"), "directory of durable facts and data (STEAD_STATE_DIR)")
	f.StringVar(&a.runDir, "run-dir", variable("STEAD_RUN_DIR", "/run/stead"), "directory of facts of this boot, and the sockets (STEAD_RUN_DIR)")
	f.StringVar(&a.given.config, "config", variable("STEAD_CONFIG", defaultConfig), "configuration file; /dev/null is none (STEAD_CONFIG)")
	f.StringArrayVar(&a.given.manifests, "manifests", manifestsVariable(), "directory of manifests; repeatable, a later one's files replace an earlier one's (STEAD_MANIFESTS, colon-separated)")
	f.StringVar(&a.given.host, "host", os.Getenv("STEAD_HOST"), "name of this host, for hosts: and ${stead.host} (STEAD_HOST)")
	f.BoolVar(&a.given.allowWritable, "allow-writable-manifests", false, "follow manifests that others than a trusted owner can write (STEAD_ALLOW_WRITABLE_MANIFESTS=1)")
	f.StringVar(&a.cgroupParent, "cgroup-parent", variable("STEAD_CGROUP_PARENT", "stead"), "cgroup below which all containers' are (STEAD_CGROUP_PARENT)")
	f.StringVar(&a.logFormat, "log-format", "text", "form of log lines: text or json")
	if len(args) > 0 && args[0] == "exec" { // a millisecond counts there, and all others cost a tenth
		root.AddCommand(a.execCommand())
		return root
	}
	root.AddCommand(
		a.daemonCommand(), a.applyCommand(), a.planCommand(), a.validateCommand(),
		a.statusCommand(), a.psCommand(), a.inspectCommand(), a.logsCommand(), a.execCommand(),
		a.restartCommand(), a.stopCommand(), a.startCommand(), a.reloadCommand(), a.waitCommand(),
		a.eventsCommand(), a.holdCommand(), a.releaseCommand(), a.purgeCommand(),
		a.doctorCommand(), a.docsCommand(), a.schemaCommand(), a.versionCommand(),
	)
	return root
}

// knownVerb refuses what is left where a verb was wanted.
func knownVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		return fmt.Errorf("unknown command %q; did you mean %s?", args[0], strings.Join(like, " or "))
	}
	return fmt.Errorf("unknown command %q", args[0])
}

func variable(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

func manifestsVariable() []string {
	dirs := slices.DeleteFunc(strings.Split(os.Getenv("STEAD_MANIFESTS"), ":"), func(d string) bool { return d == "" })
	if len(dirs) == 0 {
		return nil
	}
	return dirs
}

// prepare checks the flags that every verb has.
func (a *app) prepare(cmd *cobra.Command) error {
	if a.logFormat != "text" && a.logFormat != "json" {
		return fmt.Errorf("--log-format %s: want text or json", a.logFormat)
	}
	for _, dir := range []*string{&a.stateDir, &a.runDir} {
		if err := absolute(dir); err != nil {
			return err
		}
	}
	for i := range a.given.manifests {
		if err := absolute(&a.given.manifests[i]); err != nil {
			return err
		}
	}
	if p := filepath.Clean("/" + a.cgroupParent); p == "/" {
		return fmt.Errorf("--cgroup-parent %q: want the name of a group, such as stead", a.cgroupParent)
	}
	if spare := longestSocket - len(a.daemonSocket()); spare < 0 {
		return fmt.Errorf("--run-dir %s: too long by %s for the sockets in it", a.runDir, count(-spare, "character"))
	}
	if err := a.configure(cmd); err != nil {
		return err
	}
	a.begun = true
	return nil
}

// longestSocket is the longest path that a socket can have (unix(7)).
const longestSocket = 107

func absolute(dir *string) error {
	if *dir == "" {
		return fmt.Errorf("want a directory, found an empty name")
	}
	p, err := filepath.Abs(*dir)
	*dir = p
	return err
}

// log is a logger to stderr for what is at least that grave.
func (a *app) log(level slog.Level) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if a.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(a.err, o))
	}
	return slog.New(slog.NewTextHandler(a.err, o))
}
