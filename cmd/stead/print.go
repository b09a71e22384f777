package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"stead/reconcile/view"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// printJSON prints a value as indented JSON.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// printYAML prints a value as YAML, with the names of its JSON.
func printYAML(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if b, err = spec.YAML(b); err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// printList prints a list as JSON, as YAML, or the names alone.
func printList[V any](w io.Writer, list []V, output string, name func(V) string) error {
	switch output {
	case "json":
		return printJSON(w, list)
	case "yaml":
		return printYAML(w, list)
	}
	for _, v := range list {
		fmt.Fprintln(w, name(v))
	}
	return nil
}

// table prints rows below their headings.
func table(w io.Writer, headings string, rows [][]string) error {
	var text strings.Builder
	t := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{strings.Fields(headings)}, rows...) {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(text.String()) { // an empty last column leaves trailing blanks
		if _, err := io.WriteString(w, strings.TrimRight(line, " \n")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// indented is a writer that indents each line by two blanks.
type indented struct{ w io.Writer }

func (i indented) Write(b []byte) (int, error) {
	_, err := io.WriteString(i.w, "  "+string(b)) // table writes line by line
	return len(b), err
}

// colours maps states to terminal colours.
var colours = map[string]string{
	string(view.Running): "32", string(view.Failed): "31", string(view.Invalid): "31",
	string(view.BackOff): "33", string(view.Pending): "33", string(view.Stopping): "33", string(view.Removing): "33",
	string(view.Held): "33", string(view.OutOfSync): "33", string(view.SyncError): "31",
}

// paint puts the escape sequences for a colour around a word. They have the same length for
// every word, so that a column of painted words stays aligned.
func paint(word string) string {
	return "\x1b[" + cmp.Or(colours[word], "39") + "m" + word + "\x1b[0m"
}

// output is a stream that remembers the first write error. Callers that print ignore
// errors, but the program must not exit with 0 then.
type output struct {
	file *os.File
	lost atomic.Pointer[error]
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.file.Write(b)
	if err != nil {
		o.lost.CompareAndSwap(nil, &err)
	}
	return n, err
}

// fileOf returns the file behind a stream, if there is one.
func fileOf(w io.Writer) (*os.File, bool) {
	if o, ok := w.(*output); ok {
		return o.file, true
	}
	f, ok := w.(*os.File)
	return f, ok
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := fileOf(w)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// colour reports whether to use colours.
func (a *app) colour() bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(a.out)
}

// age formats a duration for a column.
func age(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

// since returns the age of a time, or "-" if it is zero.
func since(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return age(now.Sub(t))
}

// unsafe matches a control character or invalid UTF-8, and colour sequences (ESC [ … m).
var unsafe = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\x1b\[[0-9;:]*m|[\x00-\x08\x0a-\x1f\x7f-\x{9f}\x{fffd}]`)
})

// clean makes the output of a container harmless for a terminal. It keeps colours and shows
// other control characters as text.
func clean(s string) string {
	if !strings.ContainsFunc(s, isControl) {
		return s
	}
	return unsafe().ReplaceAllStringFunc(strings.TrimSuffix(s, "\r"), func(found string) string {
		if len(found) > 1 && found[0] == '\x1b' {
			return found
		}
		return fmt.Sprintf(`\x%02x`, found[0])
	})
}

// isControl reports whether a terminal would act on a character.
func isControl(r rune) bool {
	return r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0) || r == utf8.RuneError
}
