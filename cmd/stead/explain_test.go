package main

import (
	"strings"
	"testing"

	"stead/spec"
)

func TestExplain(t *testing.T) {
	for _, test := range []struct {
		args string
		code int
		want []string // of the output or the error
		not  string
	}{
		{"", 0, []string{"spec  (fields; required)\n", "\nspec.command  (a list such as [a, b]; a change restarts)\n    The program to run and its first arguments.\n"}, "spec.mounts.*.source"},
		{"resources.memory", 0, []string{"spec.resources.memory  (a size such as 256Mi; changes live)\n    Memory limit, in bytes or with `Ki`"}, "memoryLow"},
		{"spec.mounts", 0, []string{"spec.mounts.*.tmpfs  (fields"}, "tmpfs.size"},
		{"mounts.*.tmpfs", 0, []string{"spec.mounts.*.tmpfs.size  (a size such as 256Mi; default 64Mi; a change restarts)\n"}, "spec.mounts.*.source"},
		{"metadata", 0, []string{"metadata.name  (text; required)\n"}, "spec"},
		{"--kind Image source.registry", 0, []string{"spec.source.registry  (text; changes live)\n    A complete reference"}, "archive"},
		{"resources.memry", 2, []string{"no field resources.memry; did you mean resources.memory?"}, ""},
		{"--kind Image mounts", 2, []string{"no field mounts"}, ""},
	} {
		c := run(t, "", append([]string{"explain"}, strings.Fields(test.args)...)...)
		for _, want := range test.want {
			if got := c.out + c.err; c.code != test.code || !strings.Contains(got, want) || test.not != "" && strings.Contains(got, test.not) {
				t.Errorf("%s: code %d\n%s\nwant %q, not %q", test.args, c.code, got, want, test.not)
			}
		}
	}
	for _, kind := range []string{spec.Kind, spec.ImageKind} { // every field is explained
		for _, f := range reference(kind) {
			if text, err := explain(reference(kind), f.path); err != nil || f.doc == "" || !strings.HasPrefix(text, f.path+"  (") {
				t.Errorf("%s: %v\n%s", f.path, err, text)
			}
		}
	}
	table, _, _ := strings.Cut(spec.Reference(), "`kind: Image`")
	if n, rows := len(reference(spec.Kind)), strings.Count(table, "\n| `"); n != rows {
		t.Errorf("%d fields explained of %d", n, rows)
	}
	manifest, _ := readTopic("manifest")
	if got := withoutTables(manifest); strings.Contains(got, "\n| `spec") || !strings.Contains(got, "\nspec.digest  (text; changes live)\n") || !strings.Contains(got, "refused as \"not supported yet\"") {
		t.Errorf("on a terminal:\n%s", got)
	}
}
