package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// choice is the value of a flag that accepts only some words.
type choice struct {
	value *string
	words []string
}

func (c choice) String() string { return *c.value }
func (c choice) Type() string   { return "string" }

func (c choice) Set(s string) error {
	if !slices.Contains(c.words, s) {
		return errors.New("want " + alternatives(c.words))
	}
	*c.value = s
	return nil
}

// choiceFlag adds a flag that accepts only some words. The first is the default.
func choiceFlag(cmd *cobra.Command, f *pflag.FlagSet, value *string, name, short, usage string, words ...string) {
	*value = words[0]
	f.VarP(choice{value, words}, name, short, usage+alternatives(words))
	_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// outputFlag adds --output. The first of the forms is the default.
func outputFlag(cmd *cobra.Command, value *string, forms ...string) {
	choiceFlag(cmd, cmd.Flags(), value, "output", "o", "", forms...)
}

// selectorFlag adds --selector.
func selectorFlag(cmd *cobra.Command, value *string) {
	cmd.Flags().StringVarP(value, "selector", "l", "", "only containers with these labels: app=web,tier!=db,canary,!old")
	_ = cmd.RegisterFlagCompletionFunc("selector", cobra.NoFileCompletions)
}

// alternatives joins words as in "text, json or yaml".
func alternatives(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// flagError says which value a flag wants, or what to use instead of a flag that does
// not exist.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		switch name := unknown.GetSpecifiedName(); {
		case name == "version":
			return errors.New("unknown flag: --version; use stead version")
		case (name == "f" || name == "filename") && (cmd.Name() == "apply" || cmd.Name() == "plan"):
			return noFiles(cmd, "the manifest directories", "FILE")
		case name == "a" && cmd.Name() == "ps":
			return errors.New("ps lists all containers; leave -a out")
		}
		return err
	}
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return err
	}
	cause := invalid.Unwrap()
	want := cause.Error()
	var number *strconv.NumError
	switch {
	case errors.As(cause, &number) && number.Func == "ParseBool":
		want = "want true or false"
	case errors.As(cause, &number):
		want = "want a whole number"
	case strings.HasPrefix(want, "time: "):
		want = "want a duration such as 10s or 1m30s"
	}
	return fmt.Errorf("--%s %s: %s", invalid.GetFlag().Name, invalid.GetValue(), want)
}

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes no arguments, found %q", cmd.Name(), args[0])
	}
	return nil
}

// args wants at least min and at most max arguments.
func args(min, max int, message string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < min || len(args) > max {
			return errors.New(message)
		}
		return nil
	}
}

// noFiles says that a verb follows the manifest directories.
func noFiles(cmd *cobra.Command, dirs, file string) error {
	return fmt.Errorf("%s takes no files: it follows %s. Copy the file there, or check it: stead validate %s", cmd.Name(), dirs, file)
}

// noFilesOrNames refuses the arguments that people know from other programs.
func (a *app) noFilesOrNames(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case strings.ContainsAny(args[0], "./"):
		return usage(cmd, noFiles(cmd, strings.Join(a.manifests, ", "), args[0]))
	}
	return usage(cmd, fmt.Errorf("%s takes no names: it covers all manifests", cmd.Name()))
}

// needNames wants the names of containers or a selector.
func needNames(selector *string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 && *selector == "" {
			return fmt.Errorf("%s needs the names of containers, or -l with a selector", cmd.Name())
		}
		return notBoth(selector)(cmd, args)
	}
}

// notBoth refuses names together with a selector: whether that means more containers or fewer
// differs from tool to tool.
func notBoth(selector *string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 && *selector != "" {
			return fmt.Errorf("%s takes names or -l, not both", cmd.Name())
		}
		return nil
	}
}

// selectNames returns the names that were given, or without names those of the containers that
// the selector selects.
func (a *app) selectNames(ctx context.Context, names []string, selector string) ([]string, error) {
	if selector == "" {
		return names, nil
	}
	report, _, err := a.status(ctx)
	if err != nil {
		return nil, err
	}
	views, err := pick(report.Containers, nil, selector)
	if err != nil {
		return nil, err
	}
	for _, v := range views {
		if !v.CreatedAt.IsZero() { // a manifest without a container has nothing to stop and no output
			names = append(names, v.Name)
		}
	}
	if len(names) == 0 {
		return nil, exitWith(exitMissing, "no container has the labels %s; stead ps lists them", selector)
	}
	return names, nil
}

// completeNames completes the names of containers.
func (a *app) completeNames(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	r, _, err := a.status(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, c := range r.Containers {
		if c.Group != "" && !slices.Contains(args, c.Group) && !slices.Contains(names, c.Group) {
			names = append(names, c.Group)
		}
		if !slices.Contains(args, c.Name) {
			names = append(names, c.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// unknownVerb names a similar verb, or what to do instead of a verb of other programs.
func unknownVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	advice := map[string]string{
		"rm":       "delete its manifest; stead removes the container and keeps its data",
		"delete":   "delete its manifest; stead removes the container and keeps its data",
		"run":      "write a manifest into a manifest directory; see stead docs manifest",
		"create":   "write a manifest into a manifest directory; see stead docs manifest",
		"edit":     "edit its manifest; stead applies the change",
		"explain":  "use stead docs manifest",
		"describe": "use stead status NAME or stead inspect NAME",
		"top":      "use stead inspect NAME",
	}[args[0]]
	if like := cmd.SuggestionsFor(args[0]); advice == "" && len(like) > 0 {
		advice = "did you mean " + strings.Join(like, " or ") + "?"
	}
	if advice != "" {
		advice = "; " + advice
	}
	return fmt.Errorf("unknown command %q%s", args[0], advice)
}

// printHelp prints what a command does and how to call it, at most 80 columns wide. Only
// stead help lists the flags that all verbs take.
func printHelp(cmd *cobra.Command, _ []string) {
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "%s\n\nUsage:\n  %s\n", cmp.Or(verbDoc(verbName(cmd)), cmd.Long, cmd.Short), cmd.UseLine())
	if cmd.HasAvailableSubCommands() {
		fmt.Fprint(w, "\nCommands:\n")
	}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			fmt.Fprintf(w, "  %-10s  %s\n", c.Name(), c.Short)
		}
	}
	if f := cmd.LocalFlags(); f.HasAvailableFlags() {
		fmt.Fprintf(w, "\nFlags:\n%s", f.FlagUsagesWrapped(80))
	}
	if cmd.HasParent() {
		fmt.Fprintln(w, "\nstead help lists the flags that all verbs take.")
	} else {
		fmt.Fprintln(w, "\nstead COMMAND --help explains a command; stead docs has the documentation.")
	}
}

// verbName returns the name of a verb, such as ps or image list.
func verbName(cmd *cobra.Command) string { return strings.TrimPrefix(cmd.CommandPath(), "stead ") }

// envOr returns an environment variable, or the fallback if it is empty.
func envOr(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}
