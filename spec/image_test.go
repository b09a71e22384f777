package spec

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// What a manifest leaves absent comes from the image; what it says wins.
func TestImageConfigFill(t *testing.T) {
	image := &ImageConfig{
		Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}, Env: []string{"PATH=/opt/bin", "A=image", "EMPTY="},
		User: "app", WorkingDir: "/srv", StopSignal: "SIGQUIT",
	}
	for _, c := range []struct {
		summary  string
		image    *ImageConfig
		manifest Spec
		want     Spec
	}{
		{"nothing", image, Spec{}, Spec{
			Command: []string{"/entry"}, Args: []string{"serve"}, Env: map[string]Text{"PATH": "/opt/bin", "A": "image", "EMPTY": ""},
			User: "app", WorkingDir: "/srv", Stop: Stop{Signal: "QUIT"},
		}},
		{"args replace the arguments only", &ImageConfig{Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}},
			Spec{Args: []string{"check"}}, defaulted(Spec{Command: []string{"/entry"}, Args: []string{"check"}})},
		{"command replaces both", &ImageConfig{Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}},
			Spec{Command: []string{"/bin/sh"}}, defaulted(Spec{Command: []string{"/bin/sh"}})},
		{"an image without an entrypoint", &ImageConfig{Cmd: []string{"bash", "-l"}}, Spec{}, defaulted(Spec{Command: []string{"bash", "-l"}})},
		{"args for an image without an entrypoint", &ImageConfig{Cmd: []string{"bash"}}, Spec{Args: []string{"id"}}, defaulted(Spec{Command: []string{"id"}})},
		{"all is said", image,
			Spec{Command: []string{"x"}, Env: map[string]Text{"A": "b"}, User: "0", WorkingDir: "/", Stop: Stop{Signal: "TERM"}},
			Spec{Command: []string{"x"}, Env: map[string]Text{"PATH": "/opt/bin", "A": "b", "EMPTY": ""}, User: "0", WorkingDir: "/", Stop: Stop{Signal: "TERM"}}},
		{"no image", nil, Spec{Command: []string{"x"}}, defaulted(Spec{Command: []string{"x"}})},
		{"a relative directory", &ImageConfig{WorkingDir: "srv/../app"}, Spec{}, Spec{User: "0", WorkingDir: "/app", Stop: Stop{Signal: "TERM"}}},
		{"a signal by its number", &ImageConfig{StopSignal: "3"}, Spec{}, Spec{User: "0", WorkingDir: "/", Stop: Stop{Signal: "QUIT"}}},
		{"a real-time signal", &ImageConfig{StopSignal: "SIGRTMIN+3"}, Spec{}, Spec{User: "0", WorkingDir: "/", Stop: Stop{Signal: "RTMIN+3"}}},
		{"one by its number", &ImageConfig{StopSignal: "37"}, Spec{}, Spec{User: "0", WorkingDir: "/", Stop: Stop{Signal: "RTMIN+3"}}},
		{"what is no signal", &ImageConfig{StopSignal: "-1"}, Spec{}, defaulted(Spec{})},
		{"variables that can't be one", &ImageConfig{Env: []string{"=x", "A", "STEAD_NAME=x", "B=c=d"}}, Spec{}, defaulted(Spec{Env: map[string]Text{"B": "c=d"}})},
	} {
		t.Run(c.summary, func(t *testing.T) {
			m := &Container{Spec: c.manifest}
			before := *m
			if got := c.image.Fill(m); !reflect.DeepEqual(got.Spec, c.want) {
				t.Errorf("filled: %+v\nwant:   %+v", got.Spec, c.want)
			}
			if !reflect.DeepEqual(*m, before) {
				t.Error("the manifest itself was changed")
			}
		})
	}
}

// defaulted is s with the defaults of what an image may say.
func defaulted(s Spec) Spec {
	s.User, s.WorkingDir, s.Stop.Signal = "0", "/", "TERM"
	return s
}

