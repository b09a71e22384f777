package main

import (
	"os"
	"strings"
	"testing"
)

func TestValidateDropIns(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("STEAD_HOST", "web-1")
	for _, d := range []string{"m/web.container.d", "repo/web.container.d", "repo/wbe.container.d", "repo/container.d", "fleet"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	installed := good + "  resources: {memory: 64Mi, swap: 0}\n"
	writeFile(t, "m/web.yaml", installed)
	writeFile(t, "m/db.yaml", strings.Replace(good, "name: web", "name: db", 1)+"  usr: x\n")
	writeFile(t, "m/web.container.d/10-swap.yaml", "spec: {resources: {swap: 64Mi}}\n")
	writeFile(t, "m/web.container.d/20-broken.yaml", "spec: {usr: x}\n")
	writeFile(t, "source", "spec: {resources: {memory: 128Mi}}\n")
	writeFile(t, "less", "spec:\n  resources:\n    memory: null\n")
	writeFile(t, "10-swap.yaml", "spec: {resources: {memory: null, swap: null}}\n")
	writeFile(t, "misspelt", "spec:\n  resuorces: {}\n")
	writeFile(t, "repo/web.yaml", installed)
	writeFile(t, "repo/web.container.d/1.yaml", "spec: {resources: {memory: 0}}\n")
	writeFile(t, "repo/wbe.container.d/1.yaml", "spec: {usr: x}\n")
	writeFile(t, "repo/container.d/1.yaml", "- x\n")
	writeFile(t, "fleet/a.yaml", good+"  hosts: [web-1]\n")
	writeFile(t, "fleet/b.yaml", good+"  hosts: [web-2]\n")
	for _, test := range []struct {
		summary, stdin string
		args           []string
		want           call
	}{
		{"a drop-in of any name, on the installed manifest", "", []string{"--for", "web", "source"}, call{0, "1 file, 1 container: no errors\n", ""}},
		{"from stdin", "spec: {user: app}", []string{"--for", "web", "-"}, call{0, "1 file, 1 container: no errors\n", ""}},
		{"what only the whole shows", "", []string{"--for", "web", "less"}, call{4, "", `DIR/m/web.container.d/10-swap.yaml:1:26: spec.resources.swap: needs memory: swap is counted in addition to memory
stead: 1 error in 1 file
`}},
		{"one that takes the installed one's place", "", []string{"--for", "web", "10-swap.yaml"}, call{0, "1 file, 1 container: no errors\n", ""}},
		{"its own line", "", []string{"--for", "web", "misspelt"}, call{4, "", "misspelt:2:3: spec.resuorces: unknown field; did you mean resources?\nstead: 1 error in 1 file\n"}},
		{"for nobody", "", []string{"--for", "mail", "source"}, call{0, "1 file, 0 containers: no errors\n", "note: no manifest declares mail here: checked for its shape alone\n"}},
		{"on a manifest that is broken itself", "", []string{"--for", "db", "source"}, call{0, "1 file, 0 containers: no errors\n",
			"note: the installed manifest has errors without it (DIR/m/db.yaml:9:3: spec.usr: unknown field; did you mean user?): checked for its shape alone\n"}},
		{"no file", "", []string{"--for", "web"}, call{2, "", "stead: --for web: want the drop-in's file, or -\n"}},
		{"no name", "", []string{"--for", "Web", "source"}, call{2, "", "stead: --for \"Web\": want 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends\n"}},
		{"a file in a drop-in folder is one", "", []string{"repo/web.container.d/1.yaml", "repo/wbe.container.d/1.yaml"}, call{4, "", `repo/wbe.container.d/1.yaml:1:8: spec.usr: unknown field; did you mean user?
stead: 1 error in 2 files
`}},
		{"a directory with all that is in it", "", []string{"repo"}, call{4, "", `note: repo/wbe.container.d/1.yaml: no manifest declares wbe: this drop-in changes nothing
repo/container.d/1.yaml:1:1: found a list, want a map: a drop-in holds parts of metadata and spec
repo/wbe.container.d/1.yaml:1:8: spec.usr: unknown field; did you mean user?
stead: 2 errors in 4 files
`}},
		{"one name for each of two hosts", "", []string{"fleet"}, call{0, "2 files, 2 containers: no errors\n", ""}},
		{"one name twice for one of them", "", []string{"fleet", "repo/web.yaml"}, call{4, "", `fleet/a.yaml:3:18: metadata.name: "web" is taken by repo/web.yaml:1: one name, one manifest; rename or delete one
stead: 1 error in 3 files
`}},
	} {
		t.Run(test.summary, func(t *testing.T) {
			c := run(t, test.stdin, append([]string{"validate", "--manifests", "m"}, test.args...)...)
			if c.err = strings.ReplaceAll(c.err, dir, "DIR"); c != test.want {
				t.Errorf("got %d\n%s%s\nwant %d\n%s%s", c.code, c.out, c.err, test.want.code, test.want.out, test.want.err)
			}
		})
	}
}

// What validate --for says is what the daemon will: of the manifests the one that
// counts, and each drop-in in its turn.
func TestValidateDropInsWhereTheyWillBe(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, d := range []string{"usr/db.container.d", "usr/container.d", "etc"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	named := func(name string) string { return strings.Replace(good, "name: web", "name: "+name, 1) }
	const limit = "  resources: {memory: 64Mi}\n"
	writeFile(t, "usr/web.yaml", good+limit)
	writeFile(t, "etc/web.yaml", good) // replaces it, and has no limit
	writeFile(t, "usr/mail.yaml", named("mail")+limit)
	if err := os.Symlink("/dev/null", "etc/mail.yaml"); err != nil {
		t.Fatal(err)
	}
	writeFile(t, "usr/db.yaml", named("db"))
	writeFile(t, "usr/db.container.d/50-none.yaml", "spec: {resources: {swap: null}}\n")
	writeFile(t, "usr/container.d/20-all.yaml", "spec: {mounts: {/x: {tmpfs: {}}}}\n")
	const swap = "spec: {resources: {swap: 0}}\n"
	for _, name := range []string{"10-swap.yaml", "90-swap.yaml", ".source.yaml", "0"} {
		writeFile(t, name, swap)
	}
	writeFile(t, "20-all.yaml", "spec: {mounts: {/x: {readOnly: true}}}\n") // not the one for all
	needs := func(file string) call {
		return call{4, "", file + ":1:26: spec.resources.swap: needs memory: swap is counted in addition to memory\nstead: 1 error in 1 file\n"}
	}
	fine := call{0, "1 file, 1 container: no errors\n", ""}
	for _, test := range []struct {
		summary, name, file string
		want                call
	}{
		{"the manifest that counts has no memory limit", "web", "10-swap.yaml", needs("10-swap.yaml")},
		{"a masked manifest is none", "mail", "10-swap.yaml", call{0, "1 file, 0 containers: no errors\n", "note: no manifest declares mail here: checked for its shape alone\n"}},
		{"one that comes later takes its fault away", "db", "10-swap.yaml", fine},
		{"none comes later", "db", "90-swap.yaml", needs("90-swap.yaml")},
		{"a name that will be another counts as the last", "db", ".source.yaml", needs(".source.yaml")},
		{"so does one that is no manifest's", "db", "0", needs("0")},
		{"one for all of the same name stays", "db", "20-all.yaml", fine},
		{"no name", "", "10-swap.yaml", call{2, "", "stead: --for \"\": want 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends\n"}},
	} {
		t.Run(test.summary, func(t *testing.T) {
			if c := run(t, "", "validate", "--manifests", "usr", "--manifests", "etc", "--for", test.name, test.file); c != test.want {
				t.Errorf("%+v\nwant %+v", c, test.want)
			}
		})
	}
}
