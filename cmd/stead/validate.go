package main

import (
	"fmt"
	"io"
	"os"

	"stead/reconcile/source"
	"stead/spec"

	"github.com/spf13/cobra"
)

func (a *app) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate [FILE|DIRECTORY|-]…",
		Short: "Check manifests",
		Long: `validate checks manifests and lists all their errors: files of any name, - for
stdin, or directories with what stead would read there; the manifest directories
if nothing is named. It exits with 4 if there are errors. It needs no root, and
looks at nothing else of this host.`,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.validate(args)
		},
	}
}

// checked gathers what validate read.
type checked struct {
	files  int
	names  map[string]string // container → where
	errors []string
	parser spec.Parser
}

func (a *app) validate(args []string) error {
	c := &checked{names: map[string]string{}, parser: a.parser()}
	if len(args) == 0 {
		c.directories(a.manifests, a.given.manifests == nil)
	}
	var dirs []string
	for _, arg := range args {
		if info, err := os.Stat(arg); err == nil && info.IsDir() {
			if err := absolute(&arg); err != nil {
				return err
			}
			dirs = append(dirs, arg)
			continue
		}
		data, err := readManifest(arg, a.in)
		if err != nil {
			return err
		}
		c.files++
		if arg == "-" {
			arg = "stdin"
		}
		c.documents(arg, a.parser().Parse(arg, data))
	}
	if len(dirs) > 0 {
		c.directories(dirs, false)
	}
	for _, line := range c.errors {
		fmt.Fprintln(a.err, line)
	}
	if n := len(c.errors); n > 0 {
		return exitWith(exitInvalid, "%s in %s", count(n, "error"), count(c.files, "file"))
	}
	fmt.Fprintf(a.out, "%s, %s: no errors\n", count(c.files, "file"), count(len(c.names), "container"))
	return nil
}

// readManifest reads one more byte than a manifest may have: the parser refuses it.
func readManifest(name string, stdin io.Reader) ([]byte, error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		stdin = f
	}
	return io.ReadAll(io.LimitReader(stdin, spec.MaxFileSize+1))
}

// directories reads as the daemon does; one that is missing is no error where it
// is only part of the search path.
func (c *checked) directories(dirs []string, optional bool) {
	r := (&source.Source{Dirs: dirs, Parser: c.parser}).Read()
	for _, d := range r.Dirs {
		if d.Err != nil && !(optional && d.Missing()) {
			c.errors = append(c.errors, fmt.Sprintf("%s: %v", d.Path, d.Err))
		}
	}
	for _, f := range r.Files {
		c.files++
		switch {
		case f.Err != nil:
			c.errors = append(c.errors, f.Err.Error())
		case !f.Waiting.IsZero():
			c.errors = append(c.errors, f.Path+": somebody has it open for writing")
		}
		c.documents(f.Path, f.Documents)
	}
}

func (c *checked) documents(file string, docs []spec.Document) {
	for _, d := range docs {
		for _, err := range d.Errors {
			c.errors = append(c.errors, err.Error())
		}
		if d.Container == nil {
			continue
		}
		name, where := d.Container.Metadata.Name, fmt.Sprintf("%s:%d", file, d.Line)
		if first, taken := c.names[name]; taken {
			c.errors = append(c.errors, (&spec.Error{
				File: file, Line: d.NameLine, Column: d.NameColumn, Path: "metadata.name",
				Message: fmt.Sprintf("%q is taken by %s: one name, one manifest; rename or delete one", name, first),
			}).Error())
			continue
		}
		c.names[name] = where
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
