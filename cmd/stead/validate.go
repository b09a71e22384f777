package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"stead/reconcile/desired"
	"stead/reconcile/source"
	"stead/runtime/store"
	"stead/spec"

	"github.com/spf13/cobra"
)

func (a *app) validateCommand() *cobra.Command {
	var name string
	var hostChecks bool
	cmd := &cobra.Command{
		Use:   "validate [FILE|DIRECTORY|-]…",
		Short: "Check manifests",
		RunE: func(cmd *cobra.Command, args []string) error {
			c := &checked{names: map[string]string{}, parser: a.parser(), contents: source.RelativeContents}
			if hostChecks {
				c.contents = source.AllContents
			}
			var err error
			if cmd.Flags().Changed("for") {
				err = a.validateFor(c, name, args)
			} else {
				err = a.validate(c, args)
			}
			if err != nil {
				return err
			}
			return a.printChecked(c)
		},
	}
	cmd.Flags().BoolVar(&hostChecks, "host-checks", false, "read sources of files outside of the directories too, as on the host that the manifests are for")
	cmd.Flags().StringVar(&name, "for", "", "the files are drop-ins for this container")
	return cmd
}

// checked collects what validate finds.
type checked struct {
	parser     spec.Parser
	contents   source.Which
	files      int
	containers int
	images     int
	names      map[string]string // container of this host → where
	errors     []string
	notes      []string
	given      []func(line string) string // prints paths below a directory as its argument was given
}

// asGiven returns a function that replaces the absolute path of a directory in messages by the
// path that the user gave.
func asGiven(arg, dir string) func(line string) string {
	if filepath.IsAbs(arg) {
		return func(line string) string { return line }
	}
	path := regexp.MustCompile(`(^|[^\w./-])` + regexp.QuoteMeta(dir) + `(/?)`)
	return func(line string) string {
		return path.ReplaceAllStringFunc(line, func(found string) string {
			before := found[:strings.Index(found, dir)]
			switch {
			case !strings.HasSuffix(found, "/"):
				return before + filepath.Clean(arg)
			case filepath.Clean(arg) == ".":
				return before
			}
			return before + filepath.Clean(arg) + "/"
		})
	}
}

// shown returns a message as it is printed.
func (c *checked) shown(line string) string {
	for _, replace := range c.given {
		line = replace(line)
	}
	return line
}

// validate checks files and directories.
func (a *app) validate(c *checked, args []string) error {
	if len(args) == 0 {
		s := &source.Source{Dirs: a.manifests, Parser: c.parser, Protected: a.protected(), Writable: a.writable()}
		if os.Geteuid() == 0 {
			s.Trust = a.trust // as the daemon reads them
		}
		c.directories(s, len(a.flags.manifests) == 0)
	}
	var dirs []string
	for _, arg := range args {
		if info, err := os.Stat(arg); err == nil && info.IsDir() {
			dir := arg
			if err := absolute(&dir); err != nil {
				return err
			}
			dirs = append(dirs, dir)
			c.given = append(c.given, asGiven(arg, dir))
			continue
		}
		data, err := readManifest(arg, a.in)
		if err != nil {
			return err
		}
		c.files++
		if _, isDropIn := source.DropInFor(filepath.Base(filepath.Dir(arg))); isDropIn {
			c.fail(spec.ParseFragment(arg, data).Errors)
			continue
		}
		docs := c.parser.Parse(fileName(arg), data)
		c.documents(fileName(arg), docs)
		for _, d := range docs {
			for _, warning := range d.Warnings {
				c.notes = append(c.notes, warning.Error())
			}
		}
	}
	if len(dirs) > 0 {
		c.directories(&source.Source{Dirs: dirs, Parser: c.parser, Protected: a.protected(), Writable: a.writable()}, false)
	}
	return nil
}

// writable returns what containers of this host can write, as far as the caller may read it.
func (a *app) writable() func() []string {
	w, _ := store.OpenWritable(a.stateDir)
	return w.List
}

// printChecked prints errors and notes, or that there are none.
func (a *app) printChecked(c *checked) error {
	for _, note := range c.notes {
		fmt.Fprintln(a.err, "note: "+c.shown(note))
	}
	for _, line := range c.errors {
		fmt.Fprintln(a.err, c.shown(line))
	}
	if n := len(c.errors); n > 0 {
		return exitWith(exitInvalid, "%s in %s", count(n, "error"), count(c.files, "file"))
	}
	also := ""
	if c.images > 0 {
		also = ", " + count(c.images, "image")
	}
	fmt.Fprintf(a.out, "%s, %s%s: no errors\n", count(c.files, "file"), count(c.containers, "container"), also)
	return nil
}

// fileName returns the name for messages.
func fileName(arg string) string {
	if arg == "-" {
		return "stdin"
	}
	return arg
}

// readManifest reads a file or stdin, at most one byte more than a manifest may have: the
// parser refuses that.
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

// directories checks the manifest directories as the daemon reads them. A missing directory
// is no error if it is optional.
func (c *checked) directories(s *source.Source, optional bool) {
	s.Contents = c.contents
	r := s.Read()
	for _, d := range r.Dirs {
		if d.Err != nil && !(optional && d.Missing()) {
			c.errors = append(c.errors, fmt.Sprintf("%s: %v", d.Path, d.Err))
		}
	}
	for _, f := range slices.Concat(r.Files, r.Fragments) {
		c.files++
		switch {
		case f.Err != nil:
			c.fail([]*spec.Error{f.Err})
		case !f.Waiting.IsZero():
			c.fail([]*spec.Error{{File: f.Writer, Message: "another process has it open for writing"}})
		}
		if f.Fragment != nil {
			c.fail(f.Fragment.Errors)
		}
		if !f.Foreign {
			c.documents(f.Path, f.Documents)
		}
	}
	c.notes = append(c.notes, desired.Declare(r).Notes()...)
}

// fail adds errors, each once: a drop-in may break many manifests.
func (c *checked) fail(errs []*spec.Error) {
	for _, err := range errs {
		if line := err.Error(); !slices.Contains(c.errors, line) {
			c.errors = append(c.errors, line)
		}
	}
}

// documents checks the manifests of a file, and that their names are unique.
func (c *checked) documents(file string, docs []spec.Document) {
	for _, d := range docs {
		c.fail(d.Errors)
		if d.Image != nil {
			if c.images++; !d.Elsewhere {
				c.claim("image "+d.Name, file, &d)
			}
			continue
		}
		if d.Container == nil {
			continue
		}
		c.containers += max(1, len(d.Replicas))
		if d.Elsewhere {
			continue
		}
		c.claim(d.Name, file, &d)
		for _, one := range d.Replicas {
			c.claim(one.Metadata.Name, file, &d)
		}
	}
}

// claim notes a name that a manifest claims. It is an error if another one claims it too.
func (c *checked) claim(name, file string, d *spec.Document) {
	if first, taken := c.names[name]; taken {
		c.fail([]*spec.Error{{
			File: file, Line: d.NameLine, Column: d.NameColumn, Path: "metadata.name",
			Message: fmt.Sprintf("%q is taken by %s: one name, one manifest; rename or delete one", strings.TrimPrefix(name, "image "), first),
		}})
		return
	}
	c.names[name] = fmt.Sprintf("%s:%d", file, d.Line)
}

// count formats a number of things.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
