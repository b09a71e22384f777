package main

import (
	"fmt"
	"strings"

	"stead/spec"

	"github.com/spf13/cobra"
)

func (a *app) explainCommand() *cobra.Command {
	kind := spec.Kind
	cmd := &cobra.Command{
		Use: "explain [FIELD]", Short: "Explain a field of the manifest", Args: args(0, 1, "explain takes one field"),
		ValidArgsFunction: func(*cobra.Command, []string, string) (paths []string, _ cobra.ShellCompDirective) {
			for _, f := range reference(kind) {
				paths = append(paths, strings.TrimPrefix(f.path, "spec."))
			}
			return paths, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			name := "spec"
			if len(args) > 0 {
				name = args[0]
			}
			text, err := explain(reference(kind), name)
			if err == nil {
				_, err = fmt.Fprint(a.out, text)
			}
			return err
		},
	}
	choiceFlag(cmd, cmd.Flags(), &kind, "kind", "", "kind of the manifest: ", spec.Kind, spec.ImageKind)
	return cmd
}

// field is a row of the manifest reference.
type field struct{ path, takes, defaultText, change, doc string }

// reference returns the fields of a kind of manifest, each before the fields below it.
func reference(kind string) (fields []field) {
	containers, images, _ := strings.Cut(spec.Reference(), "`kind: Image`")
	text := containers
	if kind == spec.ImageKind {
		text = images
	}
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if !strings.HasPrefix(line, "| `") || len(cells) != 5 {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(strings.ReplaceAll(cells[i], `\|`, "|"))
		}
		plain := func(s string) string { return strings.ReplaceAll(s, "`", "") }
		fields = append(fields, field{plain(cells[0]), plain(cells[1]), plain(cells[2]), cells[3], cells[4]})
	}
	return fields
}

// explain describes a field and lists those directly below it.
func explain(fields []field, name string) (string, error) {
	short := func(path string) string { // as most people type it
		return strings.TrimPrefix(strings.ReplaceAll(path, ".*", ""), "spec.")
	}
	at := -1
	var names []string
	for i, f := range fields {
		if f.path == name || short(f.path) == short(name) {
			at = i
		}
		names = append(names, short(f.path))
	}
	if at < 0 {
		hint := ""
		if near := spec.Nearest(short(name), names); near != "" {
			hint = "; did you mean " + near + "?"
		}
		return "", exitWith(exitUsage, "no field %s%s", name, hint)
	}
	var b strings.Builder
	fields[at].describe(&b, fields[at].doc)
	below := fields[at].path + "."
	for _, f := range fields[at+1:] {
		rest, inside := strings.CutPrefix(f.path, below)
		if inside && !strings.Contains(strings.TrimPrefix(rest, "*."), ".") {
			first, _, _ := strings.Cut(f.doc, ". ")
			b.WriteByte('\n')
			f.describe(&b, strings.TrimSuffix(first, ".")+".")
		}
	}
	return b.String(), nil
}

// describe writes the facts of a field, and what doc says about it.
func (f field) describe(b *strings.Builder, doc string) {
	facts := []string{f.takes}
	switch {
	case f.defaultText == "required":
		facts = append(facts, "required")
	case f.defaultText != "":
		facts = append(facts, "default "+f.defaultText)
	}
	switch f.change {
	case "":
	case "live":
		facts = append(facts, "changes live")
	default:
		facts = append(facts, "a change "+f.change)
	}
	fmt.Fprintf(b, "%s  (%s)\n", f.path, strings.Join(facts, "; "))
	writeWrapped(b, doc, "    ", 80)
}

// withoutTables returns the text of the topic manifest with its tables of fields as lists,
// which a terminal has room for.
func withoutTables(text string) string {
	for _, kind := range []string{spec.Kind, spec.ImageKind} {
		before, rest, found := strings.Cut(text, "| Field | Takes |")
		_, after, ended := strings.Cut(rest, "|\n\n")
		if !found || !ended {
			break
		}
		var list strings.Builder
		for _, f := range reference(kind) {
			f.describe(&list, f.doc)
			list.WriteByte('\n')
		}
		text = before + list.String() + after
	}
	return text
}

// writeWrapped writes text in lines of at most width bytes, each behind the indent.
func writeWrapped(b *strings.Builder, text, indent string, width int) {
	line := indent
	for _, word := range strings.Fields(text) {
		if len(line)+len(word) >= width && line != indent {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = indent
		}
		line += word + " "
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}
