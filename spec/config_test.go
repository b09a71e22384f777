package spec

import (
	"reflect"
	"testing"
	"time"
)

const configHead = "apiVersion: stead/v1\nkind: Config\n"

func parseConfig(text string) (*Config, []*Error) {
	return ParseConfig("config.yaml", []byte(text), func(name string) bool { return name == "deploy" })
}

func TestConfig(t *testing.T) {
	got, errs := parseConfig(configHead + `manifests: [/srv/a, /srv/b]
hostName: web-1.example.com
settle: 0
retention: 90d
trustedOwners: [deploy, 1001]
ids: {first: 1000000, count: 655360}
registries: {docker.io: {mirrors: [mirror.example.com/docker], mirrorsOnly: true}, "localhost:5000": {insecure: true}}
`)
	none, long := Duration(0), Duration(90*24*time.Hour)
	want := &Config{
		APIVersion: APIVersion, Kind: ConfigKind, Manifests: []string{"/srv/a", "/srv/b"}, HostName: "web-1.example.com",
		Settle: &none, Retention: &long, TrustedOwners: []Text{"deploy", "1001"}, IDs: &IDs{First: 1000000, Count: 655360},
		Registries: map[string]Registry{"docker.io": {Mirrors: []string{"mirror.example.com/docker"}, MirrorsOnly: true}, "localhost:5000": {Insecure: true}},
	}
	if errs != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v\n%s", got, want, printErrors(errs))
	}
	if got, errs = parseConfig(configHead); errs != nil || got.Settle != nil || got.Manifests != nil {
		t.Errorf("got %+v\n%s", got, printErrors(errs))
	}
}

func TestConfigErrors(t *testing.T) {
	for _, test := range []struct{ summary, text, want string }{
		{"empty", "", "config.yaml:1: is empty or has only comments; delete it if it is not needed\n"},
		{"a manifest", head + minimal, "config.yaml:2:7: kind: found \"Container\", want Config\n" +
			"config.yaml:3:1: metadata: unknown field; known here: apiVersion, kind, manifests, hostName, settle, retention, trustedOwners, ids, registries\nconfig.yaml:4:1: spec: unknown field; known here: apiVersion, kind, manifests, hostName, settle, retention, trustedOwners, ids, registries\n"},
		{"nothing but {}", "{}", "config.yaml:1:1: apiVersion: missing; want stead/v1\nconfig.yaml:1:1: kind: missing; want Config\n"},
		{"a typing mistake", configHead + "retension: 30d\n", "config.yaml:3:1: retension: unknown field; did you mean retention?\n"},
		{"what manifests have is no hint here", configHead + "image: x\n", "config.yaml:3:1: image: unknown field; known here: apiVersion, kind, manifests, hostName, settle, retention, trustedOwners, ids, registries\n"},
		{"what is not served yet", configHead + "logs:\n", "config.yaml:3:1: logs: not supported yet; until then: logs in a drop-in for all: container.d/logs.yaml\n"},
		{"ids", configHead + "ids: {first: 65535, count: 4294967295}\n", "config.yaml:3:14: ids.first: found 65535, want 65536 to 4294901759\nconfig.yaml:3:28: ids.count: found 4294967295, want 65536 to 4294901759\n"},
		{"half of the ids", configHead + "ids: {count: 1}\n", "config.yaml:3:1: ids.first: missing; want a whole number\nconfig.yaml:3:14: ids.count: found 1, want 65536 to 4294901759\n"},
		{"registries", configHead + "registries: {Docker: {}, example.com: {insecure: true, mirrorsOnly: true}, 127.0.0.1: {insecure: true}, docker.io: {mirrors: [\"https://x.example.com\"]}}\n", "config.yaml:3:1: registries[Docker]: found \"Docker\", want the host of a registry, such as docker.io or localhost:5000\n" +
			"config.yaml:3:50: registries[example.com].insecure: found true, want it for localhost or 127.0.0.1 only: nobody else can be trusted without encryption\n" +
			"config.yaml:3:69: registries[example.com].mirrorsOnly: found true, want at least one mirror\n" +
			"config.yaml:3:127: registries[docker.io].mirrors[0]: found \"https://x.example.com\", want a host, perhaps with a port and a path, such as mirror.example.com/docker\n"},
		{"one directory as text", configHead + "manifests: /srv\n", "config.yaml:3:12: manifests: found \"/srv\", want a list such as [a, b]; write [/srv]\n"},
		{"directories", configHead + "manifests: [srv, /srv/, /a, /a, \"\"]\n", "config.yaml:3:13: manifests[0]: found \"srv\", want an absolute path\n" +
			"config.yaml:3:18: manifests[1]: found \"/srv/\", want it written as \"/srv\"\n" +
			"config.yaml:3:29: manifests[3]: \"/a\" is listed twice\n" +
			"config.yaml:3:33: manifests[4]: found \"\", want an absolute path\n"},
		{"no directory", configHead + "manifests: []\n", "config.yaml:3:1: manifests: found an empty list, want at least one directory; for the default directories remove the line\n"},
		{"a host", configHead + "hostName: a_b\n", "config.yaml:3:11: hostName: found \"a_b\": want at most 64 letters, digits and '-', in parts separated by '.'\n"},
		{"times", configHead + "settle: 5\nretention: 0\n", "config.yaml:3:9: settle: found 5: a unit is missing; want a duration such as 10s, 1m30s or 2d: 5s?\n" +
			"config.yaml:4:12: retention: found 0, want more than 0: the data of removed containers is always kept for some time\n"},
		{"owners", configHead + "trustedOwners: [nobdy, 4294967295, \"\"]\n", "config.yaml:3:17: trustedOwners[0]: found \"nobdy\", want a user of this host, by name or id\n" +
			"config.yaml:3:24: trustedOwners[1]: found \"4294967295\", want an id from 0 to 4294967294\n" +
			"config.yaml:3:36: trustedOwners[2]: found \"\", want a user of this host, by name or id\n"},
		{"no YAML", configHead + "manifests: [\n", "config.yaml:3: not valid YAML: did not find expected node content\n"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			c, errs := parseConfig(test.text)
			if got := printErrors(errs); got != test.want || c != nil {
				t.Errorf("got\n%swant\n%s", got, test.want)
			}
		})
	}
}
