package spec

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

// head is a manifest up to its spec; tests append what they are about.
const head = `apiVersion: stead/v1
kind: Container
metadata: {name: web}
spec:
`

// minimal is what every valid manifest has below spec.
const minimal = `  rootfs: {host: {}}
  command: [sh]
  network: {mode: none}
`

// parseOne parses a file that holds one document.
func parseOne(t *testing.T, text string) Document {
	t.Helper()
	docs := (Parser{Host: "node1"}).Parse("web.yaml", []byte(text))
	if len(docs) != 1 {
		t.Fatalf("got %d documents, want 1", len(docs))
	}
	return docs[0]
}

// valid parses a manifest that must have no error.
func valid(t *testing.T, text string) *Container {
	t.Helper()
	doc := parseOne(t, text)
	for _, e := range doc.Errors {
		t.Fatal(e)
	}
	return doc.Container
}

func printErrors(errs []*Error) string {
	var b strings.Builder
	for _, e := range errs {
		fmt.Fprintln(&b, e)
	}
	return b.String()
}

func TestEveryErrorOfAFileAtOnce(t *testing.T) {
	data, err := os.ReadFile("testdata/nine-errors.yaml")
	if err != nil {
		t.Fatal(err)
	}
	docs := Parser{}.Parse("web.yaml", data)
	golden := "testdata/nine-errors.txt"
	got := printErrors(docs[0].Errors)
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if n := len(docs[0].Errors); n != 9 {
		t.Errorf("got %d errors, want 9", n)
	}
	if docs[0].Name != "web" || docs[0].Container != nil {
		t.Errorf("name %q, container %v: an invalid document keeps its name and gives no container", docs[0].Name, docs[0].Container)
	}
}

