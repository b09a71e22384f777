package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"stead/reconcile/plan"

	"github.com/spf13/cobra"
)

// app is one run of the program: its streams, flags and settings.
type app struct {
	in       io.Reader
	out, err io.Writer

	stateDir, runDir string
	cgroupParent     string
	logFormat        string
	flags            flagValues
	settings         // flags and variables, the configuration file, defaults

	// catch makes signals end a verb; nil leaves signals alone.
	catch func(context.Context) context.Context

	verb  string
	begun bool // the command line is valid
}

// searchPath holds the default manifest directories. If two of them hold a file with
// the same relative path, the file in the later directory counts.
var searchPath = []string{"/usr/lib/stead/manifests", "/etc/stead/manifests", "/run/stead/manifests"}

// run runs a command line and returns the exit code.
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
	return a.report(exitWith(code, "cannot write output: %w", *o.lost.Load()))
}

// command returns the tree of commands that args may call.
func (a *app) command(args []string) *cobra.Command {
	root := &cobra.Command{
		Use:   "stead",
		Short: "Keep this host at the state that a directory of manifests declares",
		Long: `stead keeps one Linux host at the state that a directory of YAML manifests
declares. Add a manifest and stead starts a container. Edit it and the container
changes. Delete it and stead removes the container and keeps its data.

    stead doctor            check what this host supports
    stead daemon            watch the manifests and apply them
    stead ps                list the containers
    stead docs manifest     print the manifest reference`,
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
		Args:                       unknownVerb,
		SuggestionsMinimumDistance: 2, // letters that may be wrong
	}
	root.SetFlagErrorFunc(flagError)
	root.SetHelpFunc(printHelp)
	f := root.PersistentFlags()
	f.StringVar(&a.stateDir, "state-dir", envOr("STEAD_STATE_DIR", "/var/lib/stead"), "directory for state and data (STEAD_STATE_DIR)")
	f.StringVar(&a.runDir, "run-dir", envOr("STEAD_RUN_DIR", "/run/stead"), "directory for the state of this boot and the sockets (STEAD_RUN_DIR)")
	f.StringVar(&a.flags.config, "config", envOr("STEAD_CONFIG", defaultConfig), "configuration file; /dev/null for none (STEAD_CONFIG)")
	f.StringArrayVar(&a.flags.manifests, "manifests", strings.FieldsFunc(os.Getenv("STEAD_MANIFESTS"), func(r rune) bool { return r == ':' }), "manifest directory; repeatable, files in a later one replace files in an earlier one (STEAD_MANIFESTS, colon-separated)")
	f.StringVar(&a.flags.host, "host", os.Getenv("STEAD_HOST"), "name of this host for hosts: and ${stead.host} (STEAD_HOST)")
	f.BoolVar(&a.flags.allowWritable, "allow-writable-manifests", false, "read manifests that untrusted users can write (STEAD_ALLOW_WRITABLE_MANIFESTS=1)")
	f.StringVar(&a.cgroupParent, "cgroup-parent", envOr("STEAD_CGROUP_PARENT", "stead"), "cgroup that holds the cgroups of all containers (STEAD_CGROUP_PARENT)")
	choiceFlag(root, f, &a.logFormat, "log-format", "", "format of log lines: ", "text", "json")
	if len(args) > 0 && args[0] == "exec" { // creating the other commands takes 0.1 ms, and exec should be fast
		root.AddCommand(a.execCommand())
		return root
	}
	root.AddCommand(
		a.daemonCommand(), a.applyCommand(), a.planCommand(), a.validateCommand(),
		a.statusCommand(), a.psCommand(), a.inspectCommand(), a.logsCommand(), a.execCommand(),
		a.actCommand(plan.Restart, "restarted", "Restart containers with their current manifests"),
		a.actCommand(plan.Stop, "stopped", "Stop containers until stead start"),
		a.actCommand(plan.Start, "started", "Start stopped containers"),
		a.reloadCommand(), a.waitCommand(), a.shutdownCommand(),
		a.eventsCommand(), a.holdCommand(), a.releaseCommand(), a.purgeCommand(), a.imageCommand(), a.volumeCommand(),
		a.backupCommand(), a.restoreCommand(), a.cloneCommand(), a.cpCommand(),
		a.doctorCommand(), a.docsCommand(), a.explainCommand(), a.schemaCommand(), a.versionCommand(),
	)
	return root
}

// prepare checks the flags that all verbs take, and reads the configuration.
func (a *app) prepare(cmd *cobra.Command) error {
	for _, dir := range []*string{&a.stateDir, &a.runDir} {
		if err := absolute(dir); err != nil {
			return err
		}
	}
	for i := range a.flags.manifests {
		if err := absolute(&a.flags.manifests[i]); err != nil {
			return err
		}
	}
	if p := filepath.Clean("/" + a.cgroupParent); p == "/" {
		return fmt.Errorf("--cgroup-parent %q: want the name of a cgroup, such as stead", a.cgroupParent)
	}
	if excess := len(a.daemonSocket()) - longestSocket; excess > 0 {
		return fmt.Errorf("--run-dir %s: too long by %s for the sockets in it", a.runDir, count(excess, "character"))
	}
	if err := a.configure(cmd); err != nil {
		return err
	}
	a.begun = true
	return nil
}

// longestSocket is the maximum length of the path of a socket (unix(7)).
const longestSocket = 107

// absolute makes a path absolute.
func absolute(dir *string) error {
	if *dir == "" {
		return fmt.Errorf("want a directory, found an empty name")
	}
	p, err := filepath.Abs(*dir)
	*dir = p
	return err
}

// log returns a logger to stderr.
func (a *app) log(level slog.Level) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	out := a.err
	if f, ok := out.(*os.File); ok && isJournal(f, os.Getenv("JOURNAL_STREAM")) {
		out = &journalWriter{out: out}
		o.ReplaceAttr = forJournal
	}
	if a.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(out, o))
	}
	return slog.New(slog.NewTextHandler(out, o))
}
