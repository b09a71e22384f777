package spec

import (
	"strings"
	"testing"
)

// An alias means what its anchor stands for, however it is written.
func TestAliases(t *testing.T) {
	plain := strings.Replace(head+minimal, "command: [sh]", `command: [sh, -c, "sleep 1"]
  env: {A: one, B: one}
  mounts:
    /a: {source: /srv, readOnly: true}
    /b: {source: /srv, readOnly: true}
  ulimits: {nofile: 100, core: 100}`, 1)
	aliased := strings.Replace(head+minimal, "command: [sh]", `command: &c [sh, -c, &s "sleep 1"]
  env: &e {A: &one one, B: *one}
  mounts:
    /a: &srv {source: /srv, readOnly: true}
    /b: *srv
  ulimits: {nofile: &n 100, core: *n}`, 1)
	want, got := Parser{}.Parse("web.yaml", []byte(plain))[0], Parser{}.Parse("web.yaml", []byte(aliased))[0]
	if printErrors(got.Errors) != "" || got.Container == nil || got.Fingerprint != want.Fingerprint {
		t.Errorf("got %v\n%s, want %v", got.Fingerprint, printErrors(got.Errors), want.Fingerprint)
	}
	over := ParseFragment("1.yaml", []byte("spec:\n  env: {C: &x 'y', D: *x}\n"))
	doc := Parser{}.ParseWith("web.yaml", []byte(aliased), func(string) []*Fragment { return []*Fragment{over} })[0]
	if env := doc.Container.Spec.Env; len(env) != 4 || env["B"] != "one" || env["D"] != "y" {
		t.Errorf("with a drop-in: %v", env)
	}
}

func TestAliasErrors(t *testing.T) {
	bomb := "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
	for c := 'b'; c <= 'i'; c++ {
		bomb += strings.Replace("X: &X ["+strings.Repeat("*Y, ", 9)+"*Y]\n", "X", string(c), 2)
		bomb = strings.ReplaceAll(bomb, "Y", string(c-1))
	}
	const tooMany = "the aliases of this document stand for more than 10000 values; write some of them out\n"
	for _, test := range []struct{ summary, text, want string }{
		{"a bomb", bomb, "web.yaml:4:36: " + tooMany},
		{"many of one", "a: &a x\nb: [" + strings.Repeat("*a, ", maxAliasNodes) + "*a]\n", "web.yaml:2:40005: " + tooMany},
		{"within itself", "a: &a\n  b: [*a]\n", "web.yaml:2:7: the anchor (&a) contains itself\n"},
		{"within another", "a: &a {b: &b [x, *a]}\n", "web.yaml:1:18: the anchor (&a) contains itself\n"},
		{"an error in what it stands for", strings.Replace(head+minimal, "[sh]", "[&s sh]\n  stop: &s {timeout: -1}\n  user: *s", 1),
			"web.yaml:7:9: spec.user: found a map, want text or a number\nweb.yaml:7:22: spec.stop.timeout: "},
	} {
		t.Run(test.summary, func(t *testing.T) {
			docs := Parser{}.Parse("web.yaml", []byte(test.text))
			if got := printErrors(docs[0].Errors); len(docs) != 1 || !strings.HasPrefix(got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}