func TestWholeFiles(t *testing.T) {
	const sound = head + minimal
	broken := func(line string) string { return sound + "---\n" + line }
	for _, test := range []struct {
		summary string
		text    string
		names   []string // of the documents, in order
		want    string   // all errors
	}{
		{"an empty file", "", []string{""},
			"web.yaml:1: holds no manifest (the file is empty or has only comments)\n"},
		{"only comments", "# later\n---\n# more\n", []string{""},
			"web.yaml:1: holds no manifest (the file is empty or has only comments)\n"},
		{"two documents, and the empty ones that a template leaves", "---\n" + sound + "---\n# nothing\n---\n" + strings.Replace(sound, "web", "db", 1) + "---\n", []string{"web", "db"}, ""},
		{"a sound document before a broken one", broken("kind: [Container\n"), []string{"web", ""},
			"web.yaml:9: not valid YAML: did not find expected ',' or ']'\n"},
		{"a broken document whose name stands above the fault", broken("metadata: {name: db}\nspec:\n  command: \"sh\n"), []string{"web", "db"},
			"web.yaml:11: not valid YAML: found unexpected end of stream\n"},
		{"a merge conflict", head + "<<<<<<< HEAD\n  init: true\n=======\n  init: false\n>>>>>>> theirs\n", []string{"web"},
			"web.yaml:5:1: holds a merge conflict (<<<<<<<); solve it and commit\n"},
		{"a tab", head + "\trootfs: x\n", []string{"web"},
			"web.yaml:5:1: not valid YAML: found character that cannot start any token; indent with spaces, not tabs\n"},
		{"a colon in plain text", "a: b: c\n", []string{""},
			"web.yaml:1: not valid YAML: mapping values are not allowed in this context; look at the indentation, and quote a text that holds \": \"\n"},
		{"an alias to nothing", "kind: Container\nspec: *base\n", []string{""},
			"web.yaml:2:7: not valid YAML: unknown anchor 'base' referenced\n"},
		{"not UTF-8", "metadata:\n  name: caf\xe9\n", []string{""},
			"web.yaml:2:12: holds a byte (0xe9) that is not UTF-8; save it as UTF-8\n"},
		{"UTF-16", "\xff\xfea\x00", []string{""}, "web.yaml:1:1: is UTF-16; save it as UTF-8\n"},
		{"a NUL", "a: é\x00\n", []string{""}, "web.yaml:1:5: holds a control character (0x00); want text in UTF-8\n"},
		{"too large", strings.Repeat("# ", MaxFileSize), []string{""}, "web.yaml: is 2097152 bytes; a manifest file has at most 1Mi\n"},
		{"too deep", strings.Repeat("[", 20_000), []string{""}, "web.yaml:1: not valid YAML: exceeded max depth of 10000\n"},
		{"a byte order mark and Windows line ends", "\ufeff" + strings.ReplaceAll(sound, "\n", "\r\n"), []string{"web"}, ""},
		{"JSON", `{"apiVersion": "stead/v1", "kind": "Container", "metadata": {"name": "web"},` +
			"\n\t" + `"spec": {"rootfs": {"host": {}}, "command": ["sh"], "network": {"mode": "none"}}}`, []string{"web"}, ""},
		{"an anchor of the whole", "--- &base\n" + sound, []string{"web"}, ""},
		{"an anchor of an earlier document", "--- &base\n" + sound + "---\nspec: *base\n", []string{"web", ""},
			"web.yaml:10:7: unknown anchor (&base): an anchor is known in its own document only\n"},
		{"a key that would drive a terminal", sound + "  \"a\\e[2Jb\": x\n", []string{"web"},
			"web.yaml:8:3: spec[a\\x1b[2Jb]: unknown field\n"},
		{"a list", "- kind: Container\n", []string{""},
			"web.yaml:1:1: found a list, want a manifest: apiVersion: stead/v1, kind: Container, metadata, spec; several manifests of one file are separated by --- lines\n"},
		{"plain text", "hello\n", []string{""},
			"web.yaml:1:1: found \"hello\", want a manifest: apiVersion: stead/v1, kind: Container, metadata, spec\n"},
		{"a Pod", "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: []}\n", []string{"web"},
			"web.yaml:2:7: kind: found Pod of Kubernetes, want Container; one manifest is one container, with command, env and resources directly under spec\n"},
		{"a Compose file", "version: '3'\nservices: {web: {image: nginx}}\n", []string{""},
			"web.yaml:1:1: this looks like a Compose file; want a manifest: apiVersion: stead/v1, kind: Container, metadata, spec, one document for each service\n"},
		{"half an image", "apiVersion: stead/v1\nkind: Image\nmetadata: {name: debian}\n", []string{"debian"},
			"web.yaml:1:1: spec: missing; want a map of fields (hosts, source, digest)\n"},
		{"a network, which a later version serves", "apiVersion: stead/v1\nkind: Network\nmetadata: {name: shop}\n", []string{"shop"},
			"web.yaml:2:7: kind: Network is not supported yet; until then: network: {mode: host}, where a program's ports are the host's\n"},
		{"a template", "apiVersion: stead/v1\nkind: Template\nmetadata: {name: debian}\n", []string{"debian"},
			"web.yaml:2:7: kind: there are no templates; what containers have in common goes into container.d/\n"},
		{"a misspelt kind", strings.Replace(sound, "Container", "container", 1), []string{"web"},
			"web.yaml:2:7: kind: found \"container\", want Container or Image; did you mean Container?\n"},
		{"another version", strings.Replace(sound, "stead/v1", "stead/v2", 1), []string{"web"},
			"web.yaml:1:13: apiVersion: found \"stead/v2\", want stead/v1\n"},
		{"half a manifest", head, []string{"web"},
			"web.yaml:4:6: spec: found nothing (null), want a map of fields; give a value or remove the line\n"},
		{"nothing but a name", "metadata: {name: web}\n", []string{"web"},
			"web.yaml:1:1: apiVersion: missing; want stead/v1\nweb.yaml:1:1: kind: missing; want Container\nweb.yaml:1:1: spec: missing; want a map of fields\n"},
		{"no name", strings.Replace(sound, "{name: web}", "{}", 1), []string{""},
			"web.yaml:3:1: metadata.name: missing; want a name such as web\n"},
		{"a name that is no DNS label", strings.Replace(sound, "web", "../web", 1), []string{""},
			"web.yaml:3:18: metadata.name: found \"../web\": want 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends\n"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			var names []string
			var errs string
			for i, doc := range (Parser{}).Parse("web.yaml", []byte(test.text)) {
				if doc.Index != i || doc.Line < 1 {
					t.Errorf("document %d has index %d and line %d", i, doc.Index, doc.Line)
				}
				if (doc.Container == nil) != (doc.Errors != nil) {
					t.Errorf("document %d: a container and errors exclude each other", i)
				}
				names = append(names, doc.Name)
				errs += printErrors(doc.Errors)
			}
			if !reflect.DeepEqual(names, test.names) {
				t.Errorf("names %q, want %q", names, test.names)
			}
			if errs != test.want {
				t.Errorf("errors\n%swant\n%s", errs, test.want)
			}
		})
	}
}

func TestErrorsStopAtAHundred(t *testing.T) {
	var b strings.Builder
	b.WriteString(head)
	for i := range 50_000 {
		fmt.Fprintf(&b, "  comand%d: x\n", i)
	}
	errs := parseOne(t, b.String()).Errors
	if n := len(errs); n != maxErrors+1 {
		t.Errorf("got %d errors, want %d and one that says there are more", n, maxErrors)
	}
	if last := errs[len(errs)-1].Message; !strings.Contains(last, "more than 100 errors") {
		t.Errorf("the last error is %q", last)
	}
}

