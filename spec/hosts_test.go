package spec

import (
	"strings"
	"testing"
)

func TestMatchHost(t *testing.T) {
	for _, test := range []struct {
		patterns string // with spaces between them
		host     string
		want     bool
	}{
		{"", "web-1", true},
		{"web-1", "web-1", true},
		{"web-1", "web-1.example.com", true},
		{"web-1", "web-10", false},
		{"web-*", "web-10", true},
		{"web-*", "db-1", false},
		{"web-* db-?", "db-1", true},
		{"db-[0-4]", "db-3", true},
		{"db-[0-4]", "db-7", false},
		{"web-* !web-9", "web-9", false},
		{"!web-9 web-*", "web-9", false},
		{"!web-9 web-*", "web-8", true},
		{"!web-9", "db-1", true},
		{"!web-9", "web-9.example.com", false},
		{"*.example.com", "web-1.example.com", true},
		{"*.example.com", "web-1.example.org", false},
		{"*.example.com", "web-1", false}, // its domain is not known
		{"!*.example.com", "web-1.example.com", false},
		{"WEB-*", "Web-1", true},
	} {
		if got := MatchHost(strings.Fields(test.patterns), test.host); got != test.want {
			t.Errorf("%q on %s: %v, want %v", test.patterns, test.host, got, test.want)
		}
	}
}

func TestHosts(t *testing.T) {
	parse := func(host, line string) Document {
		return Parser{Host: host}.Parse("web.yaml", []byte(head+minimal+"  "+line+"\n"))[0]
	}
	if d := parse("web-1.example.com", `hosts: ["web-*"]`); d.Elsewhere || d.Container == nil || d.Container.Spec.Hostname != "web" {
		t.Errorf("for this host: %+v", d)
	}
	if d := parse("db-1", `hosts: ["web-*"]`); !d.Elsewhere || d.Container == nil || d.Errors != nil {
		t.Errorf("for another host: %+v", d)
	}
	if d := parse("web-1.example.com", "env: {H: '${stead.host}'}"); d.Container.Spec.Env["H"] != "web-1" {
		t.Errorf("${stead.host}: %+v", d.Container.Spec.Env)
	}
	for line, want := range map[string]string{
		"hosts: []":                  "web.yaml:8:3: spec.hosts: found an empty list, want at least one pattern; for every host remove the line\n",
		"hosts: [!web-9]":            "web.yaml:8: not valid YAML: did not find expected ',' or ']'; quote a text that begins with !\n",
		"hosts: [web-1, 'web-[']":    "web.yaml:8:18: spec.hosts[1]: found \"web-[\", want a host's name or a pattern such as web-*, db-[0-9] or !web-9\n",
		"hosts: ['!', 'a b', a/b]":   "web.yaml:8:11: spec.hosts[0]: found \"!\", want a host's name or a pattern such as web-*, db-[0-9] or !web-9\nweb.yaml:8:16: spec.hosts[1]: found \"a b\", want a host's name or a pattern such as web-*, db-[0-9] or !web-9\nweb.yaml:8:23: spec.hosts[2]: found \"a/b\", want a host's name or a pattern such as web-*, db-[0-9] or !web-9\n",
		"hosts: [db-1]\n  usr: nope": "web.yaml:9:3: spec.usr: unknown field; did you mean user?\n", // checked on every host
	} {
		if got := printErrors(parse("web-1", line).Errors); got != want {
			t.Errorf("%s:\ngot  %swant %s", line, got, want)
		}
	}
}
