package main

import (
	"os"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Mkdir("m", 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, "source", good) // what Ansible names it
	writeFile(t, "m/web.yaml", good)
	writeFile(t, "m/web.yaml~", "leave me alone")
	writeFile(t, "empty.yaml", "")
	writeFile(t, "half.yaml", good[:len(good)/2])
	writeFile(t, "bad.yaml", strings.NewReplacer("command", "comand", "mode: none", "mode: brigde").Replace(good))
	writeFile(t, "two.yaml", good+"---\n"+good)
	if err := os.Mkdir("app", 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, "app/web.yaml", good)
	writeFile(t, "app/docker-compose.yml", "services: {web: {image: nginx}}\n")
	writeFile(t, "old.yaml", good+"  security: {devices: [/dev/fuse]}\n  envFrom: {A: b}\n  args: [\"$$X\"]\n")
	writeFile(t, "warned.yaml", good+"  args: [\"$$X\"]\n")
	for _, test := range []struct {
		summary, stdin string
		args           []string
		code           int
		out, err       string
	}{
		{"a file of any name", "", []string{"source"}, 0, "1 file, 1 container: no errors\n", ""},
		{"stdin", good, []string{"-"}, 0, "1 file, 1 container: no errors\n", ""},
		{"a directory, as it is read", "", []string{"m"}, 0, "1 file, 1 container: no errors\n", ""},
		{"all errors at once", "", []string{"bad.yaml"}, 4, "", `bad.yaml:6:3: spec.comand: unknown field; did you mean command?
bad.yaml:8:19: spec.network.mode: found "brigde", want none or host
stead: 2 errors in 1 file
`},
		{"an empty file", "", []string{"empty.yaml"}, 4, "", `empty.yaml:1: holds no manifest (the file is empty or has only comments)
stead: 1 error in 1 file
`},
		{"stdin has no name", "", []string{"-"}, 4, "", `stdin:1: holds no manifest (the file is empty or has only comments)
stead: 1 error in 1 file
`},
		{"one name twice in a file", "", []string{"two.yaml"}, 4, "", `two.yaml:12:18: metadata.name: "web" is taken by two.yaml:1: one name, one manifest; rename or delete one
stead: 1 error in 1 file
`},
		{"one name in two files", "", []string{"source", "m"}, 4, "", `m/web.yaml:3:18: metadata.name: "web" is taken by source:1: one name, one manifest; rename or delete one
stead: 1 error in 2 files
`},
		{"a directory with a file that is no manifest", "", []string{"app"}, 0, "2 files, 1 container: no errors\n",
			"note: app/docker-compose.yml: not followed: no document in it has apiVersion: stead/v1 (this looks like a Compose file; want a manifest: apiVersion: stead/v1, kind: Container, metadata, spec, one document for each service); a folder named *.files may hold what is no manifest\n"},
		{"that file by itself", "", []string{"app/docker-compose.yml"}, 4, "", "app/docker-compose.yml:1:1: this looks like a Compose file; want a manifest: apiVersion: stead/v1, kind: Container, metadata, spec, one document for each service\nstead: 1 error in 1 file\n"},
		{"spellings of before", "", []string{"old.yaml"}, 4, "", `old.yaml:9:14: spec.security.devices: unknown field; devices is a field of spec now, a map by path: devices: {/dev/fuse: {}}, or with access: r for what was /dev/fuse:r
old.yaml:10:3: spec.envFrom: unknown field; it is called envSecrets now, a map by name: envSecrets: {DB_PASSWORD: {source: /etc/stead/secrets/db}}
stead: 2 errors in 1 file
`},
		{"what is sound and hardly meant", "", []string{"warned.yaml"}, 0, "1 file, 1 container: no errors\n",
			"note: warned.yaml:9:10: spec.args[0]: found $$X, which stays as it is, and is a shell's process id followed by \"X\"; a plain $ needs no second one here\n"},
		{"a directory that isn't there", "", []string{"nonsuch"}, 1, "", "stead: open nonsuch: no such file or directory\n"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			c := run(t, test.stdin, append([]string{"validate"}, test.args...)...)
			if c.err = strings.ReplaceAll(c.err, dir, "DIR"); c != (call{test.code, test.out, test.err}) {
				t.Errorf("got %d\n%s%s\nwant %d\n%s%s", c.code, c.out, c.err, test.code, test.out, test.err)
			}
		})
	}
	if c := run(t, "", "validate", "half.yaml"); c.code != 4 {
		t.Errorf("half a manifest: %+v", c)
	}
}

// A drop-in whose writer is still at it is one error, though the manifest that it
// is for can't be completed either.
func TestValidateTellsAWriterOnce(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir+"/web.yaml", good)
	if err := os.Mkdir(dir+"/web.container.d", 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(dir + "/web.container.d/10.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := dir + "/web.container.d/10.yaml: another process has it open for writing\nstead: 1 error in 2 files\n"
	if c := run(t, "", "validate", dir); c != (call{exitInvalid, "", want}) {
		t.Errorf("%+v, want %q", c, want)
	}
}