func TestDefaults(t *testing.T) {
	got := valid(t, head+minimal)
	yes, five := true, int64(5)
	want := &Container{
		APIVersion: APIVersion, Kind: Kind, Metadata: Metadata{Name: "web"},
		Spec: Spec{
			Rootfs: Rootfs{Host: &HostRoot{}}, Command: []string{"sh"}, Network: Network{Mode: "none"},
			WorkingDir: "/", User: "0", Hostname: "web",
			Security: Security{Seccomp: "default", Userns: "auto", NoNewPrivileges: &yes, Pid: "private"},
			Restart:  Restart{Policy: "always", Backoff: Backoff{Initial: 1e9, Max: 300e9}},
			Stop:     Stop{Signal: "TERM", Timeout: 10e9},
			Rerun:    "on-change",
			Logs:     Logs{MaxSize: 10 << 20, Keep: &five},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the defaults are frozen\ngot  %s\nwant %s", asJSON(t, got), asJSON(t, want))
	}
	if mount := valid(t, head+minimal+"  mounts: {/tmp: {tmpfs: {}}}\n").Spec.Mounts["/tmp"]; *mount.Tmpfs.Size != 64<<20 {
		t.Errorf("a tmpfs without a size holds %s, want 64Mi", mount.Tmpfs.Size)
	}
}

func asJSON(t *testing.T, c any) string {
	t.Helper()
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestOneMeaningOneForm(t *testing.T) {
	for _, test := range []struct{ summary, a, b string }{
		{"empty is absent", "args: []\n  env: {}\n  mounts: {}\n  ulimits: {}\n  groups: []\n  resources: {io: {}}", "suspend: false"},
		{"what is said and what is the default", "user: 0\n  hostname: web\n  stop: {timeout: 10s, signal: TERM}\n  logs: {keep: 5, maxSize: 10240Ki}", "protect: false"},
		{"units", "resources: {memory: 1Gi, cpu: 0.5}", "resources: {memory: 1073741824, cpu: 500m}"},
		{"durations", "restart: {backoff: {initial: 1m30s, max: 1d}}", "restart: {backoff: {initial: 90s, max: 24h0m}}"},
		{"a CPU set's spelling", "resources: {cpuset: \"3,0-1,1-2\"}", "resources: {cpuset: 0-3}"},
		{"sets have no order", "groups: [b, a, b]\n  security: {capabilities: {add: [SYS_TIME, NET_ADMIN, SYS_TIME]}}", "groups: [a, b]\n  security: {capabilities: {add: [NET_ADMIN, SYS_TIME]}}"},
		{"ALL holds every other", "security: {capabilities: {drop: [ALL, CHOWN]}}", "security: {capabilities: {drop: [ALL]}}"},
		{"a number in env is its text", "env: {A: 010, B: 1.50}", "env: {A: \"010\", B: \"1.50\"}"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			a, b := valid(t, head+minimal+"  "+test.a+"\n"), valid(t, head+minimal+"  "+test.b+"\n")
			if !reflect.DeepEqual(a, b) {
				t.Errorf("differ:\n%s\n%s", asJSON(t, a), asJSON(t, b))
			}
			if d := Diff(a, b); d != nil {
				t.Errorf("Diff %v", d)
			}
		})
	}
}

func TestExpansion(t *testing.T) {
	bad := parseOne(t, head+minimal+"  mounts:\n    /a/${stead.name}:\n      source: srv\n").Errors
	if got, want := printErrors(bad), "web.yaml:10:15: spec.mounts[/a/web].source: found \"srv\", want an absolute path: a mount keeps the directory that the path led to when the container was started\n"; got != want {
		t.Errorf("an error below an expanded target stands elsewhere: %swant %s", got, want)
	}
	c := valid(t, strings.Replace(head, "web", "db", 1)+`  rootfs: {host: {}}
  network: {mode: none}
  hostname: ${stead.name}.${stead.host}
  command: [sh, "${stead.name}", "$HOME ${HOME:-${stead.name}} $(x) $$ ${stead"]
  args: ["$${stead.name} $$${stead.name} $${stead.what} $${X}"]
  env: {A: "${stead.name}-${stead.host}"}
  mounts:
    /data/${stead.name}: {source: "/srv/${stead.host}/${stead.name}"}
`)
	s := c.Spec
	for _, test := range []struct{ summary, got, want string }{
		{"host name", s.Hostname, "db.node1"},
		{"command", s.Command[1], "db"},
		{"what is not ours stays", s.Command[2], "$HOME ${HOME:-db} $(x) $$ ${stead"},
		{"a literal reference", s.Args[0], "${stead.name} $${stead.name} ${stead.what} ${X}"},
		{"env", string(s.Env["A"]), "db-node1"},
		{"a mount's source, by its expanded target", s.Mounts["/data/db"].Source, "/srv/node1/db"},
	} {
		if test.got != test.want {
			t.Errorf("%s: got %q, want %q", test.summary, test.got, test.want)
		}
	}
}
