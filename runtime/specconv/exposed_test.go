package specconv

import (
	"os"
	"strings"
	"testing"

	"stead/runtime/roottest"
	"stead/spec"
)

func TestExposed(t *testing.T) {
	roottest.Need(t)
	open := roottest.TempDir(t, "/var/tmp")
	os.Chmod(open, 0o755)
	os.MkdirAll(open+"/closed/data", 0o755)
	os.Chmod(open+"/closed", 0o700)
	os.Mkdir(open+"/data", 0o755)
	os.WriteFile(open+"/file", nil, 0o644)
	for _, tt := range []struct{ summary, body, want string }{
		{"its own root", "command: [sh]", ""},
		{"a path root", "command: [sh]\nrootfs: {path: D/data}", "D/data"},
		{"a path root for reading", "command: [sh]\nrootfs: {path: D/data, readOnly: true}", ""},
		{"a path root behind a closed door", "command: [sh]\nrootfs: {path: D/closed/data}", ""},
		{"mounts", "command: [sh]\nmounts: {/a: {source: D/data}, /b: {source: D, readOnly: true}, /c: {source: D/closed/data}, /d: {source: D/file}, /e: {source: /nonsuch}}", "D/data"},
		{"another user", "command: [sh]\nuser: nobody\nmounts: {/a: {source: D/data}}", ""},
		{"another user, who may become root", "command: [sh]\nuser: nobody\nmounts: {/a: {source: D/data}}\nsecurity: {noNewPrivileges: false}", "D/data"},
	} {
		got := Exposed(manifestOf(t, strings.ReplaceAll(tt.body, "D", open)))
		want := strings.ReplaceAll(tt.want, "D", open)
		if len(got) > 1 || (len(got) == 1) != (want != "") || want != "" && got[0] != want {
			t.Errorf("%s: %q, want one of %q", tt.summary, got, want)
		}
	}
}

// manifestOf is a manifest with these lines of its spec.
func manifestOf(t *testing.T, body string) *spec.Container {
	t.Helper()
	text := "apiVersion: stead/v1\nkind: Container\nmetadata: {name: web}\nspec:\n  network: {mode: none}\n  " + strings.ReplaceAll(body, "\n", "\n  ") + "\n"
	if !strings.Contains(text, "rootfs:") {
		text += "  rootfs: {host: {}}\n"
	}
	d := spec.Parser{Host: "test"}.Parse("web.yaml", []byte(text))
	if len(d) != 1 || len(d[0].Errors) > 0 {
		t.Fatalf("manifest: %v\n%s", d[0].Errors, text)
	}
	return d[0].Container
}