func TestCheckImage(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a1", 32)
	for _, name := range []string{
		"debian-12", "a", "my.image_2", "docker.io/library/nginx:1.27", "docker.io/library/nginx@" + digest, "docker.io/library/nginx:1.27@" + digest,
		"localhost:5000/x:1", "registry.example.com/a/b/c:V1.2_x", "ghcr.io/a/b__c:latest", "[::1]:5000/a/b:1",
	} {
		if err := CheckImage(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, want := range map[string]string{
		"nginx:1.27":             "want the whole reference: docker.io/library/nginx:1.27; the name of a local image holds no \":\" and no \"/\"",
		"grafana/grafana":        "want the whole reference: docker.io/grafana/grafana:latest;",
		"docker.io/nginx:1":      "want the whole reference: docker.io/library/nginx:1;",
		"ghcr.io/a/b":            "want the whole reference: ghcr.io/a/b:latest;",
		"nginx@" + digest:        "want the whole reference: docker.io/library/nginx@" + digest,
		"https://docker.io/x/y":  "want a reference without https://",
		"docker.io/Library/x:1":  "want the repository in lower case",
		"docker.io/library/x:":   "want a reference such as",
		"docker.io/../x:1":       "want a reference such as",
		"docker.io/x/y@sha256:a": "want a reference such as",
		"Debian":                 "want the name of a local image",
		"-x":                     "want the name of a local image",
		"a b":                    "want the name of a local image",
		"/srv/x":                 "want a reference such as",
	} {
		if err := CheckImage(name); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
}

const imageRoot = `apiVersion: stead/v1
kind: Container
metadata: {name: web}
spec:
  rootfs: {image: docker.io/library/nginx:1.27}
  network: {mode: none}
`

// What an image may say stays absent, in a record too; what the manifest says stays.
func TestImageRoot(t *testing.T) {
	c := valid(t, imageRoot)
	if s := c.Spec; s.Command != nil || s.User != "" || s.WorkingDir != "" || s.Stop.Signal != "" || s.Rootfs.OnImageChange != "reset" || s.Hostname != "web" {
		t.Errorf("got %+v", s)
	}
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	read := &Container{}
	if err := json.Unmarshal(data, read); err != nil {
		t.Fatal(err)
	}
	if read.Default(); read.Fingerprint() != c.Fingerprint() {
		t.Errorf("the record differs: %v", Diff(c, read))
	}
	said := valid(t, imageRoot+"  user: 0\n  workingDir: /\n  stop: {signal: TERM}\n  args: [x]\n")
	if s := said.Spec; s.User != "0" || s.WorkingDir != "/" || s.Stop.Signal != "TERM" || s.Command != nil {
		t.Errorf("got %+v", s)
	}
	doc := parseOne(t, imageRoot)
	if at := doc.Root; at == nil || at.Line != 5 || at.Column != 19 || at.Path != "spec.rootfs.image" {
		t.Errorf("its position is %+v", at)
	}
}

func TestImageManifest(t *testing.T) {
	const text = `apiVersion: stead/v1
kind: Image
metadata: {name: debian-12}
spec:
  hosts: [web-1]
  source: {registry: docker.io/library/debian:12}
`
	doc := Parser{Host: "web-1"}.Parse("debian.yaml", []byte(text))[0]
	if m := doc.Image; m == nil || doc.Container != nil || m.Metadata.Name != "debian-12" || m.Spec.Source.Text() != "docker.io/library/debian:12" || doc.Elsewhere || doc.Name != "debian-12" {
		t.Fatalf("got %+v", doc)
	}
	if doc := (Parser{Host: "db"}).Parse("debian.yaml", []byte(text))[0]; !doc.Elsewhere {
		t.Error("it is for every host")
	}
	for _, row := range []struct{ old, new, want string }{
		{"{registry: docker.io/library/debian:12}", "{}", "debian.yaml:6:3: spec.source: found 0 of registry, directory, archive and layout, want exactly one of them"},
		{"{registry:", "{directory: /srv, registry:", "debian.yaml:6:3: spec.source: found 2 of registry, directory, archive and layout, want exactly one of them"},
		{"docker.io/library/debian:12", "debian:12", `debian.yaml:6:22: spec.source.registry: found "debian:12": want the whole reference: docker.io/library/debian:12; the name of a local image holds no ":" and no "/"`},
		{"docker.io/library/debian:12", "debian", `debian.yaml:6:22: spec.source.registry: found "debian": want a complete reference such as docker.io/library/debian:12`},
		{"registry: docker.io/library/debian:12", "archive: x.tar", `debian.yaml:6:21: spec.source.archive: found "x.tar", want an absolute path`},
		{"  hosts:", "  digest: sha256:1\n  hosts:", `debian.yaml:5:11: spec.digest: found "sha256:1": want sha256: and 64 hexadecimal digits`},
		{"  source: {registry: docker.io/library/debian:12}\n", "  source: {directory: /srv/debian}\n  digest: sha256:" + strings.Repeat("0", 64) + "\n", `debian.yaml:7:11: spec.digest: a directory has no digest; leave it out, or make an archive of the directory`},
		{"  hosts:", "  command: [x]\n  hosts:", `debian.yaml:5:3: spec.command: unknown field; known here: hosts, source, digest`},
		{"  source: {registry: docker.io/library/debian:12}\n", "", `debian.yaml:4:1: spec.source: missing; want a map of fields (registry, directory, archive, layout)`},
	} {
		doc := Parser{}.Parse("debian.yaml", []byte(strings.Replace(text, row.old, row.new, 1)))[0]
		var got []string
		for _, e := range doc.Errors {
			got = append(got, e.Error())
		}
		if all := strings.Join(got, "|"); all != row.want || doc.Image != nil {
			t.Errorf("got  %s\nwant %s", all, row.want)
		}
	}
}
