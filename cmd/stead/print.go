package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
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

// paint colours words in some columns of a table. It works on the finished table, because
// tabwriter would count an escape sequence as width.
func paint(text string, columns ...string) string {
	lines := strings.SplitAfter(text, "\n")
	for _, column := range slices.Backward(columns) { // from the right: an insertion shifts what follows
		at := strings.Index(lines[0], column)
		for i, line := range lines[1:] {
			start := byteAt(line, at)
			word, _, _ := strings.Cut(line[start:], " ")
			if c := colours[word]; c != "" {
				lines[i+1] = line[:start] + "\x1b[" + c + "m" + word + "\x1b[0m" + line[start+len(word):]
			}
		}
	}
	return strings.Join(lines, "")
}

// byteAt returns the offset of the n-th character of a line.
func byteAt(line string, n int) int {
	at := 0
	for ; n > 0 && at < len(line); n-- {
		_, size := utf8.DecodeRuneInString(line[at:])
		at += size
	}
	return at
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

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// clean makes the output of a container harmless for a terminal. It keeps colours and shows
// other control characters as text.
func clean(s string) string {
	if !strings.ContainsFunc(s, isControl) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if n := colourAt(s[i:]); n > 0 {
			b.WriteString(s[i : i+n])
			i += n
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\r' && i == len(s)-1:
		case isControl(r) || r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}

// isControl reports whether a terminal would act on a character.
func isControl(r rune) bool {
	return r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0) || r == utf8.RuneError
}

// colourAt returns the length of the colour sequence (ESC [ … m) at the start of s, 0 if
// there is none.
func colourAt(s string) int {
	if !strings.HasPrefix(s, "\x1b[") {
		return 0
	}
	n := 2 + len(s[2:]) - len(strings.TrimLeft(s[2:], "0123456789;:"))
	if n < len(s) && s[n] == 'm' {
		return n + 1
	}
	return 0
}
