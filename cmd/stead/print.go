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

// oneOf refuses a flag's value that is none of the choices.
func oneOf(flag, value string, choices ...string) error {
	if slices.Contains(choices, value) {
		return nil
	}
	last := len(choices) - 1
	return exitWith(exitUsage, "--%s %s: want %s or %s", flag, value, strings.Join(choices[:last], ", "), choices[last])
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

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

// printList prints a list as json, yaml, or by name.
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

// table prints rows below their headings; a column is as wide as it must be.
func table(w io.Writer, headings string, rows [][]string) error {
	var text strings.Builder
	t := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{strings.Fields(headings)}, rows...) {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(text.String()) { // an empty last column leaves blanks
		if _, err := io.WriteString(w, strings.TrimRight(line, " \n")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// indented is a writer that sets each line in by two blanks.
type indented struct{ w io.Writer }

func (i indented) Write(b []byte) (int, error) {
	_, err := io.WriteString(i.w, "  "+string(b)) // table writes line by line
	return len(b), err
}

// colours are those of the states; what is well has none.
var colours = map[string]string{
	string(view.Running): "32", string(view.Failed): "31", string(view.Invalid): "31",
	string(view.BackOff): "33", string(view.Pending): "33", string(view.Stopping): "33", string(view.Removing): "33",
	string(view.Held): "33", string(view.OutOfSync): "33", string(view.SyncError): "31",
}

// paint colours the words of a printed table's columns: done on the finished
// text, as an escape sequence would count as width.
func paint(text string, columns ...string) string {
	lines := strings.SplitAfter(text, "\n")
	for _, column := range slices.Backward(columns) { // from the right: what is inserted shifts
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

// byteAt is where the n-th character of a line begins.
func byteAt(line string, n int) int {
	at := 0
	for ; n > 0 && at < len(line); n-- {
		_, size := utf8.DecodeRuneInString(line[at:])
		at += size
	}
	return at
}

// output is a stream that remembers that it could not be written: few who print
// can do anything about it, but the program must not say that all went well.
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

// fileOf is the file that a stream is written to, if it is one.
func fileOf(w io.Writer) (*os.File, bool) {
	if o, ok := w.(*output); ok {
		return o.file, true
	}
	f, ok := w.(*os.File)
	return f, ok
}

// isTerminal tells whether a person looks at the stream.
func isTerminal(w io.Writer) bool {
	f, ok := fileOf(w)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func (a *app) colour() bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(a.out)
}

// age is a time span as short as a column is.
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

// since is the age of a time, "-" of none.
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

// clean makes a container's output harmless for a terminal: colours pass, what
// would move the cursor or set a title is shown as text.
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

func isControl(r rune) bool {
	return r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0) || r == utf8.RuneError
}

// colourAt is the length of the colour sequence (ESC [ … m) that s begins with.
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
